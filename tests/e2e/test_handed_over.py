"""An ended request is handed to the worker as it is: what comes later, and what is odd about it, must not reach others.

Each application is called as a server calls it, with the worker asleep until the test asks for delivery.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import gc
import io
import sys
import threading
import tracemalloc
import weakref
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

import httpcore
import httpx
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from starlette.applications import Starlette
from starlette.responses import StreamingResponse
from starlette.routing import Route

import otel_usage as usage
from otel_usage.guard import internal_errors
from otel_usage.readable import T
from otel_usage.request import UsageRequest
from otel_usage.testing import AxiomStub, ReceivedSpan

Application = Callable[[Any, Any, Any], Awaitable[None]]
SECRET = "sk_live_0000000000000000"


@pytest.fixture(autouse=True)
def asleep(switch_on: Callable[..., None]) -> None:
    """The worker, until it is asked."""
    switch_on(schedule_delay=60.0)


async def call(app: Application, path: str = "/", headers: Any = (), *, kind: str = "http") -> None:
    """One exchange, of which the client is there until the end."""
    scope = {
        "type": kind, "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "scheme": "http",
        "method": "GET", "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "",
        "headers": list(headers), "client": ("203.0.113.7", 1), "server": ("localhost", 80),
    }  # fmt: skip
    messages = iter([{"type": f"{kind}.connect" if kind == "websocket" else "http.request"}])

    async def receive() -> Any:
        for message in messages:
            return message
        return await asyncio.Event().wait()

    async def send(message: Any) -> None:
        """Take it."""

    await app(scope, receive, send)


async def answer(send: Any, status: Any = 200) -> None:
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": b"x"})


def delivered(stub: AxiomStub) -> list[ReceivedSpan]:
    usage.flush(5.0)
    return stub.spans


def answering(status: Any) -> Application:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, status)

    return usage.UsageMiddleware(app)


def test_a_worker_that_inherits_a_context_links_nothing_to_it(stub: AxiomStub, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenTelemetry's instrumentation of threads hands on the context of whoever starts one, as Python 3.14 may."""
    start = threading.Thread.start

    def inheriting(thread: threading.Thread) -> None:
        thread.run = functools.partial(contextvars.copy_context().run, thread.run)  # type: ignore[method-assign]
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", inheriting)

    async def both() -> None:
        with TracerProvider().get_tracer("test").start_as_current_span("GET", kind=trace.SpanKind.SERVER):
            await call(answering(200))
        await call(answering(204))
        await call(answering(205))

    asyncio.run(both())
    spans = delivered(stub)
    assert len({span.trace_id for span in spans}) == 3
    assert [len(span.links) for span in spans] == [1, 0, 0]


def test_a_span_of_the_applications_that_begins_after_the_end_is_not_the_requests(stub: AxiomStub) -> None:
    over = threading.Event()

    def outlive() -> None:
        over.wait()
        with TracerProvider().get_tracer("test").start_as_current_span("another job"):
            usage.record_llm("anthropic", "a-model")

    thread = threading.Thread(target=outlive)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        thread.start()
        await answer(send)

    asyncio.run(call(usage.UsageMiddleware(app)))
    over.set()
    thread.join()
    spans = delivered(stub)
    assert len(spans) == 2
    assert len({span.trace_id for span in spans}) == 1
    assert not any(span.links for span in spans)


def test_the_task_that_sends_the_response_is_a_part_of_the_request(stub: AxiomStub) -> None:
    """Starlette makes a streamed body on a task of its own, under servers of ASGI's older versions."""

    async def parts() -> Any:
        usage.identify(customer_id="acme", tier=1, auth_kind="jwt")
        yield b"x"

    async def stream(request: Any) -> StreamingResponse:
        usage.identify(auth_kind="anon")
        return StreamingResponse(parts())

    asyncio.run(call(Starlette(routes=[Route("/", stream)])))
    (span,) = delivered(stub)
    assert span.attributes["usage.customer.id"] == "acme"
    assert usage.health().attributes_dropped == {}


def test_what_is_no_identity_costs_no_span(stub: AxiomStub) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        mistaken: Any = usage.Credentials(customer_id="acme", user_api_key=SECRET)
        usage.identify(mistaken)
        await answer(send)

    asyncio.run(call(usage.UsageMiddleware(app)))
    (span,) = delivered(stub)
    assert "usage.customer.id" not in span.attributes
    assert internal_errors() == {"recording.identify": 1}


