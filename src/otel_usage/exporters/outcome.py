"""What became of an export attempt, told apart as far as delivery has to act differently."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult


@dataclass(frozen=True, slots=True)
class Accepted:
    """The sink has them, but for ``rejected`` ones that it will never take."""

    rejected: int = 0
    message: str = ""
    """The sink's own words about what it rejected. Empty: none."""


@dataclass(frozen=True, slots=True)
class RetryLater:
    """The sink is well and asks for patience (429)."""

    after: float
    """Seconds to wait."""


@dataclass(frozen=True, slots=True)
class TooLarge:
    """The sink would take fewer at a time (413)."""


@dataclass(frozen=True, slots=True)
class BadData:
    """The sink refuses something in the batch for good (400, 422)."""

    status: int


@dataclass(frozen=True, slots=True)
class Unencodable:
    """Something in the batch cannot be written as OTLP: nothing was sent."""


@dataclass(frozen=True, slots=True)
class Misconfigured:
    """The sink refuses everything until a setting is changed (401, 403, 404 and kin)."""

    status: int
    advice: str
    """What to change, for the log."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The sink could not be reached, did not answer in time, or answered with an error or nonsense."""

    why: str
    """A short word for the log, such as ``timeout`` or ``http_503``."""


@dataclass(frozen=True, slots=True)
class Discarded:
    """Nothing was sent, and nothing ever will be: there is nowhere to send it."""

    reason: str
    """The reason that the spans are counted as dropped under."""


Outcome = Accepted | RetryLater | TooLarge | BadData | Unencodable | Misconfigured | Failed | Discarded


class UsageExporter(SpanExporter):
    """An exporter that says what happened. To the SDK it is an ordinary one."""

    @abstractmethod
    def deliver(self, spans: Sequence[ReadableSpan]) -> Outcome:
        """Make one attempt to send ``spans``. Never raises."""

    def after_fork(self) -> None:
        """Called in a forked child: connections and threads are the parent's, and must not be used."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        success = isinstance(self.deliver(spans), Accepted)
        return SpanExportResult.SUCCESS if success else SpanExportResult.FAILURE

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing is kept here, so there is nothing to flush."""
        return True


class ForeignExporter(UsageExporter):
    """Any exporter of the SDK's contract, which says no more than success or failure."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter

    def deliver(self, spans: Sequence[ReadableSpan]) -> Outcome:
        try:
            with suppress_instrumentation():  # its own calls are nobody's upstream calls, and must make no spans
                result = self._exporter.export(spans)
        except Exception as error:  # someone else's code; its failure is an outcome
            return Failed(type(error).__qualname__)
        return Accepted() if result is SpanExportResult.SUCCESS else Failed("exporter_failure")

    def shutdown(self) -> None:
        self._exporter.shutdown()


class NowhereExporter(UsageExporter):
    """Stands where no sink is configured: everything is counted as dropped, for one reason."""

    def __init__(self, reason: str) -> None:
        self._outcome = Discarded(reason)

    def deliver(self, spans: Sequence[ReadableSpan]) -> Outcome:
        return self._outcome

    def shutdown(self) -> None:
        return
