"""OTLP over gRPC, against a real gRPC server: our metadata and nothing else, within the deadline."""

from __future__ import annotations

import inspect
import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, TraceFlags

import otel_usage as usage
from otel_usage._version import __version__
from otel_usage.config import OtlpProtocol, UsageConfig
from otel_usage.exporters.otlp_grpc import OtlpGrpcExporter
from otel_usage.exporters.outcome import Accepted, BadData, Failed, Misconfigured, Outcome, RetryLater
from otel_usage.processors.circuit_breaking import CircuitBreakingSpanProcessor
from tests.conftest import TOKEN
from tests.servers import listening

METADATA = {"Authorization": f"Bearer {TOKEN}", "X-Axiom-Dataset": "api_usage"}


class Sink(TraceServiceServicer):
    """Keeps what arrives. Answers with ``status`` where one is set, and hangs while ``hang`` is set."""

    def __init__(self) -> None:
        self.calls: list[tuple[dict[str, str], ExportTraceServiceRequest]] = []
        self.status: grpc.StatusCode | None = None
        self.hang = False
        self.answer = ExportTraceServiceResponse()
        self.trailers: tuple[tuple[str, bytes], ...] = ()
        self.closing = threading.Event()

    def Export(self, request: ExportTraceServiceRequest, context: Any) -> ExportTraceServiceResponse:
        self.calls.append((dict(context.invocation_metadata()), request))
        if self.hang:
            self.closing.wait(30)
        if self.status is not None:
            context.set_trailing_metadata(self.trailers)
            context.abort(self.status, "on demand")
        return self.answer

    @property
    def names(self) -> list[str]:
        return [
            span.name
            for _, request in self.calls
            for resource_spans in request.resource_spans
            for scope_spans in resource_spans.scope_spans
            for span in scope_spans.spans
        ]


class Server:
    """A gRPC server on a free port of loopback, which it keeps when it is started again."""

    def __init__(self, most_bytes: int = 1 << 22) -> None:
        self.sink = Sink()
        self.port = 0
        self._options = [("grpc.max_receive_message_length", most_bytes)]
        self.start()

    def start(self) -> None:
        pool = ThreadPoolExecutor(4, thread_name_prefix="test-grpc")
        self._server = grpc.server(pool, options=self._options)
        add_TraceServiceServicer_to_server(self.sink, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        self._server.start()

    def stop(self) -> None:
        self.sink.closing.set()
        assert self._server.stop(None).wait(5)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.stop()


@pytest.mark.parametrize("variable", ["http_proxy", "https_proxy", "grpc_proxy"])
def test_a_call_that_is_not_encrypted_goes_past_any_proxy(
    server: Server, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with listening() as proxy:
        monkeypatch.setenv(variable, f"http://127.0.0.1:{proxy.getsockname()[1]}")
        exporter = OtlpGrpcExporter(server.endpoint, METADATA, timeout=5.0)
        assert send(exporter, "a") == Accepted()
        exporter.shutdown()
        proxy.setblocking(False)
        with pytest.raises(BlockingIOError):
            proxy.accept()


def send(exporter: OtlpGrpcExporter, *names: str) -> Outcome:
    payload = exporter.prepare([span(name) for name in names]).payload
    assert payload is not None
    return exporter.deliver(payload)


def span(name: str) -> ReadableSpan:
    return ReadableSpan(name, context=SpanContext(1, 2, False, TraceFlags(1)), start_time=1, end_time=2)


def test_spans_arrive_with_exactly_our_metadata_whatever_the_environment_says(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"):
        monkeypatch.setenv(variable, "x-other-vendor=their-key,authorization=theirs")
    for variable in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        monkeypatch.setenv(variable, "http://127.0.0.1:1")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "no-such-compression")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_INSECURE", "false")
    exporter = OtlpGrpcExporter(server.endpoint.replace("http", "HTTP"), METADATA, 5.0)
    try:
        assert send(exporter, "a", "b") == Accepted()
    finally:
        exporter.shutdown()
    ((metadata, _),) = server.sink.calls
    assert metadata.pop("user-agent").startswith(f"otel-usage/{__version__} ")
    assert metadata == {"authorization": f"Bearer {TOKEN}", "x-axiom-dataset": "api_usage"}
    assert server.sink.names == ["a", "b"]


def test_without_headers_of_ours_none_are_taken_from_the_environment(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-other-vendor=their-key")
    exporter = OtlpGrpcExporter(server.endpoint, {}, 5.0)
    try:
        assert send(exporter, "a") == Accepted()
    finally:
        exporter.shutdown()
    assert server.sink.calls[0][0].keys() == {"user-agent"}


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (grpc.StatusCode.UNAVAILABLE, Failed("grpc_unavailable")),
        (grpc.StatusCode.INTERNAL, Failed("grpc_internal")),
        (grpc.StatusCode.DEADLINE_EXCEEDED, Failed("timeout")),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, RetryLater(1.0)),
        (grpc.StatusCode.INVALID_ARGUMENT, BadData("grpc_invalid_argument")),
    ],
)
def test_an_error_is_one_attempt_without_a_retry_inside(
    server: Server, status: grpc.StatusCode, outcome: Outcome
) -> None:
    server.sink.status = status
    exporter = OtlpGrpcExporter(server.endpoint, METADATA, 5.0)
    try:
        assert send(exporter, "a") == outcome
    finally:
        exporter.shutdown()
    assert len(server.sink.calls) == 1


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        (grpc.StatusCode.UNAUTHENTICATED, "AXIOM_API_TOKEN"),
        (grpc.StatusCode.PERMISSION_DENIED, "AXIOM_DATASET"),
        (grpc.StatusCode.UNIMPLEMENTED, "USAGE_OTLP_PROTOCOL"),
    ],
)
def test_a_refusal_says_what_to_fix(server: Server, status: grpc.StatusCode, advice: str) -> None:
    server.sink.status = status
    exporter = OtlpGrpcExporter(server.endpoint, METADATA, 5.0)
    try:
        outcome = send(exporter, "a")
    finally:
        exporter.shutdown()
    assert isinstance(outcome, Misconfigured)
    assert advice in outcome.advice


