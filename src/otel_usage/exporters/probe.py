"""One span that is nobody's usage, sent the way that usage goes, to see what becomes of it."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind

from ..ids import new_ids
from ..payload import EncodedPayload
from ..readable import SCOPE, span_context
from ..schema import RecordKind
from .otlp_http import Answer, OtlpHttpExporter, read_answer
from .outcome import Failed, Outcome, UsageExporter

CHECK_SPAN: Final = "otel-usage check"
"""Its name, by which it is told apart: the recipe `health` leaves it out, and no other counts a record of its kind that
has no customer, no quantity and no event."""


@dataclass(frozen=True, slots=True)
class Probed:
    """What became of it."""

    trace_id: str
    outcome: Outcome
    milliseconds: float
    answer: Answer | None = None
    """What was answered over HTTP. None: nothing, or it went another way."""
    error: Exception | None = None
    """Why nothing was answered."""
    late: bool = False
    """Whether it was given up, because an attempt takes no longer."""

    clock_ahead: float | None = None
    """Seconds that this machine's clock is ahead of the sink's; below 0: behind. None: the sink does not say."""


def check_span(resource: Resource) -> ReadableSpan:
    """The span: a `custom` record without a customer, which began and ended now."""
    trace_id, span_id = new_ids()
    now = time.time_ns()
    return ReadableSpan(
        CHECK_SPAN,
        span_context(trace_id, span_id),
        resource=resource,
        attributes={"usage.kind": RecordKind.CUSTOM.value},
        kind=SpanKind.INTERNAL,
        start_time=now,
        end_time=now,
        instrumentation_scope=SCOPE,
    )


def probe(exporter: UsageExporter, span: ReadableSpan) -> Probed:
    """Make one attempt to send it, which takes no longer than any other. Never raises."""
    payload = exporter.prepare([span]).payload
    context = span.get_span_context()
    assert payload is not None  # one of its own making can be encoded
    assert context is not None
    trace_id, started = f"{context.trace_id:032x}", time.perf_counter()
    given_up = threading.Event()

    def give_up() -> None:
        given_up.set()
        exporter.abort()

    timer = threading.Timer(exporter.timeout or 0.0, give_up)
    if exporter.timeout is not None:
        timer.start()
    answer, error = None, None
    try:
        if isinstance(exporter, OtlpHttpExporter) and isinstance(payload, EncodedPayload):
            answer = exporter.exchange(payload.body)
            outcome = read_answer(*answer)
        else:
            outcome = exporter.deliver(payload)
    except Exception as raised:  # the network's, TLS's, urllib3's: the caller tells them apart
        outcome, error = Failed(type(raised).__name__), raised
    finally:
        timer.cancel()
    took = (time.perf_counter() - started) * 1000
    ahead = _clock_ahead(answer) if answer is not None else None
    return Probed(trace_id, outcome, took, answer, error, given_up.is_set() and answer is None, ahead)


def _clock_ahead(answer: Answer) -> float | None:
    """By the header ``Date`` (RFC 9110), which has whole seconds."""
    try:
        there = parsedate_to_datetime(answer.headers.get("Date") or "")
    except ValueError:
        return None
    return time.time() - there.replace(tzinfo=there.tzinfo or UTC).timestamp()
