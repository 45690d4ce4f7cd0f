"""gRPC in one process: what is delivered before the end is sent, who is behind a proxy, and usage switched on and off
while servers and channels stay.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final

import grpc
import pytest
from opentelemetry.instrumentation.utils import suppress_instrumentation

import otel_usage as usage
from otel_usage import guard
from otel_usage.config import FlushMode
from otel_usage.identity import UsageIdentity
from otel_usage.testing import AxiomStub
from tests.outside import facts, requests_of

LONGEST: Final = 20
NEVER: Final = 3600.0
FACES: Final = ("sync", "async")
Handlers = dict[str, Any]


def unary(handler: Callable[..., Any]) -> Any:
    return grpc.unary_unary_rpc_method_handler(handler)


def stream(handler: Callable[..., Any]) -> Any:
    return grpc.unary_stream_rpc_method_handler(handler)


@contextmanager
def sync_server(handlers: Handlers, *interceptors: Any) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(4), interceptors=interceptors)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.Shop", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        assert server.stop(1).wait(10)


@contextmanager
def async_server(handlers: Handlers) -> Iterator[str]:
    """On a loop of its own, on a thread."""
    started: list[str] = []
    ready, stop = threading.Event(), threading.Event()

    async def serve() -> None:
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.Shop", handlers),))
        started.append(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
        await server.start()
        ready.set()
        await asyncio.to_thread(stop.wait, 60)
        await server.stop(1)

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="test-grpc-aio", daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield started[0]
    finally:
        stop.set()
        thread.join(15)
        assert not thread.is_alive()


def served(face: str, handlers: Handlers) -> Any:
    return sync_server(handlers) if face == "sync" else async_server(handlers)


def ask(address: str, method: str, *, streamed: bool = False, **metadata: str) -> Any:
    """The answer, or the status in its place. The call itself is nobody's upstream call."""
    told = {"metadata": tuple(metadata.items()), "timeout": LONGEST}
    with suppress_instrumentation(), grpc.insecure_channel(address) as channel:
        path = f"/shop.Shop/{method}"
        try:
            if streamed:
                return list(channel.unary_stream(path)(b"abc", **told))
            return channel.unary_unary(path)(b"abc", **told)
        except grpc.RpcError as error:
            return error.code()


def echo(request: bytes, context: Any) -> bytes:
    return request * 2


async def async_echo(request: bytes, context: Any) -> bytes:
    return request * 2


def count(request: bytes, context: Any) -> Iterator[bytes]:
    yield from (b"1", b"2", b"3")


async def async_count(request: bytes, context: Any) -> Any:
    for part in (b"1", b"2", b"3"):
        yield part


async def async_write(request: bytes, context: Any) -> None:
    for part in (b"1", b"2", b"3"):
        await context.write(part)


def broken(request: bytes, context: Any) -> bytes:
    raise LookupError


SYNC: Final[Handlers] = {"echo": unary(echo), "count": stream(count), "broken": unary(broken)}
ASYNC: Final[Handlers] = {"echo": unary(async_echo), "count": stream(async_count), "write": stream(async_write)}


@pytest.fixture
def frozen(switch_on: Callable[..., None]) -> None:
    """Usage that would deliver nothing by itself for an hour."""
    switch_on(flush=FlushMode.REQUEST, schedule_delay=NEVER, export_timeout=0.5)


@pytest.mark.parametrize(
    ("face", "method", "streamed", "status", "size"),
    [
        ("sync", "echo", False, 200, 6),
        ("sync", "count", True, 200, 3),
        ("sync", "broken", False, 500, 0),
        ("async", "echo", False, 200, 6),
        ("async", "count", True, 200, 3),
        ("async", "write", True, 200, 3),
    ],
)
def test_who_has_the_status_finds_the_request_at_the_sink(
    frozen: None, stub: AxiomStub, face: str, method: str, streamed: bool, status: int, size: int
) -> None:
    with served(face, SYNC if face == "sync" else ASYNC) as address:
        ask(address, method, streamed=streamed)
        arrived = [
            facts(span, "http.route", "http.response.status_code", "http.response.body.size")
            for span in stub.spans
            if span.kind == "server"
        ]
    assert arrived == [(f"/shop.Shop/{method}", status, size)]
    assert len(requests_of(stub)) == 1, "and it comes once"


@pytest.mark.parametrize("face", FACES)
def test_headers_of_a_declared_proxy_are_believed_by_the_peer_of_the_socket(
    switch_on: Callable[..., None], stub: AxiomStub, face: str
) -> None:
    switch_on(trusted_proxy="127.0.0.0/8", personal=frozenset({"client.address"}))
    with served(face, SYNC if face == "sync" else ASYNC) as address:
        ask(address, "echo", **{"x-forwarded-for": "203.0.113.7", "x-request-id": "from-the-proxy"})
    (span,) = requests_of(stub)
    assert facts(span, "client.address", "usage.request.id") == ("203.0.113.7", "from-the-proxy")


