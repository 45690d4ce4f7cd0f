"""The settings of every app that is written with Django: it has no database and no templates."""

from typing import Any

import django
from django.conf import settings


def configure(app: str, **more: Any) -> None:
    """Set Django up for the module ``app``, which has the URLs."""
    settings.configure(SECRET_KEY="of tests", ALLOWED_HOSTS=["*"], ROOT_URLCONF=app, DATABASES={}, **more)
    django.setup()