def test_a_partial_success_is_read(server: Server) -> None:
    server.sink.answer.partial_success.rejected_spans = 1
    server.sink.answer.partial_success.error_message = "too old"
    exporter = OtlpGrpcExporter(server.endpoint, METADATA, 5.0)
    try:
        assert send(exporter, "a", "b") == Accepted(1)
    finally:
        exporter.shutdown()


@pytest.mark.parametrize(("asked", "followed"), [(7.5, 7.5), (0.0, 1.0), (86400.0, 60.0)])
def test_the_sinks_own_wish_for_patience_is_followed_within_bounds(
    server: Server, asked: float, followed: float
) -> None:
    info = RetryInfo()
    info.retry_delay.FromTimedelta(timedelta(seconds=asked))
    details = Status(code=grpc.StatusCode.UNAVAILABLE.value[0], message="busy")
    details.details.add().Pack(info)
    server.sink.status = grpc.StatusCode.UNAVAILABLE
    server.sink.trailers = (("grpc-status-details-bin", details.SerializeToString()),)
    exporter = OtlpGrpcExporter(server.endpoint, METADATA, 5.0)
    try:
        assert send(exporter, "a") == RetryLater(followed)
    finally:
        exporter.shutdown()


def test_a_message_that_is_too_long_for_the_server_is_cut_in_halves() -> None:
    server = Server(most_bytes=20_000)
    processor = CircuitBreakingSpanProcessor(OtlpGrpcExporter(server.endpoint, METADATA, 5.0), schedule_delay=3600)
    try:
        for number in range(400):
            processor.on_end(span(f"{number:04d}" + "x" * 100))
        assert processor.force_flush(10_000)
        assert processor.ledger().accepted == 400
        assert len(server.sink.calls) > 1
    finally:
        processor.shutdown()
        server.stop()
    assert [name[:4] for name in server.sink.names] == [f"{number:04d}" for number in range(400)]


def test_an_attempt_ends_at_its_deadline_while_the_server_hangs(server: Server) -> None:
    server.sink.hang = True
    exporter = OtlpGrpcExporter(server.endpoint, METADATA, 0.3)
    try:
        started = time.monotonic()
        assert send(exporter, "a") == Failed("timeout")
        assert time.monotonic() - started < 0.9
    finally:
        exporter.shutdown()


def test_spans_are_kept_while_the_server_is_down_and_delivered_when_it_is_back(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    exporter = OtlpGrpcExporter(server.endpoint, METADATA, 2.0)
    processor = CircuitBreakingSpanProcessor(exporter, schedule_delay=3600)
    try:
        server.stop()
        processor.on_end(span("a"))
        assert not processor.force_flush(5000)
        assert processor.hindrance == "grpc_unavailable"
        processor.on_end(span("b"))
        assert (processor.ledger().spooled, processor.ledger().queued) == (1, 1)
        server.start()
        deadline = time.monotonic() + 10
        while not processor.force_flush(5000):
            assert time.monotonic() < deadline, "not delivered after the server had come back"
        assert processor.ledger().accepted == 2
        assert processor.ledger().balanced
    finally:
        processor.shutdown()
    assert server.sink.names == ["a", "b"]
    assert TOKEN not in caplog.text


def test_shutdown_is_bounded_while_the_server_hangs(server: Server) -> None:
    server.sink.hang = True
    exporter = OtlpGrpcExporter(server.endpoint, METADATA, 30.0)
    processor = CircuitBreakingSpanProcessor(exporter, schedule_delay=3600, shutdown_timeout=0.2)
    processor.on_end(span("a"))
    started = time.monotonic()
    processor.shutdown()
    assert time.monotonic() - started < 1.5
    assert processor.ledger().dropped == {"shutdown": 1}
    deadline = time.monotonic() + 5
    while any(thread.name == "otel-usage-worker" for thread in threading.enumerate()):
        assert time.monotonic() < deadline, "the worker is still there"


def test_the_setting_grpc_sends_usage_over_grpc(server: Server) -> None:
    usage.instrument(UsageConfig(otlp_endpoint=server.endpoint, otlp_protocol=OtlpProtocol.GRPC, axiom_token=TOKEN))
    try:
        with pytest.MonkeyPatch.context() as patch:
            # The server plays somebody else: in this process each call that it serves would be a request to it.
            patch.setattr("grpc._server._handle_call", inspect.unwrap(grpc._server._handle_call))
            with usage.usage_span("report.render", quantity=3, unit="page"):
                pass
            report = usage.flush(5.0)
    finally:
        usage.uninstrument()
    assert report.complete
    assert report.accepted == 1
    assert server.sink.names == ["report.render"]
    assert server.sink.calls[0][0]["authorization"] == f"Bearer {TOKEN}"
