"""The application's own tracing: a bridge on its ``TracerProvider``, where ``USAGE_BRIDGE`` asks for one.

Under ``opentelemetry-instrument`` the provider is there before anything of ours is. One that the application sets later
is met where it does so, by ``opentelemetry.trace.set_tracer_provider``. The SDK has no way to take a processor off:
ours stays, and does nothing while usage is off.
"""

from __future__ import annotations

from typing import Any, Final
from weakref import WeakSet

from opentelemetry.trace import get_tracer_provider

from ..guard import guarded
from ..runtime import active
from .hooks import Function, Hook

_bridged: Final[WeakSet[Any]] = WeakSet()
"""The providers that have one."""


@guarded(None)
def bridge() -> None:
    """Put a bridge on the provider that the process has by now, if one is wanted and there is none."""
    recorder = active()
    if recorder is None or not recorder.config.bridge:
        return
    provider: Any = get_tracer_provider()
    if hasattr(provider, "add_span_processor") and provider not in _bridged:  # the API's own has no processors
        from ..processors.bridge import ConfiguredBridge  # which most applications do not need

        provider.add_span_processor(ConfiguredBridge())
        _bridged.add(provider)


def awaited() -> bool:
    """Whether a bridge is wanted, and the process has no provider that takes one, so far."""
    recorder = active()
    wanted = recorder is not None and bool(recorder.config.bridge)
    return wanted and not hasattr(get_tracer_provider(), "add_span_processor")


def _layer(original: Function) -> Function:
    def set_tracer_provider(tracer_provider: Any) -> None:
        original(tracer_provider)
        bridge()

    return set_tracer_provider


TESTED: Final = {"opentelemetry-api": "1.45", "opentelemetry-sdk": "1.45"}

HOOKS: Final = (Hook("opentelemetry.trace", "set_tracer_provider", _layer),)
