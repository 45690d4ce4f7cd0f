"""Libraries that nothing here observes, and what to do about it: `otel-usage check` names those that are installed."""

from __future__ import annotations

from typing import Final

_OWN_SERVER: Final = "it has a server of its own that is not known here"
_OWN_CLIENT: Final = "it is not known here: `with usage.upstream(…)` around a call makes one span of it, without bytes"
_DATABASE: Final = (
    "not hooked: `usage.UsageBridgeProcessor` makes usage of the spans of its OpenTelemetry instrumentation"
)
_JOBS: Final = "it is not known here: `with usage.usage_span(…)` in a job, and `usage.identify(…)`, make usage of it"

UNOBSERVED: Final = {
    "tornado": _OWN_SERVER,
    "robyn": _OWN_SERVER,
    "twisted": _OWN_SERVER,
    "pycurl": _OWN_CLIENT,
    "curl_cffi": _OWN_CLIENT,
    "httplib2": _OWN_CLIENT,
    "treq": _OWN_CLIENT,
    "pyreqwest": _OWN_CLIENT,
    "asyncpg": _DATABASE,
    "psycopg": _DATABASE,
    "psycopg2": _DATABASE,
    "pymongo": _DATABASE,
    "pymysql": _DATABASE,
    "redis": _DATABASE,
    "sqlalchemy": _DATABASE,
    "huey": _JOBS,
    "procrastinate": _JOBS,
    "taskiq": _JOBS,
}
"""By the distribution's name on the package index."""
