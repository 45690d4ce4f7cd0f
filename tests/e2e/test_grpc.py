"""OTLP over gRPC, against a real gRPC server: our metadata and nothing else, within the deadline."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
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
from otel_usage.exporters.outcome import Accepted, Failed
from otel_usage.processors.circuit_breaking import CircuitBreakingSpanProcessor
from tests.conftest import TOKEN

METADATA = {"Authorization": f"Bearer {TOKEN}", "X-Axiom-Dataset": "api_usage"}


class Sink(TraceServiceServicer):
    """Keeps what arrives. Answers with ``status`` where one is set, and hangs while ``hang`` is set."""

    def __init__(self) -> None:
        self.calls: list[tuple[dict[str, str], ExportTraceServiceRequest]] = []
        self.status: grpc.StatusCode | None = None
        self.hang = False
        self.closing = threading.Event()

    def Export(self, request: ExportTraceServiceRequest, context: Any) -> ExportTraceServiceResponse:
        self.calls.append((dict(context.invocation_metadata()), request))
        if self.hang:
            self.closing.wait(30)
        if self.status is not None:
            context.abort(self.status, "on demand")
        return ExportTraceServiceResponse()

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

    def __init__(self) -> None:
        self.sink = Sink()
        self.port = 0
        self.start()

    def start(self) -> None:
        self._server = grpc.server(ThreadPoolExecutor(4, thread_name_prefix="test-grpc"))
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
        assert exporter.deliver([span("a"), span("b")]) == Accepted()
    finally:
        exporter.shutdown()
    ((metadata, _),) = server.sink.calls
    assert metadata.pop("user-agent")
    assert metadata == {
        "authorization": f"Bearer {TOKEN}",
        "x-axiom-dataset": "api_usage",
        "x-otel-usage": __version__,
    }
    assert server.sink.names == ["a", "b"]


def test_without_headers_of_ours_none_are_taken_from_the_environment(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-other-vendor=their-key")
    exporter = OtlpGrpcExporter(server.endpoint, {}, 5.0)
    try:
        assert exporter.deliver([span("a")]) == Accepted()
    finally:
        exporter.shutdown()
    assert server.sink.calls[0][0].keys() == {"user-agent", "x-otel-usage"}


@pytest.mark.parametrize(
    "status", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAUTHENTICATED]
)
def test_an_error_is_one_failed_attempt_without_a_retry_inside(server: Server, status: grpc.StatusCode) -> None:
    server.sink.status = status
    exporter = OtlpGrpcExporter(server.endpoint, METADATA, 5.0)
    try:
        assert exporter.deliver([span("a")]) == Failed("exporter_failure")
    finally:
        exporter.shutdown()
    assert len(server.sink.calls) == 1


def test_an_attempt_ends_at_its_deadline_while_the_server_hangs(server: Server) -> None:
    server.sink.hang = True
    exporter = OtlpGrpcExporter(server.endpoint, METADATA, 0.3)
    try:
        started = time.monotonic()
        assert exporter.deliver([span("a")]) == Failed("exporter_failure")
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
        assert processor.hindrance == "exporter_failure"
        processor.on_end(span("b"))
        assert processor.ledger().queued == 2
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
        with usage.usage_span("report.render", quantity=3, unit="page"):
            pass
        report = usage.flush(5.0)
    finally:
        usage.uninstrument()
    assert report.complete
    assert report.accepted == 1
    assert server.sink.names == ["report.render"]
    assert server.sink.calls[0][0]["authorization"] == f"Bearer {TOKEN}"