class Array:
    """Compares as an array does."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        raise ValueError(SECRET)


def test_a_name_that_cannot_be_compared_is_dropped_alone(stub: AxiomStub) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        transport = httpx.MockTransport(lambda request: httpx.Response(200))
        async with httpx.AsyncClient(transport=transport) as client:
            await client.get("http://upstream", extensions={"usage": {"provider": Array(), "operation": "quote"}})
        await answer(send)

    asyncio.run(call(usage.UsageMiddleware(app)))
    upstream, request = delivered(stub)
    assert upstream.attributes["usage.operation"] == "quote"
    assert request.attributes["http.response.status_code"] == 200
    assert usage.health().attributes_dropped == {"usage.provider": 1}


def test_a_request_that_cannot_become_a_span_does_not_cost_the_others(
    stub: AxiomStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = UsageRequest.finished

    def finished(request: UsageRequest, make: Callable[..., T]) -> T:
        if request.status == 418:
            raise ValueError(SECRET)
        return made(request, make)

    monkeypatch.setattr(UsageRequest, "finished", finished)
    for status in (200, 418, 200):
        asyncio.run(call(answering(status)))
    assert len(delivered(stub)) == 2
    assert usage.health().ledger.dropped == {"unencodable": 1}
    assert internal_errors() == {"readable.finished": 1}


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="elsewhere everything waits for a collection")
def test_an_error_keeps_nothing_alive(stub: AxiomStub) -> None:
    class Upload:
        """What a request worked on."""

    seen: list[weakref.ref[Upload]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        upload = Upload()
        seen.append(weakref.ref(upload))
        raise ValueError

    async def failing() -> None:
        with contextlib.suppress(ValueError):
            await call(usage.UsageMiddleware(app))
        assert [found() for found in seen] == [None]

    gc.collect()
    gc.disable()
    try:
        asyncio.run(failing())
    finally:
        gc.enable()


def test_a_call_that_waits_for_delivery_does_not_keep_its_context(stub: AxiomStub) -> None:
    class Session:
        """What an application keeps in a context variable."""

    session: contextvars.ContextVar[Session] = contextvars.ContextVar("session")
    seen: list[weakref.ref[Session]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        session.set(Session())
        seen.append(weakref.ref(session.get()))
        transport = httpx.MockTransport(lambda request: httpx.Response(200))
        async with httpx.AsyncClient(transport=transport) as client:
            await client.get("http://upstream")
        await answer(send)

    asyncio.run(call(usage.UsageMiddleware(app)))
    gc.collect()
    assert usage.health().ledger.queued == 2
    assert [found() for found in seen] == [None]


@pytest.mark.parametrize("odd", [HTTPStatus.CREATED, 201.0, "201"])
def test_a_status_that_is_merely_equal_to_a_number_is_that_number(odd: Any, stub: AxiomStub) -> None:
    asyncio.run(call(answering(odd)))
    asyncio.run(call(answering(201)))
    assert [span.attributes["http.response.status_code"] for span in delivered(stub)] == [201, 201]


def test_a_response_that_takes_the_place_of_another_has_its_own_freshness(stub: AxiomStub) -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Cache-Control", "public, max-age=60")])
        try:
            raise ValueError
        except ValueError:
            start_response("200 OK", [], sys.exc_info())
        return [b"x"]

    body: Any = usage.UsageWSGIMiddleware(app)({"REQUEST_METHOD": "GET"}, lambda *args: lambda data: None)
    list(body)
    body.close()
    (span,) = delivered(stub)
    assert "usage.cache.tier" not in span.attributes


def test_what_a_task_does_after_the_end_is_not_the_requests(stub: AxiomStub) -> None:
    tasks: list[asyncio.Task[None]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def go_on() -> None:
            await asyncio.sleep(0)
            await receive()
            await answer(send)

        tasks.append(asyncio.create_task(go_on()))

    async def both() -> None:
        await call(usage.UsageMiddleware(app))
        await tasks[0]

    asyncio.run(both())
    (span,) = delivered(stub)
    assert span.attributes["http.response.status_code"] == 500
    assert "usage.time_to_first_byte" not in span.attributes


def test_a_websocket_that_is_lost_after_the_application_failed_was_ended_by_the_failure(stub: AxiomStub) -> None:
    tasks: list[asyncio.Task[None]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        tasks.append(asyncio.create_task(receive()))
        await asyncio.sleep(0)
        raise ValueError(SECRET)

    async def lost(scope: Any, receive: Any, send: Any) -> None:
        over = asyncio.Event()
        messages = iter([{"type": "websocket.connect"}])

        async def receive_here() -> Any:
            for message in messages:
                return message
            await over.wait()
            return {"type": "websocket.disconnect", "code": 1006}

        with pytest.raises(ValueError, match=SECRET):
            await usage.UsageMiddleware(app)(scope, receive_here, send)
        over.set()
        await tasks[0]

    asyncio.run(call(lost, kind="websocket"))
    (span,) = delivered(stub)
    assert span.attributes["usage.reason"] == "unhandled_exception"


def test_what_a_wsgi_application_does_after_the_end_is_not_the_requests(stub: AxiomStub) -> None:
    kept: list[Any] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        kept.extend((environ["wsgi.input"], start_response("200 OK", [])))
        return [b"x"]

    environ = {"REQUEST_METHOD": "POST", "wsgi.input": io.BytesIO(b"12345")}
    body: Any = usage.UsageWSGIMiddleware(app)(environ, lambda *args: lambda data: None)
    list(body)
    body.close()
    stream, write = kept
    stream.read()
    write(b"late")
    (span,) = delivered(stub)
    assert span.attributes["http.request.body.size"] == 0
    assert span.attributes["http.response.body.size"] == 1


def test_what_comes_of_a_stream_that_was_closed_is_not_the_attempts(stub: AxiomStub) -> None:
    class Stream(httpx.SyncByteStream):
        def __iter__(self) -> Any:
            yield b"abc"
            raise httpx.ReadError("closed beneath its reader")

    class Pool(contextlib.ExitStack):
        def handle_request(self, request: Any) -> Any:
            return httpcore.Response(200, headers=[], content=Stream())

    transport = httpx.HTTPTransport()
    transport._pool = Pool()  # type: ignore[assignment]
    with httpx.Client(transport=transport) as client, client.stream("GET", "http://upstream") as response:
        assert isinstance(response.stream, httpx.SyncByteStream)
        parts = iter(response.stream)
        next(parts)
        response.close()  # as another thread does
        with pytest.raises(httpx.ReadError):
            next(parts)
    (span,) = delivered(stub)
    assert "error.type" not in span.attributes
    assert span.attributes["http.response.body.size"] == 3


LONG = 60_000


def held_by(work: Callable[[], None]) -> int:
    """Bytes that are still held when ``work`` is done."""
    gc.collect()
    tracemalloc.start()
    try:
        work()
        gc.collect()
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def test_long_headers_do_not_wait_with_their_request(stub: AxiomStub) -> None:
    names = (b"host", b"origin", b"x-request-id", b"traceparent", b"sentry-trace", b"baggage")
    app = answering(200)

    def send_all() -> None:
        for _ in range(50):
            asyncio.run(call(app, headers=[(name, b"a" * LONG) for name in names]))

    assert held_by(send_all) < 50 * LONG / 2
    assert len(delivered(stub)) == 50
    assert usage.health().attributes_dropped["usage.client.request_id"] == 50


@pytest.mark.parametrize("say", ["identify", "annotate"])
def test_long_words_of_clients_are_not_remembered(say: str, stub: AxiomStub) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if say == "identify":
            usage.identify(customer_id=scope["path"], provenance="unverified")
        else:
            usage.annotate(domain=scope["path"])
        await answer(send)

    def send_all() -> None:
        for number in range(50):
            asyncio.run(call(usage.UsageMiddleware(app), f"/{number}" + "a" * LONG))
        delivered(stub)

    assert held_by(send_all) < 50 * LONG / 2


class Markup(str):
    """A string that templates, databases or arrays hand out."""

    __slots__ = ()


def test_a_customer_of_another_class_of_strings_does_not_stand_in_the_place_of_one(stub: AxiomStub) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        customer = Markup("acme") if scope["path"] == "/odd" else "acme"
        usage.identify(usage.UsageIdentity(customer_id=customer, tier=1, auth_kind="jwt", provenance="verified"))
        await answer(send)

    for path in ("/odd", "/", "/"):
        asyncio.run(call(usage.UsageMiddleware(app), path))
    assert [span.attributes["usage.customer.id"] for span in delivered(stub)] == ["acme"] * 3


def test_a_span_of_the_applications_own_class_is_not_asked_under_a_lock(stub: AxiomStub) -> None:
    theirs, asked = threading.Lock(), threading.Event()

    class Waiting(trace.NonRecordingSpan):
        def get_span_context(self) -> trace.SpanContext:
            asked.set()
            with theirs:
                return super().get_span_context()

    async def traced(scope: Any, receive: Any, send: Any) -> None:
        with trace.use_span(Waiting(trace.INVALID_SPAN_CONTEXT)):
            await answer(send)

    def request(app: Application) -> threading.Thread:
        return threading.Thread(target=lambda: asyncio.run(call(usage.UsageMiddleware(app))), daemon=True)

    other = request(traced)

    async def identifying(scope: Any, receive: Any, send: Any) -> None:
        with theirs:
            other.start()
            asked.wait()
            usage.identify(customer_id="acme", tier=1)
        await answer(send)

    thread = request(identifying)
    thread.start()
    thread.join(5.0)
    assert not thread.is_alive()
    other.join(5.0)
    assert len(delivered(stub)) == 2


def test_a_last_message_whose_body_has_no_length_still_ends_the_response(stub: AxiomStub) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": None})

    asyncio.run(call(usage.UsageMiddleware(app)))
    (span,) = delivered(stub)
    assert span.attributes["usage.reason"] == "ok"
