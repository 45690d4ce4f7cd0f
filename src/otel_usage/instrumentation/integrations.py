"""The one list of what is observed: a library, the file here that knows it, and the modules that file waits for.

A file is imported when one of its library's modules is, never before: an application pays for what it uses. Each has
``HOOKS``, and ``TESTED``, which names the distributions and the versions that its tests run with.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from importlib import import_module
from typing import Final

from .hooks import Hook, HooksOf


class Role(StrEnum):
    """What a library is to its application."""

    SERVER = "server"
    CLIENT = "client"
    GROUND = "ground"
    """What requests and their facts are carried by, whatever the framework."""


@dataclass(frozen=True, slots=True)
class Integration:
    """One library."""

    library: str
    """As its users write it."""
    role: Role
    distribution: str
    """Its name on the package index. Empty: it comes with Python."""
    home: str
    """The file beside this one that knows it."""
    modules: tuple[str, ...]
    """The library's modules that have functions to be hooked. None: it is another one that serves it."""


INTEGRATIONS: Final = (
    Integration("Starlette", Role.SERVER, "starlette", "starlette", ("starlette.applications", "starlette.routing")),
    Integration("FastAPI", Role.SERVER, "fastapi", "starlette", ("fastapi.applications", "fastapi.routing")),
    Integration("Flask", Role.SERVER, "flask", "flask", ("flask.app",)),
    Integration(
        "Django", Role.SERVER, "django", "django",
        tuple(f"django.core.handlers.{each}" for each in ("asgi", "base", "exception", "wsgi")),
    ),
    Integration("Django REST framework", Role.SERVER, "djangorestframework", "django", ()),
    Integration("Django Ninja", Role.SERVER, "django-ninja", "django", ()),
    Integration("Falcon", Role.SERVER, "falcon", "falcon", ("falcon.app", "falcon.asgi.app")),
    Integration("httpx", Role.CLIENT, "httpx", "httpx", ("httpx",)),
    Integration("httpx2", Role.CLIENT, "httpx2", "httpx", ("httpx2",)),
    Integration("threads", Role.GROUND, "", "threads", ("threading", "concurrent.futures.thread")),
    Integration("a2wsgi", Role.GROUND, "a2wsgi", "bridges", ("a2wsgi.wsgi",)),
    Integration("asgiref", Role.GROUND, "asgiref", "bridges", ("asgiref.wsgi",)),
    Integration("Starlette's bridge to WSGI", Role.GROUND, "starlette", "bridges", ("starlette.middleware.wsgi",)),
    Integration("uvicorn's bridge to WSGI", Role.GROUND, "uvicorn", "bridges", ("uvicorn.middleware.wsgi",)),
    Integration("uvicorn", Role.GROUND, "uvicorn", "peers", ("uvicorn.middleware.proxy_headers",)),
    Integration("waitress", Role.GROUND, "waitress", "peers", ("waitress.proxy_headers",)),
    Integration("werkzeug", Role.GROUND, "werkzeug", "peers", ("werkzeug.middleware.proxy_fix",)),
    Integration("uvicorn's applications", Role.GROUND, "uvicorn", "entries", ("uvicorn.config", "uvicorn.server")),
    Integration("Hypercorn's applications", Role.GROUND, "hypercorn", "entries", ("hypercorn.app_wrappers",)),
    Integration("Granian's applications", Role.GROUND, "granian", "entries", ("granian.asgi", "granian.wsgi")),
    Integration(
        "Gunicorn's applications", Role.GROUND, "gunicorn", "entries",
        tuple(f"gunicorn.workers.{each}" for each in ("gasgi", "ggevent", "gthread", "sync")),
    ),
    Integration("waitress's applications", Role.GROUND, "waitress", "entries", ("waitress.server",)),
    Integration("werkzeug's applications", Role.GROUND, "werkzeug", "entries", ("werkzeug.serving",)),
    Integration("wsgiref's applications", Role.GROUND, "", "entries", ("wsgiref.simple_server",)),
)  # fmt: skip


def waiting(integrations: Iterable[Integration] = INTEGRATIONS) -> Mapping[str, HooksOf]:
    """Every module that is waited for, with what makes its hooks."""
    return {module: partial(hooks_in, each.home, module) for each in integrations for module in each.modules}


def hooks_in(home: str, module: str) -> tuple[Hook, ...]:
    """The hooks of the file ``home`` that belong into ``module``."""
    return tuple(hook for hook in import_module(f"{__package__}.{home}").HOOKS if hook.module == module)
