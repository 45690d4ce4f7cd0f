"""What an exporter is to delivery: it prepares payloads, attempts to send them, and says what became of an attempt."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from ..payload import Payload, SpanPayload
from ..readable import Queued, finished
from ..status import EncoderHealth

LONGEST_PATIENCE = 60.0
"""Seconds that a sink's own wish to be left alone is followed at most."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The sink has them, but for ``rejected`` ones that it will never take. Its words about those are not kept: they
    may repeat what it was sent.
    """

    rejected: int = 0


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

    word: str
    """A short word for the log, such as ``http_400``."""


@dataclass(frozen=True, slots=True)
class Misconfigured:
    """The sink refuses everything until a setting is changed (401, 403, 404 and kin)."""

    word: str
    """A short word for the log, such as ``http_401``."""
    advice: str
    """What to change, for the log."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The sink could not be reached, did not answer in time, or answered with an error or nonsense."""

    why: str
    """A short word for the log, such as ``timeout`` or ``http_503``."""
    after: float = 0.0
    """Seconds that the sink asks to be left alone. 0: it does not say."""


@dataclass(frozen=True, slots=True)
class Discarded:
    """Nothing was sent, and nothing ever will be: there is nowhere to send it."""

    reason: str
    """The reason that the spans are counted as dropped under."""


Outcome = Accepted | RetryLater | TooLarge | BadData | Misconfigured | Failed | Discarded

Settling = Accepted | TooLarge | BadData | Discarded
"""The outcomes after which nothing is left to be tried again, except in smaller parts."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A batch of spans as payload."""

    payload: Payload | None
    """None: there is nothing to send."""
    unencodable: int = 0
    """Spans of the batch that cannot be written as OTLP."""


class UsageExporter(SpanExporter):
    """An exporter that says what happened. To the SDK it is an ordinary one."""

    timeout: float | None
    """Seconds that an attempt may take. None: it has a bound of its own."""

    durable: bool = True
    """Whether its payloads are bytes, which can be kept on disk."""

    @abstractmethod
    def prepare(self, spans: Sequence[Queued]) -> Prepared:
        """Make spans into what is sent. Never raises."""

    @abstractmethod
    def deliver(self, payload: Payload) -> Outcome:
        """Make one attempt to send a payload that :meth:`prepare` or an earlier process has made."""

    def abort(self) -> None:
        """Break the attempt that another thread is making, if that can be done."""

    @property
    def encoder_health(self) -> EncoderHealth | None:
        """How well its encoder does. None: it has none."""
        return None

    def after_fork(self) -> None:
        """Called in a forked child: connections and threads are the parent's, and must not be used."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        payload = self.prepare(spans).payload
        success = payload is None or isinstance(self.deliver(payload), Accepted)
        return SpanExportResult.SUCCESS if success else SpanExportResult.FAILURE

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing is kept here, so there is nothing to flush."""
        return True


class _PlainExporter(UsageExporter):
    """One that takes spans as they are."""

    durable = False

    def prepare(self, spans: Sequence[Queued]) -> Prepared:
        made = [span for recorded in spans if (span := finished(recorded)) is not None]
        return Prepared(SpanPayload(made) if made else None, unencodable=len(spans) - len(made))


class ForeignExporter(_PlainExporter):
    """Any exporter of the SDK's contract, which says no more than success or failure."""

    timeout = None

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter

    def deliver(self, payload: Payload) -> Outcome:
        assert isinstance(payload, SpanPayload)  # of its own making
        try:
            with suppress_instrumentation():  # its own calls are nobody's upstream calls, and must make no spans
                result = self._exporter.export(payload.spans)
        except Exception as error:  # someone else's code; its failure is an outcome
            return Failed(type(error).__qualname__)
        return Accepted() if result is SpanExportResult.SUCCESS else Failed("exporter_failure")

    def shutdown(self) -> None:
        self._exporter.shutdown()


class NowhereExporter(_PlainExporter):
    """Stands where no sink is configured: everything is counted as dropped, for one reason."""

    timeout = None

    def __init__(self, reason: str) -> None:
        self._outcome = Discarded(reason)

    def deliver(self, payload: Payload) -> Outcome:
        return self._outcome

    def shutdown(self) -> None:
        return
