"""The entry point of ``opentelemetry-instrument``. Its body cannot raise: a raising instrumentor stops all others."""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import Any, Final

from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]  # is untyped

from .errors import ConfigError
from .guard import guarded, logger

_AWAITED: Final = (
    "USAGE_BRIDGE waits for the application to set a TracerProvider of OpenTelemetry's SDK: there is none yet. To have "
    "one with no code, install opentelemetry-distro, or set OTEL_PYTHON_TRACER_PROVIDER=sdk_tracer_provider."
)


class UsageInstrumentor(BaseInstrumentor):  # type: ignore[misc]  # as above
    """Switches usage on where ``USAGE_TELEMETRY=1`` is set. Where it is not, nothing further is even imported."""

    def instrumentation_dependencies(self) -> Collection[str]:
        """None: each hook waits for its own library."""
        return ()

    @guarded(None)
    def _instrument(self, **kwargs: Any) -> None:
        if os.environ.get("USAGE_TELEMETRY") != "1":
            return
        from .instrumentation.tracing import awaited
        from .pipeline import instrument

        try:
            instrument()
        except ConfigError as error:
            logger.error("usage is off: %s", error)
        if awaited():
            logger.warning(_AWAITED)

    @guarded(None)
    def _uninstrument(self, **kwargs: Any) -> None:
        from .pipeline import uninstrument

        uninstrument()
