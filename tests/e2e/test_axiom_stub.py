"""The stub answers as Axiom does, fails on demand, and leaves nothing behind."""

from __future__ import annotations

import gzip
import http.client
import json
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult

from otel_usage.local.limits import FieldLimits
from otel_usage.testing import (
    AxiomStub,
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

HEADERS = {
    "Authorization": "Bearer xaat-test",
    "X-Axiom-Dataset": "api_usage",
    "Content-Type": "application/x-protobuf",
}
PATH = "/v1/traces"


@pytest.fixture
def stub() -> Iterator[AxiomStub]:
    before = set(threading.enumerate())
    with AxiomStub(other_datasets=("billing",)) as running:
        yield running
    assert set(threading.enumerate()) <= before, "the stub left a thread behind"


def export(*names: str, **attributes: str) -> bytes:
    """A protobuf export with one span for each name."""
    message = ExportTraceServiceRequest()
    spans = message.resource_spans.add().scope_spans.add().spans
    for number, name in enumerate(names, 1):
        span = spans.add(trace_id=number.to_bytes(16), span_id=number.to_bytes(8), name=name)
        for key, value in attributes.items():
            span.attributes.add(key=key).value.string_value = value
    return bytes(message.SerializeToString())


def post(
    stub: AxiomStub, body: bytes, *, path: str = PATH, method: str = "POST", drop: str = "", **headers: str
) -> tuple[int, http.client.HTTPMessage, bytes]:
    """One request on a connection of its own. Header names are written with underscores."""
    sent = {**HEADERS, **{name.replace("_", "-"): value for name, value in headers.items()}}
    sent.pop(drop, None)
    connection = http.client.HTTPConnection("127.0.0.1", stub.port, timeout=5)
    try:
        connection.request(method, path, body, sent)
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def message_of(body: bytes) -> str:
    return str(json.loads(body)["message"])


def test_the_official_exporter_delivers_its_spans(stub: AxiomStub) -> None:
    exporter = OTLPSpanExporter(
        stub.endpoint,
        headers={"Authorization": "Bearer xaat-test", "X-Axiom-Dataset": "api_usage"},
        compression=Compression.Gzip,
    )
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with provider.get_tracer("test").start_as_current_span("outer", attributes={"usage.tier": 2}):
        pass
    provider.shutdown()
    (span,) = stub.wait_for(1)
    assert (span.name, span.kind, span.attributes, span.scope_name) == ("outer", "internal", {"usage.tier": 2}, "test")
    (request,) = stub.requests
    assert (request.status, request.spans, request.headers["content-encoding"]) == (200, 1, "gzip")


def test_the_answer_has_the_format_of_the_request(stub: AxiomStub) -> None:
    status, headers, body = post(stub, export("a"))
    assert (status, headers["Content-Type"]) == (200, "application/x-protobuf")
    assert not ExportTraceServiceResponse.FromString(body).HasField("partial_success")
    status, headers, body = post(stub, b'{"resourceSpans": []}', Content_Type="application/json")
    assert (status, headers["Content-Type"], json.loads(body)) == (200, "application/json", {})


def test_a_missing_or_unknown_token_is_a_401(stub: AxiomStub) -> None:
    assert post(stub, export("a"), drop="Authorization")[0] == 401
    for wrong in ("Bearer xaat-other", "Basic xaat-test", "xaat-test", "Bearer ", "Bearer \xfc"):
        status, _, body = post(stub, export("a"), Authorization=wrong)
        assert status == 401
        assert "token" in message_of(body)
    assert stub.spans == []


def test_the_dataset_decides_between_400_403_and_404(stub: AxiomStub) -> None:
    assert post(stub, export("a"), drop="X-Axiom-Dataset")[0] == 400
    assert post(stub, export("a"), X_Axiom_Dataset="billing")[0] == 403
    assert post(stub, export("a"), X_Axiom_Dataset="unheard-of")[0] == 404
    assert [request.status for request in stub.requests] == [400, 403, 404]


def test_without_a_token_everybody_may_write() -> None:
    with AxiomStub(token=None) as stub:
        assert post(stub, export("a"), drop="Authorization", X_Axiom_Dataset="")[0] == 200


def test_another_path_or_method_is_refused(stub: AxiomStub) -> None:
    assert post(stub, export("a"), path="/v1/logs")[0] == 404
    status, headers, _ = post(stub, b"", method="GET")
    assert (status, headers["Allow"]) == (405, "POST")


def test_unreadable_bodies_are_400_or_415(stub: AxiomStub) -> None:
    assert post(stub, b"\xff\xff")[0] == 400
    assert post(stub, b"plain", Content_Encoding="gzip")[0] == 400
    assert post(stub, b"x", Content_Encoding="br")[0] == 415
    assert post(stub, b"x", Content_Type="text/plain")[0] == 415


def test_more_spans_than_axiom_takes_are_a_413(stub: AxiomStub) -> None:
    assert post(stub, export(*["n"] * 10_000))[0] == 200
    stub.clear()
    assert post(stub, export(*["n"] * 10_001))[0] == 413
    assert stub.spans == []


def test_a_body_above_the_limit_is_a_413_that_the_client_can_read() -> None:
    with AxiomStub(max_body_bytes=1000) as stub:
        assert post(stub, bytes(8_000_000))[0] == 413
        assert post(stub, gzip.compress(bytes(1_000_000)), Content_Encoding="gzip")[0] == 413
        assert (stub.requests[0].size, stub.requests[0].status) == (-1, 413)


def test_connections_by_the_thousand_take_up_no_thread_each(stub: AxiomStub) -> None:
    """Nor do they keep anybody else out: those that have waited longest are closed."""
    before = threading.active_count()
    opened = [socket.create_connection(("127.0.0.1", stub.port), 5) for _ in range(400)]
    try:
        assert post(stub, export("a"))[0] == 200
        for connection in opened[:100]:
            connection.settimeout(5)
            assert connection.recv(1) == b""
        deadline = time.monotonic() + 5
        while threading.active_count() - before > 256 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert threading.active_count() - before <= 256
    finally:
        for connection in opened:
            connection.close()


def test_a_request_that_comes_in_drops_is_over_when_its_time_is(
    stub: AxiomStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("otel_usage.local.http_server._IDLE_SECONDS", 0.3)
    with socket.create_connection(("127.0.0.1", stub.port), 5) as drip:
        started, closed = time.monotonic(), False
        while not closed and time.monotonic() - started < 10:
            try:
                drip.sendall(b"x")
                closed = bool(select.select([drip], [], [], 0.05)[0])
            except OSError:
                closed = True
    assert closed


def test_a_client_that_is_sending_is_the_last_to_be_closed(stub: AxiomStub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otel_usage.local.http_server._MAX_CONNECTIONS", 4)
    body = export("a")
    head = "".join(f"{name}: {value}\r\n" for name, value in {**HEADERS, "Content-Length": len(body)}.items())
    with socket.create_connection(("127.0.0.1", stub.port), 5) as sending:
        sending.sendall(f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\n{head}\r\n".encode() + body[:5])
        time.sleep(0.2)  # until the head has been read
        idle = [socket.create_connection(("127.0.0.1", stub.port), 5) for _ in range(8)]
        time.sleep(0.2)  # until they have been accepted
        sending.sendall(body[5:])
        sending.settimeout(5)
        assert sending.recv(100).startswith(b"HTTP/1.1 200")
        for connection in idle:
            connection.close()


def test_a_thread_that_cannot_start_leaves_nothing_behind(stub: AxiomStub, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")  # as where the machine has no more of them

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", stub.port), 5) as connection:
                connection.settimeout(5)
                assert connection.recv(1) == b""
    assert post(stub, export("a"))[0] == 200
    assert stub._server._listener is not None
    assert all(thread.ident for thread in stub._server._listener._open)


def test_a_span_that_breaks_a_field_limit_is_rejected_alone(stub: AxiomStub) -> None:
    for attributes in ({"k" * 201: "v"}, {"k": "v" * (1024 * 1024 + 1)}):
        stub.clear()
        status, _, body = post(stub, export("bad", **attributes))
        partial = ExportTraceServiceResponse.FromString(body).partial_success
        assert (status, partial.rejected_spans, stub.spans) == (200, 1, [])
        assert "longer than" in partial.error_message
    assert post(stub, export("good", k="v" * 1024 * 1024))[0] == 200
    assert len(stub.spans) == 1


def test_a_dataset_full_of_fields_rejects_only_spans_that_bring_new_ones() -> None:
    with AxiomStub(judge=FieldLimits(max_fields=2)) as stub:
        post(stub, export("a", one="1", two="2"))
        post(stub, export("b", three="3"))
        post(stub, export("c", one="1", **{"usage.plan": "kept in the map, which is no field"}))
        assert [span.name for span in stub.spans] == ["a", "c"]


def test_a_keep_alive_connection_carries_many_requests(stub: AxiomStub) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", stub.port, timeout=5)
    connection.connect()
    port = connection.sock.getsockname()[1]
    for _ in range(20):
        connection.request("POST", PATH, export("a"), HEADERS)
        assert connection.getresponse().read() == b""
        assert connection.sock.getsockname()[1] == port
    connection.close()
    assert len(stub.spans) == 20
    assert len(stub.unique_spans) == 1


def receive_all(connection: socket.socket, received: bytearray) -> None:
    while chunk := connection.recv(65536):
        received += chunk


def raw(stub: AxiomStub, request: bytes) -> bytes:
    """Everything that the stub answers to the bytes, until it closes the connection."""
    with socket.create_connection(("127.0.0.1", stub.port), timeout=5) as connection:
        connection.sendall(request)
        received = bytearray()
        receive_all(connection, received)
        return bytes(received)


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (b"Host: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"411"),
        (b"Host: localhost\r\n\r\n", b"411"),
        (b"Host: localhost\r\nContent-Length: -1\r\n\r\n", b"400"),
        (b"Host: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", b"400"),
        (b"Content-Length: 0\r\n\r\n", b"400"),
        (b"Host: evil.example\r\nContent-Length: 0\r\n\r\n", b"403"),
        (b"Host: 127.0.0.1.evil.example:80\r\nContent-Length: 0\r\n\r\n", b"403"),
    ],
)
def test_framing_that_cannot_be_trusted_ends_the_connection(stub: AxiomStub, lines: bytes, status: bytes) -> None:
    answer = raw(stub, b"POST /v1/traces HTTP/1.1\r\n" + lines)
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert b"Connection: close" in answer
    assert stub.requests == []


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:4318", "[::1]:4318", "LOCALHOST:1"])
def test_every_name_of_this_machine_is_a_good_host(stub: AxiomStub, host: str) -> None:
    assert post(stub, export("a"), Host=host)[0] == 200


def test_wait_for_says_what_has_arrived_when_it_gives_up(stub: AxiomStub) -> None:
    post(stub, export("only-one"))
    with pytest.raises(AssertionError, match=r"no 2 spans within 0\.01 s: 1 spans \(only-one\), 1 requests .*\[200\]"):
        stub.wait_for(2, timeout=0.01)


def test_wait_for_wakes_up_when_the_spans_come(stub: AxiomStub) -> None:
    sender = threading.Thread(target=post, args=(stub, export("a", "b")))
    sender.start()
    assert [span.name for span in stub.wait_for(2)] == ["a", "b"]
    sender.join()


def test_a_status_strikes_as_often_as_it_was_told(stub: AxiomStub) -> None:
    stub.fail_with(Status(503, {"Retry-After": "7"}), times=2)
    answers = [post(stub, export("a")) for _ in range(3)]
    assert [status for status, _, _ in answers] == [503, 503, 200]
    assert answers[0][1]["Retry-After"] == "7"
    assert len(stub.spans) == 1
    assert [request.status for request in stub.requests] == [503, 503, 200]


def test_a_redirect_carries_its_location(stub: AxiomStub) -> None:
    stub.fail_with(Status(302, {"Location": "/login"}, b""))
    status, headers, body = post(stub, export("a"))
    assert (status, headers["Location"], body) == (302, "/login", b"")


def test_heal_ends_a_fault(stub: AxiomStub) -> None:
    stub.fail_with(Status(500))
    assert post(stub, export("a"))[0] == 500
    stub.heal()
    assert post(stub, export("a"))[0] == 200


def test_a_rate_limit_has_the_headers_of_axiom(stub: AxiomStub) -> None:
    stub.fail_with(RateLimited(reset_seconds=3))
    asked = time.time()
    status, headers, body = post(stub, export("a"))
    assert (status, message_of(body)) == (429, "rate limit exceeded")
    assert (headers["X-RateLimit-Scope"], headers["X-RateLimit-Limit"]) == ("organization", "1000")
    assert headers["X-RateLimit-Remaining"] == "0"
    assert asked + 3 <= int(headers["X-RateLimit-Reset"]) <= time.time() + 4
    assert "Retry-After" not in headers


def test_a_partial_success_takes_the_rest_of_the_batch(stub: AxiomStub) -> None:
    stub.fail_with(PartialSuccess(2, "too many"))
    status, _, body = post(stub, export("a", "b", "c"))
    partial = ExportTraceServiceResponse.FromString(body).partial_success
    assert (status, partial.rejected_spans, partial.error_message) == (200, 2, "too many")
    assert [span.name for span in stub.spans] == ["a"]
    _, _, body = post(stub, b"{}", Content_Type="application/json")
    assert json.loads(body) == {"partialSuccess": {"rejectedSpans": "2", "errorMessage": "too many"}}


def test_a_poisoned_span_makes_only_its_own_batches_fail(stub: AxiomStub) -> None:
    stub.fail_with(Poison(lambda span: span.name == "bad"))
    assert [post(stub, body)[0] for body in (export("a", "bad"), export("a"), export("bad"))] == [400, 200, 400]
    assert [span.name for span in stub.spans] == ["a"]


def test_a_hanging_stub_answers_nothing_and_closes_at_once_when_it_ends() -> None:
    with AxiomStub() as stub:
        stub.fail_with(Hang(3600))
        connection = http.client.HTTPConnection("127.0.0.1", stub.port, timeout=0.1)
        connection.request("POST", PATH, export("a"), HEADERS)
        with pytest.raises(TimeoutError):
            connection.getresponse()
        assert (stub.spans, stub.requests[0].status) == ([], None)
        began = time.monotonic()
    assert time.monotonic() - began < 1
    connection.close()


def test_a_hang_that_took_the_spans_answers_late(stub: AxiomStub) -> None:
    stub.fail_with(Hang(0.05, accepted=True))
    assert post(stub, export("a"))[0] == 200
    assert len(stub.spans) == 1


def test_a_hang_that_took_nothing_closes_without_an_answer(stub: AxiomStub) -> None:
    stub.fail_with(Hang(0.05))
    with pytest.raises(http.client.RemoteDisconnected):
        post(stub, export("a"))
    assert stub.spans == []


def test_a_slow_drip_sends_the_whole_answer_byte_by_byte(stub: AxiomStub) -> None:
    stub.fail_with(SlowDrip(0.001))
    assert post(stub, export("a"))[0] == 200


def test_a_slow_drip_ends_with_the_stub() -> None:
    with AxiomStub() as stub:
        stub.fail_with(SlowDrip(3600))
        with socket.create_connection(("127.0.0.1", stub.port), timeout=5) as connection:
            head = "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items())
            connection.sendall(f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n{head}\r\n".encode())
            assert connection.recv(10) == b"H"
            began = time.monotonic()
            stub.close()
            assert time.monotonic() - began < 1
            assert connection.recv(10) == b""


@pytest.mark.parametrize(("accepted", "taken"), [(False, 0), (True, 1)])
def test_a_reset_is_a_real_reset(stub: AxiomStub, accepted: bool, taken: int) -> None:
    stub.fail_with(Reset(accepted=accepted))
    with pytest.raises(ConnectionResetError):
        post(stub, export("a"))
    assert len(stub.spans) == taken


def test_a_reset_can_come_in_the_middle_of_an_answer(stub: AxiomStub) -> None:
    stub.fail_with(Reset(after_bytes=12))
    with socket.create_connection(("127.0.0.1", stub.port), timeout=5) as connection:
        connection.sendall(b"GET /v1/traces HTTP/1.1\r\nHost: localhost\r\n\r\n")
        received = bytearray()
        with pytest.raises(ConnectionResetError):
            receive_all(connection, received)
    # A reset may discard what the client had not read yet.
    assert bytes(received) in (b"", b"HTTP/1.1 405")


def test_garbage_is_not_http(stub: AxiomStub) -> None:
    stub.fail_with(Garbage())
    with pytest.raises(http.client.BadStatusLine):
        post(stub, export("a"))


def test_refused_connections_work_again_on_the_same_port_after_healing(stub: AxiomStub) -> None:
    kept = http.client.HTTPConnection("127.0.0.1", stub.port, timeout=5)
    kept.request("POST", PATH, export("a"), HEADERS)
    kept.getresponse().read()
    for _ in range(3):
        port = stub.port
        stub.fail_with(Refuse())
        with pytest.raises(ConnectionRefusedError):
            post(stub, export("b"))
        assert kept.sock is None or kept.sock.recv(1) == b""
        stub.heal()
        assert stub.port == port
        assert post(stub, export("c"))[0] == 200
    kept.close()
    assert [span.name for span in stub.spans] == ["a", "c", "c", "c"]


def test_a_refusing_stub_closes_too(stub: AxiomStub) -> None:
    stub.fail_with(Refuse())
    stub.close()
    stub.close()


def test_times_is_checked(stub: AxiomStub) -> None:
    with pytest.raises(ValueError, match="times"):
        stub.fail_with(Status(500), times=0)
    with pytest.raises(ValueError, match="times"):
        stub.fail_with(Refuse(), times=1)


def test_the_official_exporter_sees_a_fault_as_a_failure(stub: AxiomStub) -> None:
    stub.fail_with(Status(400))
    exporter = OTLPSpanExporter(stub.endpoint, headers=HEADERS)
    assert exporter.export([]) is SpanExportResult.FAILURE
    exporter.shutdown()  # type: ignore[no-untyped-call]  # the SDK has no annotation for it


def test_parallel_senders_lose_nothing(stub: AxiomStub) -> None:
    def send() -> None:
        for _ in range(25):
            post(stub, export("a"))

    senders = [threading.Thread(target=send) for _ in range(8)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    assert len(stub.spans) == len(stub.requests) == 200


def test_the_stub_needs_no_extra() -> None:
    code = "import sys, otel_usage.testing; sys.exit(str([m for m in ('duckdb', 'rich') if m in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "[]"
