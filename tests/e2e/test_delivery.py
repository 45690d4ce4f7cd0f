"""Every span that ends is delivered, kept or counted, whatever the sink does, and no request waits for it."""

from __future__ import annotations

import base64
import gc
import logging
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.utils import is_instrumentation_enabled
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags

import otel_usage as usage
from otel_usage._version import __version__
from otel_usage.circuit_breaker import BreakerState
from otel_usage.config import UsageConfig
from otel_usage.delivery.attempts import Attempts
from otel_usage.errors import ConfigError
from otel_usage.exporters.otlp_http import OtlpHttpExporter, read_answer
from otel_usage.exporters.outcome import (
    Accepted,
    BadData,
    Failed,
    Misconfigured,
    NowhereExporter,
    Outcome,
    Prepared,
    RetryLater,
    TooLarge,
    UsageExporter,
)
from otel_usage.ledger import LedgerSnapshot
from otel_usage.payload import Payload, SpanPayload
from otel_usage.pipeline import Pipeline
from otel_usage.processors.allowlist import AllowlistSpanProcessor
from otel_usage.processors.circuit_breaking import CircuitBreakingSpanProcessor
from otel_usage.testing import (
    AxiomStub,
    Fault,
    Garbage,
    Hang,
    PartialSuccess,
    Poison,
    RateLimited,
    Refuse,
    Reset,
    SlowDrip,
    Status,
)
from tests.conftest import TOKEN
from tests.servers import listening

HEADERS = {"Authorization": f"Bearer {TOKEN}", "X-Axiom-Dataset": "api_usage"}
RESOURCE = Resource({"service.name": "gateway"})
IDS = RandomIdGenerator()
LONG = 3600.0


