"""API usage telemetry on OpenTelemetry: who called what, how they were authenticated, what it cost, how it was served.

Names are loaded when they are first used, so that a process in which usage is off pays for nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from ._version import __version__

if TYPE_CHECKING:
    from .attempt import upstream
    from .config import UsageConfig
    from .customer_map import read_customer_map
    from .errors import ConfigError, CustomerMapError, UsageError
    from .identity import UsageIdentity
    from .instrumentation.asgi import UsageMiddleware
    from .instrumentation.wsgi import UsageWSGIMiddleware
    from .keyed_hash import KeyedHash
    from .model_calls import model_call
    from .pipeline import flush, health, instrument, uninstrument
    from .processors.allowlist import AllowlistSpanProcessor
    from .processors.bridge import UsageBridgeProcessor
    from .processors.circuit_breaking import CircuitBreakingSpanProcessor
    from .recording import annotate, identify, meter, record_cache, record_limit, record_llm, reject
    from .resolver import Credentials, IdentityResolver
    from .span import UsageSpan, metered, usage_span
    from .status import FlushReport, UsageHealth

__all__ = [
    "AllowlistSpanProcessor",
    "CircuitBreakingSpanProcessor",
    "ConfigError",
    "Credentials",
    "CustomerMapError",
    "FlushReport",
    "IdentityResolver",
    "KeyedHash",
    "UsageBridgeProcessor",
    "UsageConfig",
    "UsageError",
    "UsageHealth",
    "UsageIdentity",
    "UsageMiddleware",
    "UsageSpan",
    "UsageWSGIMiddleware",
    "__version__",
    "annotate",
    "flush",
    "health",
    "identify",
    "instrument",
    "meter",
    "metered",
    "model_call",
    "read_customer_map",
    "record_cache",
    "record_limit",
    "record_llm",
    "reject",
    "uninstrument",
    "upstream",
    "usage_span",
]

_HOMES = {
    "config": ("UsageConfig",),
    "customer_map": ("read_customer_map",),
    "errors": ("ConfigError", "CustomerMapError", "UsageError"),
    "status": ("FlushReport", "UsageHealth"),
    "identity": ("UsageIdentity",),
    "keyed_hash": ("KeyedHash",),
    "resolver": ("Credentials", "IdentityResolver"),
    "instrumentation.asgi": ("UsageMiddleware",),
    "instrumentation.wsgi": ("UsageWSGIMiddleware",),
    "model_calls": ("model_call",),
    "pipeline": ("flush", "health", "instrument", "uninstrument"),
    "processors.allowlist": ("AllowlistSpanProcessor",),
    "processors.bridge": ("UsageBridgeProcessor",),
    "processors.circuit_breaking": ("CircuitBreakingSpanProcessor",),
    "recording": ("annotate", "identify", "meter", "record_cache", "record_limit", "record_llm", "reject"),
    "span": ("UsageSpan", "metered", "usage_span"),
    "attempt": ("upstream",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