@pytest.mark.parametrize("face", FACES)
def test_the_resolver_of_the_application_sees_method_and_metadata(
    switch_on: Callable[..., None], stub: AxiomStub, face: str
) -> None:
    def resolve(carrier: Any) -> UsageIdentity:
        headers = dict(carrier["headers"])
        return UsageIdentity(
            customer_id=f"{headers[b'customer'].decode()}{carrier['path']}", auth_kind="jwt", provenance="verified"
        )

    switch_on(identity=resolve)
    with served(face, SYNC if face == "sync" else ASYNC) as address:
        ask(address, "echo", customer="acme")
    (span,) = requests_of(stub)
    assert span.attributes["usage.customer.id"] == "acme/shop.Shop/echo"


def test_a_sync_server_and_a_channel_from_before_usage_are_observed_and_left_alone_after(
    switch_on: Callable[..., None], stub: AxiomStub
) -> None:
    with sync_server(SYNC) as address, grpc.insecure_channel(address) as channel:
        call = channel.unary_unary("/shop.Shop/echo")
        assert call(b"before", timeout=LONGEST) == b"beforebefore"
        switch_on()
        assert call(b"during", timeout=LONGEST) == b"duringduring"
        _until_there_are(stub, 2)
        usage.uninstrument()
        assert call(b"after", timeout=LONGEST) == b"afterafter"
    assert sorted(facts(span, "usage.kind", "http.request.body.size") for span in stub.unique_spans) == [
        ("request", 6), ("upstream", 6),
    ]  # fmt: skip


def _until_there_are(stub: AxiomStub, count: int) -> None:
    deadline = time.monotonic() + 10
    while len(stub.unique_spans) < count:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_an_async_server_serves_on_when_usage_is_off(usage_on: None, stub: AxiomStub) -> None:
    with async_server(ASYNC) as address:
        assert ask(address, "echo") == b"abcabc"
        _until_there_are(stub, 1)
        usage.uninstrument()
        assert ask(address, "echo") == b"abcabc"
        assert ask(address, "count", streamed=True) == [b"1", b"2", b"3"]
    assert len(stub.unique_spans) == 1


def test_one_service_calls_another_and_both_are_counted_for_one_customer(
    switch_on: Callable[..., None], stub: AxiomStub
) -> None:
    """The caller's span is the parent of the request that it makes."""
    with sync_server(SYNC) as behind:

        def forward(request: bytes, context: Any) -> bytes:
            usage.identify(customer_id="acme", tier=1, auth_kind="jwt", provenance="verified")
            with grpc.insecure_channel(behind) as channel:
                return bytes(channel.unary_unary("/shop.Shop/echo")(request, timeout=LONGEST))

        switch_on(
            baggage_key="k1:0123456789abcdef0123456789abcdef",
            baggage_hosts=frozenset({behind}),
            baggage_audience=frozenset({behind}),
        )
        with sync_server({"forward": unary(forward)}) as front:
            assert ask(front, "forward") == b"abcabc"
    requests = requests_of(stub, 2)
    (call,) = [span for span in stub.unique_spans if span.kind == "client"]
    outer, inner = requests
    assert [span.attributes["usage.customer.id"] for span in (*requests, call)] == ["acme"] * 3
    assert (call.parent_span_id, inner.parent_span_id) == (outer.span_id, call.span_id)
    assert outer.trace_id == call.trace_id == inner.trace_id


def test_messages_that_are_made_on_the_way_are_made_for_the_request(usage_on: None, stub: AxiomStub) -> None:
    """gRPC iterates over them on a thread of its own."""
    with sync_server({"join": grpc.stream_unary_rpc_method_handler(lambda requests, _: b"".join(requests))}) as behind:

        def parts() -> Iterator[bytes]:
            with usage.usage_span("part"):
                yield b"1"

        def gather(request: bytes, context: Any) -> bytes:
            usage.identify(customer_id="acme", auth_kind="jwt", provenance="verified")
            with grpc.insecure_channel(behind) as channel:
                join = channel.stream_unary("/shop.Shop/join")
                return bytes(join(parts(), timeout=LONGEST) + join(request_iterator=parts(), timeout=LONGEST))

        with sync_server({"gather": unary(gather)}) as front:
            assert ask(front, "gather") == b"11"
    outer, *_ = requests_of(stub, 3)
    made = [span for span in stub.unique_spans if span.name == "part"]
    assert [(span.parent_span_id, span.attributes["usage.customer.id"]) for span in made] == [
        (outer.span_id, "acme")
    ] * 2


def test_what_we_meet_ourselves_is_not_the_applications_error(
    usage_on: None, stub: AxiomStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError

    monkeypatch.setattr("otel_usage.instrumentation.grpc_handlers._telling", fail)
    monkeypatch.setattr("otel_usage.instrumentation.grpc_clients.place_of", fail)
    for face in FACES:
        with served(face, SYNC if face == "sync" else ASYNC) as address, grpc.insecure_channel(address) as channel:
            assert channel.unary_unary("/shop.Shop/echo")(b"abc", timeout=LONGEST) == b"abcabc"
    assert guard.internal_errors() == {
        "instrumentation.grpc_handlers.observed": 2,
        "instrumentation.grpc_clients._begin": 2,
    }