class Clock:
    """A clock that a test moves by hand. Seconds."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def span(name: str = "work", **attributes: Any) -> ReadableSpan:
    return ReadableSpan(
        name,
        context=SpanContext(IDS.generate_trace_id(), IDS.generate_span_id(), False, TraceFlags(1)),
        resource=RESOURCE,
        attributes=attributes,
        kind=SpanKind.SERVER,
        start_time=1_790_000_000_000_000_000,
        end_time=1_790_000_000_500_000_000,
    )


def end(processor: CircuitBreakingSpanProcessor, *names: str) -> None:
    for name in names:
        processor.on_end(span(name))


def numbered(count: int, start: int = 0) -> list[str]:
    return [f"s{number:04d}" for number in range(start, start + count)]


def http_exporter(stub: AxiomStub, timeout: float = 0.4) -> OtlpHttpExporter:
    return OtlpHttpExporter(stub.endpoint, HEADERS, timeout)


def attempts(exporter: UsageExporter) -> Attempts:
    return Attempts(exporter, meanwhile=lambda: None, until=lambda: math.inf)


def send_one(exporter: UsageExporter) -> Outcome:
    payload = exporter.prepare([span()]).payload
    assert payload is not None
    return exporter.deliver(payload)


@contextmanager
def delivering(exporter: SpanExporter, **settings: Any) -> Iterator[CircuitBreakingSpanProcessor]:
    """A processor that sends only when it is asked to, shut down at the end with no thread left."""
    before = set(threading.enumerate())
    processor = CircuitBreakingSpanProcessor(exporter, **{"schedule_delay": LONG, "shutdown_timeout": 0.3, **settings})
    try:
        yield processor
    finally:
        processor.shutdown()
    assert processor.ledger().balanced
    eventually(lambda: not [t for t in set(threading.enumerate()) - before if t.name.startswith("otel-usage-w")])
    eventually(lambda: not [t for t in set(threading.enumerate()) - before if t.name.startswith("otel-usage-p")])


def eventually(condition: Callable[[], object], timeout: float = 5.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        threading.Event().wait(0.002)


@contextmanager
def watched(processor: CircuitBreakingSpanProcessor) -> Iterator[list[LedgerSnapshot]]:
    """Looks at the ledger all the time from another thread; yields what did not balance."""
    wrong: list[LedgerSnapshot] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.0005):
            seen = processor.ledger()
            if not seen.balanced or min(seen.queued, seen.in_flight, seen.accepted, seen.rejected) < 0:
                wrong.append(seen)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield wrong
    finally:
        over.set()
        thread.join()


def logged(caplog: pytest.LogCaptureFixture, level: int = logging.DEBUG) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "otel_usage" and record.levelno >= level]


# -- what is on the wire -----------------------------------------------------------------------------------------------


def test_a_request_has_exactly_our_headers_whatever_the_environment_says(
    stub: AxiomStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"):
        monkeypatch.setenv(variable, "x-other-vendor=their-key,authorization=Bearer%20theirs")
    with delivering(http_exporter(stub)) as processor:
        end(processor, "a")
        assert processor.force_flush(5000)
    (request,) = stub.requests
    assert request.headers.pop("content-length")
    assert request.headers == {
        "host": f"127.0.0.1:{stub.port}",
        "accept-encoding": "identity",
        "content-type": "application/x-protobuf",
        "content-encoding": "gzip",
        "user-agent": f"otel-usage/{__version__}",
        "authorization": f"Bearer {TOKEN}",
        "x-axiom-dataset": "api_usage",
    }


def test_all_spans_arrive_once_in_order_over_one_connection_in_batches(stub: AxiomStub) -> None:
    names = numbered(250)
    with delivering(http_exporter(stub, 5.0), batch_size=100, schedule_delay=0.01) as processor:
        end(processor, *names)
        assert processor.force_flush(5000)
        assert processor.ledger().accepted == 250
    assert [received.name for received in stub.spans] == names
    assert len({received.key for received in stub.spans}) == 250
    assert all(request.spans <= 100 for request in stub.requests)
    assert {received.resource_attributes["service.name"] for received in stub.spans} == {"gateway"}


def test_a_body_is_gzip_and_smaller_than_what_it_holds(stub: AxiomStub) -> None:
    with delivering(http_exporter(stub)) as processor:
        end(processor, *["the same long name again and again"] * 200)
        assert processor.force_flush(5000)
    assert stub.requests[0].size < 200 * len("the same long name again and again")


def test_a_full_batch_goes_without_waiting_for_the_schedule(stub: AxiomStub) -> None:
    with delivering(http_exporter(stub), batch_size=10) as processor:
        end(processor, *numbered(10))
        stub.wait_for(10)


# -- what the sink says ------------------------------------------------------------------------------------------------


def test_a_partial_success_is_read_and_the_rejected_are_counted(
    stub: AxiomStub, caplog: pytest.LogCaptureFixture
) -> None:
    stub.fail_with(PartialSuccess(3, "field too long\nby far"), times=1)
    with delivering(http_exporter(stub)) as processor:
        end(processor, *numbered(10))
        assert processor.force_flush(5000)
        ledger = processor.ledger()
    assert (ledger.accepted, ledger.rejected) == (7, 3)
    assert logged(caplog, logging.WARNING) == ["the sink rejected 3 of 10 spans"]


def test_a_sink_that_rejects_more_than_it_got_does_not_unbalance_the_ledger(stub: AxiomStub) -> None:
    stub.fail_with(PartialSuccess(99), times=1)
    with delivering(http_exporter(stub)) as processor:
        end(processor, "a", "b")
        assert processor.force_flush(5000)
        assert processor.ledger().rejected == 2


def test_a_413_is_split_in_halves_until_it_fits(stub: AxiomStub) -> None:
    names = numbered(100)
    with AxiomStub(TOKEN, max_spans=30) as small, delivering(http_exporter(small, 5.0)) as processor:
        end(processor, *names)
        with watched(processor) as wrong:
            assert processor.force_flush(5000)
        assert not wrong
        assert processor.ledger().accepted == 100
        assert [received.name for received in small.spans] == names
        assert [request.status for request in small.requests] == [413, 413, 200, 200, 413, 200, 200]


def test_a_single_span_that_is_too_large_is_dropped_and_counted(stub: AxiomStub) -> None:
    stub.fail_with(Status(413))
    with delivering(http_exporter(stub, 5.0)) as processor:
        end(processor, *numbered(5))
        assert processor.force_flush(5000)
        assert processor.ledger().dropped == {"too_large": 5}
        assert processor.breaker_state is BreakerState.CLOSED


@pytest.mark.parametrize("guilty", [{"s0000"}, {"s0063"}, {"s0017", "s0018", "s0040"}])
def test_a_400_is_bisected_to_the_span_at_fault_and_all_others_arrive(stub: AxiomStub, guilty: set[str]) -> None:
    stub.fail_with(Poison(lambda received: received.name in guilty))
    names = numbered(64)
    with delivering(http_exporter(stub, 5.0)) as processor:
        end(processor, *names)
        with watched(processor) as wrong:
            assert processor.force_flush(5000)
        assert not wrong
        ledger = processor.ledger()
        assert (ledger.accepted, ledger.rejected) == (64 - len(guilty), len(guilty))
        assert processor.hindrance is None
    assert [received.name for received in stub.spans] == [name for name in names if name not in guilty]
    assert len(stub.requests) <= 1 + 2 * 6 * len(guilty)


def test_a_sink_that_refuses_everything_is_not_asked_about_each_span(
    stub: AxiomStub, caplog: pytest.LogCaptureFixture
) -> None:
    stub.fail_with(Status(400))
    with delivering(http_exporter(stub, 5.0)) as processor:
        for _ in range(3):
            end(processor, *numbered(512))
            processor.force_flush(5000)
        assert processor.ledger().rejected == 3 * 512
        assert processor.hindrance == "http_400"
        assert len(stub.requests) < 3 * 40
        assert len(logged(caplog, logging.WARNING)) == 1
        stub.heal()
        end(processor, "well")
        assert processor.force_flush(5000)
        assert processor.hindrance is None
    assert [received.name for received in stub.spans] == ["well"]


@pytest.mark.parametrize(
    "attributes",
    [
        {"kind": "no such kind"},
        {"context": SpanContext(1 << 130, 1, False, TraceFlags(1))},
        {"end_time": -1},
    ],
    ids=["kind", "ids", "time"],
)
def test_a_span_that_cannot_be_encoded_is_counted_and_never_blocks_what_is_beside_it(
    stub: AxiomStub, attributes: dict[str, Any]
) -> None:
    good = span("good")
    made = {"name": "bad", "context": good.context, "resource": RESOURCE, "start_time": 1, "end_time": 2, **attributes}
    with delivering(http_exporter(stub)) as processor:
        end(processor, "before")
        processor.on_end(ReadableSpan(**made))
        end(processor, "after")
        assert processor.force_flush(5000)
        ledger = processor.ledger()
    assert (ledger.accepted, ledger.dropped) == (2, {"unencodable": 1})
    assert [received.name for received in stub.spans] == ["before", "after"]


@pytest.mark.parametrize(
    ("status", "advice"),
    [(401, "AXIOM_API_TOKEN"), (403, "AXIOM_DATASET"), (404, "USAGE_OTLP_ENDPOINT"), (405, "OTLP")],
)
def test_a_refusal_says_once_what_to_fix_keeps_the_spans_and_asks_again_each_minute(
    stub: AxiomStub, caplog: pytest.LogCaptureFixture, status: int, advice: str
) -> None:
    clock = Clock()
    stub.fail_with(Status(status))
    with delivering(http_exporter(stub), clock=clock) as processor:
        end(processor, *numbered(3))
        for minute in range(1, 8):
            assert not processor.force_flush(5000)
            assert len(stub.requests) == minute
            clock.now += 59.9
            assert not processor.force_flush(5000)
            assert len(stub.requests) == minute
            clock.now += 0.1
        (error,) = logged(caplog, logging.ERROR)
        assert f"http_{status}" in error
        assert advice in error
        assert processor.hindrance == f"http_{status}"
        assert processor.breaker_state is BreakerState.CLOSED
        assert processor.ledger().spooled == 3
        stub.heal()
        assert processor.force_flush(5000)
        assert processor.hindrance is None
    assert [received.name for received in stub.spans] == numbered(3)


def test_the_stubs_own_refusals_are_understood(stub: AxiomStub, caplog: pytest.LogCaptureFixture) -> None:
    wrong = [{**HEADERS, "Authorization": "Bearer xaat-other-token"}, {**HEADERS, "X-Axiom-Dataset": "unknown"}]
    for headers, hindrance in zip(wrong, ("http_401", "http_404"), strict=True):
        with delivering(OtlpHttpExporter(stub.endpoint, headers, 2.0)) as processor:
            end(processor, "a")
            assert not processor.force_flush(5000)
            assert processor.hindrance == hindrance
    assert "xaat" not in caplog.text


def test_a_429_waits_as_long_as_the_sink_asks_and_then_delivers(stub: AxiomStub) -> None:
    clock = Clock()
    stub.fail_with(RateLimited(reset_seconds=20), times=1)
    with delivering(http_exporter(stub), clock=clock) as processor:
        end(processor, *numbered(4))
        assert not processor.force_flush(5000)
        assert processor.hindrance == "rate_limited"
        clock.now += 15
        end(processor, "late")
        assert not processor.force_flush(5000)
        assert len(stub.requests) == 1
        clock.now += 10
        assert processor.force_flush(5000)
    assert [received.name for received in stub.spans] == [*numbered(4), "late"]


def test_a_503_with_a_wish_for_patience_is_a_failure_and_patience(stub: AxiomStub) -> None:
    clock = Clock()
    stub.fail_with(Status(503, {"Retry-After": "20"}), times=1)
    with delivering(http_exporter(stub), clock=clock) as processor:
        end(processor, "a")
        assert not processor.force_flush(5000)
        clock.now += 19.9
        assert not processor.force_flush(5000)
        assert (processor.hindrance, len(stub.requests)) == ("http_503", 1)
        clock.now += 0.1
        assert processor.force_flush(5000)


def test_a_429_is_no_failure_however_often_it_comes(stub: AxiomStub) -> None:
    clock = Clock()
    stub.fail_with(RateLimited())
    with delivering(http_exporter(stub), clock=clock) as processor:
        end(processor, "a")
        for _ in range(10):
            assert not processor.force_flush(5000)
            clock.now += 61
        assert processor.breaker_state is BreakerState.CLOSED
        assert len(stub.requests) == 10


FAULTS: dict[str, tuple[Fault | Refuse, str]] = {
    "500": (Status(500), "http_500"),
    "503": (Status(503), "http_503"),
    "408": (Status(408), "http_408"),
    "302": (Status(302, {"Location": "/elsewhere"}), "http_302"),
    "307": (Status(307, {"Location": "/v1/traces"}), "http_307"),
    "login page": (Status(200, {"Content-Type": "text/html"}, b"<html>please log in</html>"), "unreadable_answer"),
    "bad protobuf": (Status(200, {"Content-Type": "application/x-protobuf"}, b"\xff\xff\xff"), "unreadable_answer"),
    "bad json": (Status(200, {"Content-Type": "application/json"}, b"{"), "unreadable_answer"),
    "bad gzip": (Status(200, {"Content-Encoding": "gzip"}, b"not gzip"), "DecodeError"),
    "garbage": (Garbage(), "ProtocolError"),
    "closed": (Garbage(b""), "ProtocolError"),
    "reset": (Reset(), "ProtocolError"),
    "reset in the body": (Reset(after_bytes=60), "ProtocolError"),
    "refused": (Refuse(), "NewConnectionError"),
    "hang": (Hang(60), "timeout"),
    "slow drip": (SlowDrip(0.05), "timeout"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_a_failure_that_keeps_the_spans_in_order_until_the_sink_is_back(
    stub: AxiomStub, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    caplog.set_level(logging.DEBUG)
    kind, hindrance = FAULTS[fault]
    clock = Clock()
    first, later = numbered(6), numbered(6, 6)
    with delivering(http_exporter(stub), clock=clock) as processor, watched(processor) as wrong:
        end(processor, *first)
        stub.fail_with(kind)
        assert not processor.force_flush(5000)
        assert processor.hindrance == hindrance
        assert processor.ledger() == LedgerSnapshot(produced=6, spooled=6)
        end(processor, *later)
        assert not processor.force_flush(5000)
        assert processor.ledger() == LedgerSnapshot(produced=12, spooled=12)
        stub.heal()
        assert processor.force_flush(5000)
        assert processor.ledger() == LedgerSnapshot(produced=12, accepted=12)
        assert processor.hindrance is None
    assert not wrong
    assert [received.name for received in stub.unique_spans] == [*first, *later]
    if not isinstance(kind, SlowDrip):  # which takes the spans and fails to say so: that is at least once
        assert len(stub.spans) == 12
    assert TOKEN not in caplog.text


@pytest.mark.parametrize("fault", [Hang(60), SlowDrip(0.1)], ids=["hang", "slow drip"])
def test_an_attempt_ends_at_its_deadline_whatever_the_sink_does(stub: AxiomStub, fault: Fault) -> None:
    exporter = http_exporter(stub, 0.3)
    runner = attempts(exporter)
    payload = exporter.prepare([span()]).payload
    assert payload is not None
    try:
        stub.fail_with(fault)
        for _ in range(3):  # the next attempt is not late because of the one before
            started = time.monotonic()
            assert runner.make(payload) == Failed("timeout")
            assert time.monotonic() - started < 0.9
        stub.heal()
        assert runner.make(payload) == Accepted()
    finally:
        exporter.shutdown()
        runner.stop(5.0)


@contextmanager
def a_black_hole() -> Iterator[str]:
    """The URL of an address that answers no connection: its listener's queue is full, and is never emptied."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = []
        try:
            for _ in range(8):
                filler = socket.socket()
                filler.setblocking(False)
                filler.connect_ex(listener.getsockname())
                fillers.append(filler)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            for filler in fillers:
                filler.close()


