"""CLIENT and PRODUCER spans of other instrumentations, where their scope is chosen, become upstream calls."""

from __future__ import annotations

import sqlite3
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import grpc
import httpx
import pytest
import redis
from opentelemetry.instrumentation.grpc import client_interceptor
from opentelemetry.instrumentation.grpc.grpcext import intercept_channel
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.instrumentation.redis import RedisInstrumentor
from opentelemetry.instrumentation.sqlite3 import SQLite3Instrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import SpanKind, Status, StatusCode

import otel_usage as usage
from otel_usage.testing import AxiomStub, ReceivedSpan
from tests.needs import needed_program
from tests.outside import facts
from tests.servers import free_port, listens, serve_asgi

OURS: Final = "opentelemetry.instrumentation"
SECRET: Final = "SECRET-4b1d"
WHAT: Final = ("usage.provider", "usage.operation", "server.address", "error.type")


@contextmanager
def traced(instrumentor: Any, *scopes: str, **choice: bool) -> Iterator[TracerProvider]:
    """The application's own tracing, with one instrumentation on it, and a bridge that takes those scopes."""
    provider = TracerProvider()
    provider.add_span_processor(usage.UsageBridgeProcessor(scopes=scopes, **choice))
    instrumentor.instrument(tracer_provider=provider)
    try:
        yield provider
    finally:
        instrumentor.uninstrument()
        provider.shutdown()


def upstream_calls(stub: AxiomStub) -> list[ReceivedSpan]:
    assert usage.flush(5.0).complete
    assert usage.health().internal_errors == {}
    found = [span for span in stub.unique_spans if span.attributes["usage.kind"] == "upstream"]
    return sorted(found, key=lambda span: span.start_time)


def ask_sqlite(path: Path) -> None:
    connection = sqlite3.connect(path)
    cursor = connection.cursor()
    try:
        cursor.execute("CREATE TABLE notes (text)")
        cursor.execute("insert into notes values (?)", (SECRET,))
        cursor.execute(f"SELECT * FROM notes WHERE text = '{SECRET}'")
        with suppress(sqlite3.OperationalError):
            cursor.execute(f"select * from missing_{SECRET.replace('-', '_')}")
    finally:
        connection.close()


