"""aiohttp's client beyond what every client is held to: names, what is given up, and what stays as it was."""

from __future__ import annotations

import asyncio
import gc
import gzip
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

import otel_usage as usage
from otel_usage import guard
from otel_usage.instrumentation import aiohttp_client
from otel_usage.testing import AxiomStub, ReceivedSpan
from tests.outside import facts
from tests.servers import serve_asgi

Work = Callable[[aiohttp.ClientSession, str], Awaitable[Any]]


class Upstream:
    """What is called: it remembers how long the bodies were that came in, and with which headers."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.baggage: list[list[str]] = []

    async def take(self, request: web.Request) -> web.Response:
        self.baggage.append(request.headers.getall("baggage", []))
        self.sizes.append(len(await request.read()))
        return web.Response(body=b"taken")

    async def refuse(self, request: web.Request) -> web.StreamResponse:
        """Answers before the body has come, and waits."""
        return web.Response(status=413, body=b"too large")

    async def endless(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"e" * 1000)

    async def half(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b"h" * 500)
        await asyncio.sleep(30)
        return response

    async def socket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data)
        return socket


@pytest.fixture
def upstream() -> Upstream:
    return Upstream()


async def serving(upstream: Upstream, work: Work) -> None:
    app = web.Application()
    app.router.add_route("*", "/take", upstream.take)
    app.router.add_route("*", "/refuse", upstream.refuse)
    app.router.add_get("/endless", upstream.endless)
    app.router.add_get("/half", upstream.half)
    app.router.add_get("/socket", upstream.socket)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    try:
        async with aiohttp.ClientSession() as session:
            await asyncio.wait_for(work(session, f"http://{host}:{port}"), 20)
    finally:
        await runner.cleanup()


@pytest.fixture
def calls(usage_on: None, stub: AxiomStub, upstream: Upstream) -> Callable[[Work], list[ReceivedSpan]]:
    """Does some work with a session, and returns the upstream spans of it, by their start."""

    def perform(work: Work) -> list[ReceivedSpan]:
        asyncio.run(serving(upstream, work))
        assert guard.internal_errors() == {}
        usage.uninstrument()
        found = [span for span in stub.unique_spans if span.attributes["usage.kind"] == "upstream"]
        return sorted(found, key=lambda span: span.start_time)

    return perform


def test_a_call_is_named_by_the_context_of_its_traces(calls: Callable[[Work], list[ReceivedSpan]]) -> None:
    async def work(session: aiohttp.ClientSession, url: str) -> None:
        names = {"usage": {"provider": "pricing", "operation": "quote"}, "mine": 1}
        async with session.get(f"{url}/take", trace_request_ctx=names):
            pass
        with usage.upstream("warehouse", "stock"):
            async with session.get(f"{url}/take", trace_request_ctx={"usage": {"operation": "count"}}):
                pass
            async with session.get(f"{url}/take", trace_request_ctx=object()):
                pass

    assert [facts(span, "usage.provider", "usage.operation") for span in calls(work)] == [
        ("pricing", "quote"), ("warehouse", "count"), ("warehouse", "stock"),
    ]  # fmt: skip


async def parts() -> AsyncIterator[bytes]:
    for _ in range(3):
        yield b"p" * 1000


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (b"x" * 10, 10),
        ("grüß", 6),
        (parts, 3000),
        ({"field": "value"}, 11),
        (memoryview(b"x" * 7), 7),
        (None, 0),
    ],
    ids=["bytes", "text", "parts", "form", "memoryview", "none"],
)
def test_the_bytes_of_every_body_are_counted(
    calls: Callable[[Work], list[ReceivedSpan]], upstream: Upstream, data: Any, size: int
) -> None:
    async def work(session: aiohttp.ClientSession, url: str) -> None:
        async with session.post(f"{url}/take", data=data() if callable(data) else data) as response:
            assert await response.read() == b"taken"

    (span,) = calls(work)
    assert upstream.sizes == [size]
    assert facts(span, "http.request.body.size", "http.response.body.size") == (size, 5)


@pytest.mark.parametrize("data", [b"x" * 100_000, parts], ids=["whole", "parts"])
def test_a_body_that_is_compressed_on_its_way_counts_as_it_went(
    calls: Callable[[Work], list[ReceivedSpan]], data: Any
) -> None:
    async def work(session: aiohttp.ClientSession, url: str) -> None:
        async with session.post(f"{url}/take", data=data() if callable(data) else data, compress="gzip"):
            pass

    (span,) = calls(work)
    whole = data if isinstance(data, bytes) else b"p" * 3000
    assert 0 < int(str(span.attributes["http.request.body.size"])) < len(gzip.compress(whole)) + 50


@pytest.mark.filterwarnings("ignore:Unclosed:ResourceWarning")  # as aiohttp says, and rightly
def test_an_answer_that_nobody_reads_or_closes_is_given_up_when_its_session_ends(
    calls: Callable[[Work], list[ReceivedSpan]],
) -> None:
    async def work(_: aiohttp.ClientSession, url: str) -> None:
        async with aiohttp.ClientSession() as session:
            await session.get(f"{url}/endless")
        gc.collect()  # until then aiohttp itself holds it

    (span,) = calls(work)
    assert facts(span, "http.response.status_code", "usage.aborted", "error.type") == (200, True, None)


@contextmanager
def expiring(kind: str) -> Iterator[aiohttp.ClientTimeout]:
    """A limit of time that is over while a body is read, and raises."""
    limits = {"total": aiohttp.ClientTimeout(total=0.3), "socket": aiohttp.ClientTimeout(sock_read=0.3)}
    with pytest.raises(TimeoutError):
        yield limits.get(kind, aiohttp.ClientTimeout())


@pytest.mark.parametrize("kind", ["total", "socket", "application"])
@pytest.mark.parametrize("how", ["whole", "parts"])
def test_time_that_is_over_while_a_body_is_read_is_its_error(
    calls: Callable[[Work], list[ReceivedSpan]], kind: str, how: str
) -> None:
    async def read(session: aiohttp.ClientSession, url: str, limit: aiohttp.ClientTimeout) -> None:
        async with session.get(f"{url}/half", timeout=limit) as response:
            if how == "whole":
                await response.read()
            else:
                async for _ in response.content.iter_any():
                    pass

    async def work(session: aiohttp.ClientSession, url: str) -> None:
        with expiring(kind) as limit:
            async with asyncio.timeout(0.3 if kind == "application" else 15):
                await read(session, url, limit)

    (span,) = calls(work)
    assert facts(span, "http.response.status_code", "usage.aborted", "http.response.body.size") == (200, True, 500)
    assert span.attributes["error.type"] == {
        "total": "TimeoutError",
        "socket": "aiohttp.client_exceptions.SocketTimeoutError",
        "application": "asyncio.exceptions.CancelledError",
    }[kind]  # fmt: skip


def test_a_task_that_is_cancelled_before_there_is_an_answer_has_no_status(
    calls: Callable[[Work], list[ReceivedSpan]],
) -> None:
    async def work(session: aiohttp.ClientSession, url: str) -> None:
        sent = asyncio.Event()

        async def body() -> AsyncIterator[bytes]:
            yield b"first"
            sent.set()
            await asyncio.sleep(30)

        task = asyncio.create_task(session.post(f"{url}/take", data=body()).__aenter__())
        await sent.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    (span,) = calls(work)
    assert facts(span, "http.response.status_code", "error.type", "http.request.body.size") == (
        None, "asyncio.exceptions.CancelledError", 5,
    )  # fmt: skip


def test_an_error_of_the_applications_own_is_not_the_calls(calls: Callable[[Work], list[ReceivedSpan]]) -> None:
    async def work(session: aiohttp.ClientSession, url: str) -> None:
        with pytest.raises(LookupError):
            async with session.get(f"{url}/endless"):
                raise LookupError

    (span,) = calls(work)
    assert facts(span, "http.response.status_code", "error.type", "usage.aborted") == (200, None, True)


def test_the_upgrade_to_a_websocket_is_an_attempt(calls: Callable[[Work], list[ReceivedSpan]]) -> None:
    async def work(session: aiohttp.ClientSession, url: str) -> None:
        async with session.ws_connect(f"{url}/socket") as socket:
            await socket.send_str("hello")
            assert (await socket.receive(10)).data == "hello"

    (span,) = calls(work)
    assert facts(span, "http.response.status_code", "usage.aborted", "error.type") == (101, None, None)


def test_middlewares_of_the_session_and_of_the_call_run_as_ever(calls: Callable[[Work], list[ReceivedSpan]]) -> None:
    seen: list[str] = []

    def middleware(name: str) -> aiohttp.ClientMiddlewareType:
        async def run(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
            seen.append(name)
            return await handler(request)

        return run

    async def work(_: aiohttp.ClientSession, url: str) -> None:
        async with aiohttp.ClientSession(middlewares=[middleware("session's")]) as session:
            for own in (None, [middleware("call's")], []):
                async with session.get(f"{url}/take", middlewares=own):
                    pass

    assert len(calls(work)) == 3
    assert seen == ["session's", "call's"]


def test_what_the_application_sees_of_a_request_that_tells_the_customer_is_its_own(
    switch_on: Callable[..., None], stub: AxiomStub
) -> None:
    arrived: list[list[str]] = []

    async def taking(scope: Any, receive: Any, send: Any) -> None:
        arrived.append([value.decode() for name, value in scope["headers"] if name == b"baggage"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    switch_on(baggage_hosts={"127.0.0.1"}, baggage_key="k1:0123456789abcdef0123456789abcdef")
    headers, seen = {"baggage": "own=1"}, []

    async def again(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        (await handler(request)).release()
        seen.append(request.headers.getall("baggage"))
        return await handler(request)

    async def work(url: str) -> None:
        with usage.usage_span("work"):
            usage.identify(customer_id="acme", auth_kind="jwt", provenance="verified")
            async with (
                aiohttp.ClientSession() as session,
                session.get(url, headers=headers, middlewares=(again,)) as response,
            ):
                seen.append(response.request_info.headers.getall("baggage"))

    with serve_asgi(taking, ours=False, lifespan="off") as url:
        asyncio.run(work(url))
    assert seen == [["own=1"]] * 2
    assert headers == {"baggage": "own=1"}
    assert [(lines[0], "usage.customer.id=acme" in lines[1]) for lines in arrived] == [("own=1", True)] * 2


def test_a_session_and_an_answer_from_before_usage_was_switched_off_go_on(
    usage_on: None, stub: AxiomStub, upstream: Upstream
) -> None:
    async def work(session: aiohttp.ClientSession, url: str) -> None:
        async with session.get(f"{url}/half") as response:
            await asyncio.to_thread(usage.uninstrument)
            assert await response.content.readexactly(500) == b"h" * 500
        async with session.post(f"{url}/take", data=parts()) as response:
            assert await response.read() == b"taken"

    asyncio.run(serving(upstream, work))
    assert upstream.sizes == [3000]
    assert guard.internal_errors() == {}


def test_an_aiohttp_without_middlewares_is_left_alone(usage_on: None) -> None:
    async def older(self: object, method: str, str_or_url: str, *, params: Any = None) -> Any:
        return params

    assert asyncio.run(aiohttp_client._request(older)(None, "GET", "http://x", params=1)) == 1


def test_calls_of_several_loops_at_once_are_not_mixed_up(usage_on: None, stub: AxiomStub) -> None:
    def call(n: int) -> None:
        async def work(session: aiohttp.ClientSession, url: str) -> None:
            with usage.upstream("many", f"call-{n}"):
                async with session.post(f"{url}/take", data=b"x" * n):
                    pass

        asyncio.run(serving(Upstream(), work))

    threads = [threading.Thread(target=call, args=(n,)) for n in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    usage.uninstrument()
    calls = [span for span in stub.unique_spans if span.kind == "client"]  # whom they call is observed here, too
    found = {facts(span, "usage.operation", "http.request.body.size") for span in calls}
    assert found == {(f"call-{n}", n) for n in range(1, 5)}