@contextmanager
def a_stalled_handshake() -> Iterator[str]:
    """The URL of a server that accepts connections and never says a word of TLS."""
    with listening() as listener:
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize("somewhere", [a_black_hole, a_stalled_handshake])
def test_an_attempt_ends_at_its_deadline_before_anything_was_sent(
    somewhere: Callable[[], AbstractContextManager[str]],
) -> None:
    with somewhere() as url:
        exporter = OtlpHttpExporter(f"{url}/v1/traces", {}, 0.3)
        runner = attempts(exporter)
        payload = exporter.prepare([span()]).payload
        assert payload is not None
        try:
            for _ in range(3):
                started = time.monotonic()
                assert runner.make(payload) == Failed("timeout")
                assert time.monotonic() - started < 0.9
        finally:
            exporter.shutdown()
            runner.stop(5.0)


def test_an_attempt_ends_at_its_deadline_while_a_resolver_takes_its_time(
    stub: AxiomStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve, slow = socket.getaddrinfo, threading.Event()

    def slowly(*args: Any, **kwargs: Any) -> Any:
        slow.wait(10)  # a call into the system's resolver, which nothing can interrupt
        return resolve(*args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", slowly)
    exporter = OtlpHttpExporter(stub.endpoint.replace("127.0.0.1", "localhost"), HEADERS, 0.3)
    with delivering(exporter) as processor:
        end(processor, "a")
        started = time.monotonic()
        assert not processor.force_flush(5000)
        end(processor, "b")
        assert not processor.force_flush(5000)
        assert time.monotonic() - started < 2.0
        assert processor.hindrance == "timeout"
        slow.set()
        assert processor.force_flush(5000)
        assert processor.ledger().accepted == 2
    assert sorted(one.name for one in stub.unique_spans) == ["a", "b"]


def test_an_exporter_that_was_shut_down_sends_nothing_and_starts_no_thread(stub: AxiomStub) -> None:
    before = threading.active_count()
    exporter = http_exporter(stub)
    assert send_one(exporter) == Accepted()
    exporter.shutdown()
    assert isinstance(send_one(exporter), Failed)
    assert len(stub.requests) == 1
    eventually(lambda: threading.active_count() <= before + 1)  # the stub's own connection


@pytest.mark.parametrize(
    ("status", "headers", "body", "outcome"),
    [
        (200, {}, b"", Accepted()),
        (202, {"Content-Type": "application/json"}, b"{}", Accepted()),
        (200, {"Content-Type": "Application/JSON; charset=utf-8"}, b'{"partialSuccess": null}', Accepted()),
        (
            200,
            {"Content-Type": "application/json"},
            b'{"partialSuccess": {"rejectedSpans": "2", "errorMessage": "no"}}',
            Accepted(2),
        ),
        (200, {"Content-Type": "application/json"}, b"[]", Failed("unreadable_answer")),
        (200, {"Content-Type": "application/json"}, b"[" * 100_000, Failed("unreadable_answer")),
        (
            200,
            {"Content-Type": "application/json"},
            b'{"partialSuccess": {"rejectedSpans": Infinity}}',
            Failed("unreadable_answer"),
        ),
        (200, {}, b"OK", Failed("unreadable_answer")),
        (400, {}, b"", BadData("http_400")),
        (422, {}, b"", BadData("http_422")),
        (413, {}, b"", TooLarge()),
        (429, {}, b"", RetryLater(1.0)),
        (429, {"Retry-After": "7"}, b"", RetryLater(7.0)),
        (429, {"Retry-After": "0"}, b"", RetryLater(1.0)),
        (429, {"Retry-After": "86400"}, b"", RetryLater(60.0)),
        (429, {"Retry-After": "9" * 5000}, b"", RetryLater(1.0)),
        (429, {"Retry-After": "²"}, b"", RetryLater(1.0)),
        (429, {"Retry-After": "soon"}, b"", RetryLater(1.0)),
        (429, {"Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT"}, b"", RetryLater(1.0)),
        (429, {"Retry-After": "Fri, 31 Dec 2999 23:59:59 GMT"}, b"", RetryLater(60.0)),
        (429, {"X-RateLimit-Reset": "4102444800"}, b"", RetryLater(60.0)),
        (503, {"Retry-After": "7"}, b"", Failed("http_503", 7.0)),
        (503, {"Retry-After": "86400"}, b"", Failed("http_503", 60.0)),
        (501, {"Retry-After": "7"}, b"", Failed("http_501")),
        (304, {}, b"", Failed("http_304")),
    ],
)
def test_an_answer_means_what_the_specifications_say(
    status: int, headers: dict[str, str], body: bytes, outcome: Outcome
) -> None:
    assert read_answer(status, headers, body) == outcome


def test_a_refusal_of_any_other_kind_has_advice_too() -> None:
    for status in (401, 402, 403, 404, 405, 407, 411, 415, 451):
        outcome = read_answer(status, {}, b"")
        assert isinstance(outcome, Misconfigured)
        assert outcome.advice.endswith(".")


# -- the breaker -------------------------------------------------------------------------------------------------------


def test_the_breaker_opens_probes_and_closes_and_says_so_once_each(
    stub: AxiomStub, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    clock = Clock()
    stub.fail_with(Status(503))
    with delivering(http_exporter(stub), clock=clock) as processor, watched(processor) as wrong:
        end(processor, *numbered(3))
        for attempt in range(1, 6):
            assert processor.breaker_state is BreakerState.CLOSED
            assert not processor.force_flush(5000)
            assert len(stub.requests) == attempt
        assert processor.breaker_state is BreakerState.OPEN
        for delay in (5, 10, 20, 40, 60, 60):
            clock.now += delay - 0.1
            assert not processor.force_flush(5000)
            before = len(stub.requests)
            clock.now += 0.1
            assert not processor.force_flush(5000)
            assert len(stub.requests) == before + 1  # one probe, and no more
            assert not processor.force_flush(5000)
            assert len(stub.requests) == before + 1
        (error,) = logged(caplog, logging.ERROR)
        assert "http_503" in error
        stub.heal()
        clock.now += 60
        assert processor.force_flush(5000)
        assert processor.breaker_state is BreakerState.CLOSED
        assert processor.ledger().accepted == 3
    assert not wrong
    (info,) = (message for message in logged(caplog) if "takes usage again" in message)
    assert info


def test_a_probe_is_one_batch(stub: AxiomStub) -> None:
    clock = Clock()
    stub.fail_with(Status(503))
    with delivering(http_exporter(stub), clock=clock, batch_size=10) as processor:
        end(processor, *numbered(50))
        for _ in range(5):
            processor.force_flush(5000)
        clock.now += 5
        stub.clear()
        assert not processor.force_flush(5000)
        assert len(stub.requests) == 1
        assert processor.ledger().spooled == 50


@pytest.mark.parametrize("answer", [RateLimited(), Status(401), Status(400), Status(413)], ids=repr)
def test_a_sink_that_answers_a_probe_is_alive(stub: AxiomStub, answer: Fault) -> None:
    clock = Clock()
    stub.fail_with(Status(503))
    with delivering(http_exporter(stub), clock=clock) as processor:
        end(processor, "a")
        for _ in range(5):
            processor.force_flush(5000)
        assert processor.breaker_state is BreakerState.OPEN
        stub.fail_with(answer)
        clock.now += 5
        processor.force_flush(5000)
        assert processor.breaker_state is BreakerState.CLOSED


class Plain(UsageExporter):
    """An exporter of one's own that takes spans as they are."""

    timeout = None
    durable = False

    def prepare(self, spans: Sequence[ReadableSpan]) -> Prepared:
        return Prepared(SpanPayload(spans))

    def shutdown(self) -> None:
        return


def names_in(payload: Payload) -> list[str]:
    assert isinstance(payload, SpanPayload)
    return [one.name for one in payload.spans]


class Scripted(Plain):
    """Answers as it is told. An exception is raised."""

    def __init__(self, *answers: Outcome | Exception) -> None:
        self.answers = list(answers)
        self.batches: list[list[str]] = []

    def deliver(self, payload: Payload) -> Outcome:
        self.batches.append(names_in(payload))
        answer = self.answers.pop(0) if self.answers else Accepted()
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_an_exporter_that_breaks_its_promise_and_raises_loses_nothing() -> None:
    exporter = Scripted(RuntimeError("out of the blue"), KeyError("again"))
    with delivering(exporter) as processor, watched(processor) as wrong:
        end(processor, *numbered(3))
        for _ in range(2):
            assert not processor.force_flush(5000)
            assert processor.ledger() == LedgerSnapshot(produced=3, spooled=3)
        assert processor.force_flush(5000)
        assert not wrong
    assert exporter.batches == [numbered(3)] * 3


def test_a_failure_in_the_middle_of_a_split_puts_back_only_what_was_not_taken_in_order() -> None:
    exporter = Scripted(TooLarge(), Accepted(), Failed("down"))
    with delivering(exporter) as processor:
        end(processor, *numbered(4))
        assert not processor.force_flush(5000)
        end(processor, "s0004")
        assert processor.ledger() == LedgerSnapshot(produced=5, accepted=2, queued=1, spooled=2)
        assert processor.force_flush(5000)
    assert exporter.batches == [numbered(4), numbered(2), numbered(2, 2), numbered(2, 2), ["s0004"]]


class Furious(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise RuntimeError("a logging handler that raises")


@pytest.mark.parametrize(
    "first", [BadData("http_400"), Accepted(1), Misconfigured("http_401", "Fix it."), RetryLater(0.0)]
)
def test_a_logging_handler_that_raises_loses_no_span(first: Outcome) -> None:
    handler = Furious()
    clock = Clock()
    logging.getLogger("otel_usage").addHandler(handler)
    try:
        with delivering(Scripted(first), clock=clock) as processor, watched(processor) as wrong:
            end(processor, "a")
            processor.force_flush(5000)
            clock.now += 60
            end(processor, "b")
            eventually(lambda: processor.force_flush(5000))
            ledger = processor.ledger()
            assert ledger.accepted + ledger.rejected == 2
            assert not wrong
    finally:
        logging.getLogger("otel_usage").removeHandler(handler)


# -- bounds ------------------------------------------------------------------------------------------------------------


def test_a_full_queue_drops_the_newest_and_counts_them(stub: AxiomStub, caplog: pytest.LogCaptureFixture) -> None:
    stub.fail_with(Status(503))
    with delivering(http_exporter(stub), queue_size=10, batch_size=4) as processor, watched(processor) as wrong:
        end(processor, *numbered(30))
        assert not processor.force_flush(5000)
        ledger = processor.ledger()
        assert (ledger.spooled, ledger.dropped) == (10, {"queue_full": 20})
        stub.heal()
        assert processor.force_flush(5000)
        assert not wrong
    assert [received.name for received in stub.spans] == numbered(10)
    assert logged(caplog, logging.WARNING) == ["usage was dropped, in all: 20 queue_full"]


class Gate(Plain):
    """Holds each attempt until the test opens it."""

    def __init__(self, answer: Outcome | None = None) -> None:
        self.answer = answer or Accepted()
        self.entered, self.opened = threading.Event(), threading.Event()
        self.delivered: list[str] = []

    def deliver(self, payload: Payload) -> Outcome:
        self.entered.set()
        assert self.opened.wait(10)
        if isinstance(self.answer, Accepted):
            self.delivered += names_in(payload)
        return self.answer

    def shutdown(self) -> None:
        self.opened.set()


def test_spans_end_without_touching_the_sink_while_an_attempt_is_stuck() -> None:
    gate = Gate()
    with delivering(gate, batch_size=2) as processor:
        end(processor, "a", "b")
        assert gate.entered.wait(5)
        # The worker is stuck in the sink; this thread goes through a thousand ends, and reads the ledger, all the same.
        end(processor, *numbered(1000))
        assert processor.ledger() == LedgerSnapshot(produced=1002, queued=1000, in_flight=2)
        gate.opened.set()
        assert processor.force_flush(5000)
    assert gate.delivered == ["a", "b", *numbered(1000)]


def test_where_no_more_can_be_kept_the_oldest_give_way() -> None:
    gate = Gate(Failed("down"))
    with delivering(gate, queue_size=4, batch_size=2) as processor:
        end(processor, "a", "b")
        assert gate.entered.wait(5)
        end(processor, "c", "d", "e", "f")
        gate.opened.set()
        eventually(lambda: processor.ledger().in_flight == 0)
        processor.force_flush(5000)
        assert processor.ledger() == LedgerSnapshot(produced=6, dropped={"spool_full": 2}, spooled=4)
        gate.answer = Accepted()
        assert processor.force_flush(5000)
    assert gate.delivered == ["c", "d", "e", "f"]


def test_a_flush_returns_in_time_while_the_sink_hangs() -> None:
    gate = Gate()
    with delivering(gate) as processor:
        end(processor, "a")
        started = time.monotonic()
        assert not processor.force_flush(50)
        assert time.monotonic() - started < 1.0
        assert processor.ledger().in_flight == 1
        gate.opened.set()


def test_a_flush_of_nothing_is_done_at_once_and_needs_no_thread() -> None:
    with delivering(Scripted()) as processor:
        before = threading.active_count()
        assert processor.force_flush(0)
        assert threading.active_count() == before


def test_shutdown_is_bounded_while_the_sink_hangs_and_counts_what_is_left(stub: AxiomStub) -> None:
    stub.fail_with(Hang(60))
    processor = CircuitBreakingSpanProcessor(
        http_exporter(stub, 30.0), schedule_delay=LONG, shutdown_timeout=0.2, batch_size=10
    )
    end(processor, *numbered(25))
    with watched(processor) as wrong:
        started = time.monotonic()
        processor.shutdown()
        assert time.monotonic() - started < 1.5
    assert not wrong
    assert processor.ledger() == LedgerSnapshot(produced=25, dropped={"shutdown": 25})
    eventually(
        lambda: not [t for t in threading.enumerate() if t.name.startswith(("otel-usage-worker", "otel-usage-p"))]
    )
    assert processor.ledger() == LedgerSnapshot(produced=25, dropped={"shutdown": 25})


def test_nothing_is_sent_any_more_once_shutdown_has_counted_it_as_lost() -> None:
    gate = Gate(TooLarge())
    processor = CircuitBreakingSpanProcessor(gate, schedule_delay=LONG, shutdown_timeout=0.05)
    end(processor, *numbered(8))
    processor.force_flush(50)
    worker = next(thread for thread in threading.enumerate() if thread.name == "otel-usage-worker")
    gate.opened.clear()
    processor.shutdown()  # the first attempt is still stuck, and ends as too large afterwards
    gate.answer = Accepted()
    worker.join(5)
    assert not worker.is_alive()
    assert gate.delivered == []
    assert processor.ledger() == LedgerSnapshot(produced=8, dropped={"shutdown": 8})


def test_shutdown_delivers_what_waits_and_a_second_one_does_nothing(stub: AxiomStub) -> None:
    processor = CircuitBreakingSpanProcessor(http_exporter(stub), schedule_delay=LONG)
    end(processor, *numbered(3))
    processor.shutdown()
    processor.shutdown()
    assert processor.force_flush(100)
    end(processor, "late")
    assert processor.ledger() == LedgerSnapshot(produced=4, accepted=3, dropped={"shutdown": 1})
    assert len(stub.spans) == 3


def test_an_exporter_whose_shutdown_raises_does_not_disturb_the_end_of_the_application() -> None:
    class Rude(InMemorySpanExporter):
        def shutdown(self) -> None:
            raise OSError("not like this")

    processor = CircuitBreakingSpanProcessor(Rude())
    end(processor, "a")
    processor.shutdown()
    assert processor.ledger().accepted == 1


def test_many_threads_lose_and_double_nothing(stub: AxiomStub) -> None:
    with delivering(http_exporter(stub, 5.0), schedule_delay=0.001, batch_size=50) as processor:
        stub.fail_with(Status(503), times=2)
        threads = [threading.Thread(target=end, args=(processor, *numbered(100, n * 100))) for n in range(8)]
        with watched(processor) as wrong:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            eventually(lambda: processor.force_flush(5000))
        assert not wrong
    assert sorted(received.name for received in stub.spans) == numbered(800)


# -- re-entrancy -------------------------------------------------------------------------------------------------------


class EndsWhenCollected:
    """A thing in a cycle, whose finalizer ends a span: only the garbage collector calls it."""

    def __init__(self, processor: CircuitBreakingSpanProcessor) -> None:
        self.me = self
        self.processor = processor

    def __del__(self) -> None:
        end(self.processor, "collected")


def test_spans_that_end_inside_the_end_of_another_do_not_deadlock() -> None:
    with delivering(Scripted(), batch_size=1, schedule_delay=0.001) as processor:
        before = gc.get_threshold()
        gc.set_threshold(1)  # a collection at almost every allocation, in the worker and under each lock
        try:
            for _ in range(300):
                EndsWhenCollected(processor)
                end(processor, "ended")
                processor.force_flush(0)
        finally:
            gc.set_threshold(*before)
        gc.collect()
        assert processor.force_flush(5000)
        assert processor.ledger().accepted == 600


class Interrupting(int):
    """A queue size that ends another span each time it is compared, which is while the lock is held."""

    processor: CircuitBreakingSpanProcessor | None = None

    def __le__(self, other: int) -> bool:
        processor, self.processor = self.processor, None
        if processor is not None:
            end(processor, "inner")
        return int(self) <= other


def test_a_span_that_ends_while_the_lock_is_held_does_not_deadlock() -> None:
    exporter, size = Scripted(), Interrupting(100)
    with delivering(exporter, queue_size=size) as processor:
        size.processor = processor
        end(processor, "outer")
        assert processor.force_flush(5000)
        assert processor.ledger() == LedgerSnapshot(produced=2, accepted=2)
    assert exporter.batches == [["inner", "outer"]]


def test_a_span_that_ends_in_a_signal_handler_does_not_deadlock() -> None:
    handled, over = 0, threading.Event()

    def interrupt() -> None:
        while not over.wait(0.0001):
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    with delivering(Scripted(), batch_size=1, schedule_delay=0.001, queue_size=1 << 20) as processor:

        def handle(*_: object) -> None:
            nonlocal handled
            handled += 1
            end(processor, "from the handler")

        before = signal.signal(signal.SIGUSR1, handle)
        interrupter = threading.Thread(target=interrupt)
        interrupter.start()
        try:
            while handled < 200:
                end(processor, "ended")
                for _ in range(10):  # with an empty queue, the handler's span wakes the worker as the flush does
                    processor.force_flush(0)
        finally:
            over.set()
            interrupter.join()
            signal.signal(signal.SIGUSR1, before)
        assert processor.force_flush(5000)
        ledger = processor.ledger()
        assert ledger.produced == ledger.accepted > 200


# -- other exporters and providers -------------------------------------------------------------------------------------


def test_any_exporter_of_the_sdk_will_do() -> None:
    exporter = InMemorySpanExporter()
    with delivering(exporter) as processor:
        end(processor, *numbered(3))
        assert processor.force_flush(5000)
        assert [one.name for one in exporter.get_finished_spans()] == numbered(3)


def test_the_official_exporter_delivers_and_its_failures_are_failures(stub: AxiomStub) -> None:
    official = OTLPSpanExporter(stub.endpoint, headers=HEADERS, timeout=1)
    with delivering(official) as processor:
        end(processor, "a")
        assert processor.force_flush(5000)
        stub.fail_with(Status(400), times=1)
        end(processor, "b")
        assert not processor.force_flush(5000)
        assert processor.hindrance == "exporter_failure"
        assert processor.force_flush(5000)
    assert [received.name for received in stub.spans] == ["a", "b"]


def test_an_exporters_own_calls_are_not_instrumented() -> None:
    seen: list[bool] = []

    class Curious(InMemorySpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            seen.append(is_instrumentation_enabled())
            return super().export(spans)

    with delivering(Curious()) as processor:
        end(processor, "a")
        assert processor.force_flush(5000)
    assert seen == [False]


def test_both_processors_ship_the_server_and_client_spans_of_a_provider_of_ones_own(stub: AxiomStub) -> None:
    delivery = CircuitBreakingSpanProcessor(http_exporter(stub), schedule_delay=LONG)
    provider = TracerProvider(resource=Resource.create({"service.name": "shop", "host.name": "secret-host"}))
    provider.add_span_processor(AllowlistSpanProcessor(delivery))
    tracer = provider.get_tracer("opentelemetry.instrumentation.asgi", "1", attributes={"internal": "scope"})
    with tracer.start_as_current_span("GET /users/17", kind=SpanKind.SERVER) as server:
        server.set_attributes({"http.method": "GET", "http.route": "/users/{id}", "http.status_code": 200})
        server.set_attributes({"http.target": "/users/17?token=s3cret", "http.host": "api.example.com:8443"})
        with tracer.start_as_current_span("inner"):
            pass
        with tracer.start_as_current_span("POST", kind=SpanKind.CLIENT) as client:
            client.set_attributes({"http.request.method": "POST", "server.address": "api.openai.com"})
    assert provider.force_flush(5000)
    provider.shutdown()
    by_kind = {received.kind: received for received in stub.spans}
    assert by_kind.keys() == {"server", "client"}
    assert by_kind["client"].parent_span_id == by_kind["server"].span_id
    assert by_kind["client"].trace_id == by_kind["server"].trace_id
    assert by_kind["server"].name == "GET /users/{id}"
    assert by_kind["server"].attributes == {
        "usage.kind": "request",
        "http.request.method": "GET",
        "http.route": "/users/{id}",
        "http.response.status_code": 200,
        "server.address": "api.example.com",
    }
    assert by_kind["client"].name == "POST api.openai.com"
    assert by_kind["server"].resource_attributes["service.name"] == "shop"
    assert "host.name" not in by_kind["server"].resource_attributes
    assert by_kind["server"].scope_name == "otel_usage"


def test_spans_that_a_provider_records_without_sampling_them_are_not_sent(stub: AxiomStub) -> None:
    class RecordOnly(Sampler):
        def should_sample(self, *args: Any, **kwargs: Any) -> SamplingResult:
            return SamplingResult(Decision.RECORD_ONLY)

        def get_description(self) -> str:
            return "record only"

    delivery = CircuitBreakingSpanProcessor(http_exporter(stub), schedule_delay=LONG)
    provider = TracerProvider(sampler=RecordOnly(), resource=RESOURCE)
    provider.add_span_processor(AllowlistSpanProcessor(delivery))
    provider.get_tracer("shop").start_span("GET", kind=SpanKind.SERVER).end()
    assert provider.force_flush(5000)
    provider.shutdown()
    assert delivery.ledger().produced == 0
    assert not stub.requests


# -- where it goes -----------------------------------------------------------------------------------------------------


def test_without_a_token_nothing_goes_to_axiom_and_it_is_counted_and_degraded() -> None:
    pipeline = Pipeline(UsageConfig())
    pipeline.delivery.on_end(span())
    assert pipeline.delivery.force_flush(5000)
    health = pipeline.health()
    assert (health.status, health.hindrance) == ("degraded", "no_token")
    assert health.ledger.dropped == {"no_token": 1}
    assert health.ledger.balanced
    pipeline.delivery.shutdown()
    eventually(lambda: not [t for t in threading.enumerate() if t.name.startswith("otel-usage")])


def test_a_missing_token_is_one_clear_warning(caplog: pytest.LogCaptureFixture) -> None:
    usage.instrument(UsageConfig())
    try:
        for _ in range(3):
            with usage.usage_span("work"):
                pass
        assert usage.flush(5.0).dropped == 3
    finally:
        usage.uninstrument()
    warnings = [message for message in logged(caplog, logging.WARNING) if "AXIOM_API_TOKEN" in message]
    assert len(warnings) == 1
    assert "is not set" in warnings[0]


def test_nowhere_is_an_exporter_like_any_other() -> None:
    exporter = NowhereExporter("no_token")
    assert exporter.export([span()]) is SpanExportResult.FAILURE
    assert exporter.force_flush()


def test_a_sink_on_this_machine_is_reached_past_any_proxy(stub: AxiomStub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")  # where nothing listens
    exporter = http_exporter(stub)
    try:
        assert send_one(exporter) == Accepted()
    finally:
        exporter.shutdown()


@pytest.mark.parametrize("scheme", ["http://", ""])
def test_another_sink_is_reached_through_the_proxy_with_its_login(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    heads: list[bytes] = []

    def answer_one(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            heads.append(connection.recv(65536))
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    with listening() as proxy:
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.setenv("http_proxy", f"{scheme}me:p%40ss@127.0.0.1:{proxy.getsockname()[1]}")
        thread = threading.Thread(target=answer_one, args=(proxy,), daemon=True)
        thread.start()
        exporter = OtlpHttpExporter("http://collector.invalid:4318/v1/traces", {}, 2.0)
        try:
            assert send_one(exporter) == Accepted()
        finally:
            exporter.shutdown()
            thread.join(5)
    assert heads[0].startswith(b"POST http://collector.invalid:4318/v1/traces HTTP/1.1\r\n")
    assert b"authorization: basic " + base64.b64encode(b"me:p@ss").lower() in heads[0].lower()


@pytest.mark.parametrize("proxy", ["socks5://me:hunter2@127.0.0.1:1", "http://[::1"])
def test_a_proxy_that_is_none_is_a_config_error_without_its_login(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("https_proxy", proxy)
    with pytest.raises(ConfigError, match="https_proxy") as raised:
        OtlpHttpExporter("https://collector.invalid/v1/traces", {}, 1.0)
    assert "hunter2" not in str(raised.value)


def test_a_secret_that_the_sink_repeats_does_not_reach_the_log(
    stub: AxiomStub, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    stub.fail_with(PartialSuccess(1, f"rejected: {TOKEN}, of customer acme"))
    with delivering(http_exporter(stub)) as processor:
        end(processor, "a")
        assert processor.force_flush(5000)
    assert "the sink rejected 1 of 1 spans" in caplog.text
    assert TOKEN not in caplog.text
    assert "acme" not in caplog.text


# -- processes ---------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_after_a_fork_parent_and_child_deliver_their_own_exactly_once(stub: AxiomStub) -> None:
    with delivering(http_exporter(stub, 5.0)) as processor:
        end(processor, "warm-up")
        assert processor.force_flush(5000)  # a worker and a connection, neither of which survives a fork
        end(processor, *(f"parent-{n}" for n in range(5)))
        child = os.fork()
        if child == 0:
            status = 1
            try:
                empty = processor.ledger() == LedgerSnapshot()
                end(processor, *(f"child-{n}" for n in range(5)))
                sent = processor.force_flush(5000) and processor.ledger().accepted == 5
                status = 0 if empty and sent else 1
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert processor.ledger().queued == 5
        assert processor.force_flush(5000)
        assert processor.ledger().accepted == 6
    names = [received.name for received in stub.spans]
    assert sorted(names) == sorted(["warm-up", *(f"{who}-{n}" for who in ("child", "parent") for n in range(5))])


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_forked_in_an_outage_starts_closed_and_while_the_lock_is_held_does_not_hang(stub: AxiomStub) -> None:
    clock = Clock()
    with delivering(http_exporter(stub, 5.0), clock=clock) as processor:
        stub.fail_with(Status(503))
        end(processor, "parent")
        for _ in range(5):
            processor.force_flush(5000)
        assert processor.breaker_state is BreakerState.OPEN
        stub.heal()
        over = threading.Event()

        def busy() -> None:
            while not over.is_set():
                processor.ledger()

        threads = [threading.Thread(target=busy) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            for number in range(5):
                child = os.fork()
                if child == 0:
                    status = 1
                    try:
                        signal.alarm(10)
                        end(processor, f"child-{number}")
                        closed = processor.breaker_state is BreakerState.CLOSED
                        status = 0 if processor.force_flush(5000) and closed else 1
                    finally:
                        os._exit(status)
                assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        finally:
            over.set()
            for thread in threads:
                thread.join()
        assert processor.breaker_state is BreakerState.OPEN
    assert [received.name for received in stub.spans] == [f"child-{number}" for number in range(5)]


PROGRAM = """
import otel_usage as usage
from otel_usage.config import UsageConfig
usage.instrument(UsageConfig(otlp_endpoint={url!r}, axiom_token={token!r}))
for n in range(20):
    with usage.usage_span("work"):
        pass
print("done", flush=True)
"""


def run(stub: AxiomStub, tmp_path: Path) -> tuple[float, subprocess.CompletedProcess[str]]:
    """The seconds from the program's last statement to its exit, and how it ended."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(url=stub.url, token=TOKEN))
    with subprocess.Popen(
        [sys.executable, "-W", "error", str(program)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "done\n"
        started = time.monotonic()
        out, err = process.communicate(timeout=30)
        return time.monotonic() - started, subprocess.CompletedProcess([], process.returncode, out, err)


def test_a_short_program_delivers_all_it_has_at_its_exit(stub: AxiomStub, tmp_path: Path) -> None:
    _, ended = run(stub, tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert len(stub.spans) == 20


def test_a_program_exits_within_about_two_seconds_while_the_sink_hangs(stub: AxiomStub, tmp_path: Path) -> None:
    stub.fail_with(Hang(60))
    seconds, ended = run(stub, tmp_path)
    assert ended.returncode == 0
    assert TOKEN not in ended.stdout + ended.stderr
    assert seconds < 4.0