@pytest.mark.parametrize("scope", [f"{OURS}.sqlite3", OURS, "opentelemetry"])
@pytest.mark.parametrize("conventions", ["", "database"], ids=["former", "stable"])
def test_a_database_is_an_upstream_by_the_name_of_its_scope_or_of_what_it_is_in(
    usage_on: None,
    stub: AxiomStub,
    tmp_path: Path,
    scope: str,
    conventions: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", conventions)
    with traced(SQLite3Instrumentor(), scope), usage.usage_span("job"):
        usage.identify(customer_id="acme", auth_kind="jwt")
        ask_sqlite(tmp_path / "notes.db")
    found = upstream_calls(stub)
    assert [facts(span, *WHAT) for span in found] == [
        ("sqlite", "CREATE", None, None),
        ("sqlite", "INSERT", None, None),
        ("sqlite", "SELECT", None, None),
        ("sqlite", "SELECT", None, "sqlite3.OperationalError"),
    ]
    assert [span.status_code for span in found] == ["unset", "unset", "unset", "error"]
    assert {span.attributes["usage.customer.id"] for span in found} == {"acme"}
    assert SECRET not in str(stub.spans)


@pytest.mark.parametrize("scopes", [(), (f"{OURS}.sqlite",), (f"{OURS}.redis",)])
def test_what_is_not_chosen_is_no_usage(
    usage_on: None, stub: AxiomStub, tmp_path: Path, scopes: tuple[str, ...]
) -> None:
    with traced(SQLite3Instrumentor(), *scopes):
        ask_sqlite(tmp_path / "notes.db")
    assert upstream_calls(stub) == []


def test_one_name_instead_of_several_is_refused() -> None:
    with pytest.raises(TypeError, match="several names"):
        usage.UsageBridgeProcessor(scopes=f"{OURS}.redis")


@pytest.fixture(scope="module")
def redis_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    port, home = free_port(), tmp_path_factory.mktemp("redis")
    command = [needed_program("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", home]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        try:
            while not listens(port):
                assert server.poll() is None
            yield port
        finally:
            server.terminate()
            server.wait(10)


def test_redis_is_named_by_its_host_or_its_kind(
    switch_on: Callable[..., None], stub: AxiomStub, redis_port: int
) -> None:
    switch_on(providers={"127.0.0.1": "sessions"})
    with (
        traced(RedisInstrumentor(), f"{OURS}.redis"),
        redis.Redis("127.0.0.1", redis_port) as by_address,
        redis.Redis("localhost", redis_port) as by_name,
    ):
        by_address.set("note", SECRET)
        by_name.get("note")
        with suppress(redis.ResponseError):
            by_name.lpush("note", SECRET)
        with usage.upstream("notes", "read"):
            by_name.get("note")
    assert [facts(span, *WHAT) for span in upstream_calls(stub)] == [
        ("sessions", "SET", "127.0.0.1", None),
        ("redis", "GET", "localhost", None),
        ("redis", "LPUSH", "localhost", "redis.exceptions.ResponseError"),
        ("notes", "read", "localhost", None),
    ]
    assert SECRET not in str(stub.spans)


@pytest.fixture
def stock() -> Iterator[str]:
    """A gRPC service that refuses what it is told to."""

    def get(request: bytes, context: grpc.ServicerContext) -> bytes:
        if request == b"much":
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, SECRET)
        return request

    server = grpc.server(ThreadPoolExecutor(2))
    handlers = {
        "Get": grpc.unary_unary_rpc_method_handler(get),
        "List": grpc.unary_stream_rpc_method_handler(lambda request, _: iter([request, request])),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.Stock", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait(10)


@pytest.mark.parametrize(("http", "times"), [(False, 1), (True, 2)])
def test_grpc_is_left_to_the_hooks_unless_asked_for(
    usage_on: None, stub: AxiomStub, stock: str, http: bool, times: int
) -> None:
    provider = TracerProvider()
    provider.add_span_processor(usage.UsageBridgeProcessor(scopes=[f"{OURS}.grpc"], http=http))
    # The instrumentor takes no provider but the process's.
    seen = client_interceptor(tracer_provider=provider)
    with grpc.insecure_channel(stock) as bare, usage.usage_span("job") as work:
        channel = intercept_channel(bare, seen)
        get = channel.unary_unary("/shop.Stock/Get")
        assert get(b"little") == b"little"
        assert list(channel.unary_stream("/shop.Stock/List")(b"x")) == [b"x", b"x"]
        with pytest.raises(grpc.RpcError):
            get(b"much")
    found = upstream_calls(stub)
    bridged = [("shop.Stock", "Get", None), ("shop.Stock", "List", None), ("shop.Stock", "Get", "RESOURCE_EXHAUSTED")]
    hooked = [("127.0.0.1", f"{service}/{method}", error) for service, method, error in bridged]
    expected = Counter(hooked + bridged if times > 1 else hooked)
    assert Counter(facts(span, "usage.provider", "usage.operation", "error.type") for span in found) == expected
    assert {span.parent_span_id for span in found} == {format(work.get_span_context().span_id, "016x")}
    assert SECRET not in str(stub.spans)
    provider.shutdown()


async def hello(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 503, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


@pytest.mark.parametrize(("http", "count"), [(False, 1), (True, 2)])
def test_http_is_left_to_the_hooks_unless_asked_for(usage_on: None, stub: AxiomStub, http: bool, count: int) -> None:
    with serve_asgi(hello, lifespan="off") as url, traced(HTTPXClientInstrumentor(), OURS, http=http):
        assert httpx.get(url).status_code == 503
    found = upstream_calls(stub)
    assert len(found) == count
    assert {facts(span, "http.response.status_code", "error.type") for span in found} == {(503, "503")}


def test_a_queue_is_an_upstream_whatever_its_instrumentation(usage_on: None, stub: AxiomStub) -> None:
    provider = TracerProvider()
    provider.add_span_processor(usage.UsageBridgeProcessor(scopes=["shop.queue"]))
    tracer = provider.get_tracer("shop.queue")
    sent = {"messaging.system": "kafka", "messaging.operation.name": "publish", "server.address": "broker.internal"}
    with tracer.start_as_current_span(f"publish {SECRET}", kind=SpanKind.PRODUCER, attributes=sent) as span:
        span.set_attribute("messaging.destination.name", SECRET)
    with tracer.start_as_current_span("INSERT", kind=SpanKind.CLIENT, attributes={"db.system": "x"}) as span:
        span.set_attribute("db.operation.name", f"INSERT INTO notes VALUES ('{SECRET}')")
        span.set_status(Status(StatusCode.ERROR, SECRET))
    for kind in (SpanKind.SERVER, SpanKind.CONSUMER, SpanKind.INTERNAL):
        tracer.start_span("process", kind=kind, attributes=sent).end()
    assert [facts(span, *WHAT) for span in upstream_calls(stub)] == [
        ("kafka", "publish", "broker.internal", None),
        ("x", None, None, "_OTHER"),
    ]
    assert SECRET not in str(stub.spans)
    provider.shutdown()
