"""Django and django-ratelimit: one limit that refuses, and a stricter one that only watches.

    PYTHONPATH=examples opentelemetry-instrument gunicorn limiters.with_django_ratelimit:app

The settings are Django's own: the counts are in the cache of this process. With more than one, name a cache that they
share.
"""

from __future__ import annotations

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django_ratelimit.core import is_ratelimited
from django_ratelimit.decorators import ratelimit
from django_ratelimit.exceptions import Ratelimited

import otel_usage as usage

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"])


def refused(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Every limit of django-ratelimit ends here when it is reached, and so does all else that is not permitted."""
    if not isinstance(exception, Ratelimited):
        return HttpResponse(status=403)
    usage.record_limit("per_day", "deny")
    usage.reject("rate_limit_429_endpoint")
    return JsonResponse({"error": "too many requests"}, status=429)


@ratelimit(key="ip", rate="2/d")  # type: ignore[untyped-decorator]  # the library has no types
def quotes(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"ACME": 12.5})


def watched(request: HttpRequest) -> HttpResponse:
    """What would become of the request under a stricter limit. It goes on in any case."""
    if is_ratelimited(request, group="stricter", key="ip", rate="1/d", increment=True):
        usage.record_limit("stricter", "shadow")
    return quotes(request)


urlpatterns = [path("quotes", watched)]
handler403 = refused
app = usage.UsageWSGIMiddleware(get_wsgi_application())
