"""The ledger as OpenTelemetry metrics, for whoever has a ``MeterProvider``: without one, nothing is measured.

Named as the semantic conventions name the SDK's own ("Semantic conventions for OpenTelemetry SDK metrics"), with
``otel_usage`` in the place of ``otel.sdk``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

from ._version import __version__
from .circuit_breaker import BreakerState
from .guard import guarded
from .schema import SCHEMA_URL
from .status import UsageHealth

Measure = Callable[[UsageHealth], Iterable[Observation]]


def _processed(health: UsageHealth) -> Iterator[Observation]:
    ledger = health.ledger
    yield Observation(ledger.accepted + ledger.rejected)
    for reason, count in ledger.dropped.items():
        yield Observation(count, {"error.type": reason})


def _exported(health: UsageHealth) -> Iterator[Observation]:
    yield Observation(health.ledger.accepted)
    yield Observation(health.ledger.rejected, {"error.type": "rejected"})


def _breaker(health: UsageHealth) -> Iterator[Observation]:
    for state in BreakerState:
        yield Observation(int(health.breaker == state), {"otel_usage.breaker.state": state.value})


def _queue_capacity(health: UsageHealth) -> Iterator[Observation]:
    yield Observation(health.queue_capacity)


def _spool_size(health: UsageHealth) -> Iterator[Observation]:
    yield Observation(health.spool_size)


def _attributes_dropped(health: UsageHealth) -> Iterator[Observation]:
    for key, count in health.attributes_dropped.items():
        yield Observation(count, {"otel_usage.attribute.key": key})


def _internal_errors(health: UsageHealth) -> Iterator[Observation]:
    for site, count in health.internal_errors.items():
        yield Observation(count, {"code.function.name": f"otel_usage.{site}"})


def _encoder(name: str) -> Measure:
    """A number of the encoder's."""
    return lambda health: [Observation(getattr(health.encoder, name))] if health.encoder is not None else []


def _column(name: str) -> Measure:
    """A column of the ledger."""
    return lambda health: [Observation(getattr(health.ledger, name))]


_COUNTERS: Final[tuple[tuple[str, str, str, Measure], ...]] = (
    ("span.produced", "{span}", "Usage spans that have ended.", _column("produced")),
    ("span.adopted", "{span}", "Spans of other processes that were settled here.", _column("adopted")),
    ("span.handed_over", "{span}", "Spans that another process took from the spool.", _column("handed_over")),
    ("processor.span.processed", "{span}", "Spans that are done with; error.type: the reason of a drop.", _processed),
    ("exporter.span.exported", "{span}", "Spans that the sink took, or refused for good.", _exported),
    ("allowlist.attribute.dropped", "{attribute}", "Attributes that the allowlist kept here.", _attributes_dropped),
    ("encoder.span.written", "{span}", "Spans put together of what is remembered.", _encoder("written")),
    ("encoder.miss", "{miss}", "Parts of these that were not remembered: two a span at most.", _encoder("misses")),
    ("encoder.span.official", "{span}", "Spans left to OpenTelemetry's own encoder.", _encoder("official")),
    ("internal_error", "{error}", "Errors of otel_usage that were kept from the application.", _internal_errors),
)

_LEVELS: Final[tuple[tuple[str, str, str, Measure], ...]] = (
    ("processor.span.queue.size", "{span}", "Spans in the queue.", _column("queued")),
    ("processor.span.queue.capacity", "{span}", "Spans that the queue takes.", _queue_capacity),
    ("exporter.span.inflight", "{span}", "Spans that are being sent.", _column("in_flight")),
    ("encoder.remembered", "{entry}", "Callers and sets of facts that are remembered.", _encoder("remembered")),
    ("spool.span.count", "{span}", "Spans of this process in the spool.", _column("spooled")),
    ("spool.size", "By", "Bytes in the spool, of all processes that share it.", _spool_size),
    ("breaker.state", "1", "1 for the state that the circuit breaker is in, else 0.", _breaker),
)

_read: Callable[[], UsageHealth] | None = None
_made = False


def expose(read: Callable[[], UsageHealth] | None) -> None:
    """Have the metrics read from here on what ``read`` says. None: nothing. The instruments are made once a process."""
    global _read
    _read = read
    if read is not None:
        _make()


@guarded(None)
def _make() -> None:
    global _made
    if _made:
        return
    _made = True  # first: the API has no way to take an instrument back
    meter = metrics.get_meter("otel_usage", __version__, schema_url=SCHEMA_URL)
    for name, unit, description, measure in _COUNTERS:
        callbacks = [_callback(measure)]
        meter.create_observable_counter(f"otel_usage.{name}", callbacks, unit, description)
    for name, unit, description, measure in _LEVELS:
        callbacks = [_callback(measure)]
        meter.create_observable_up_down_counter(f"otel_usage.{name}", callbacks, unit, description)


def _callback(measure: Measure) -> Callable[[CallbackOptions], Iterable[Observation]]:
    @guarded(())
    def observe(options: CallbackOptions) -> Iterable[Observation]:
        read = _read
        return () if read is None else tuple(measure(read()))

    return observe
