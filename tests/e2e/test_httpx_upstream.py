"""Calls with httpx and httpx2, sync and async, against real servers: one upstream span for each attempt."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import gzip
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from types import ModuleType
from typing import Any

import httpx
import httpx2
import pytest
from fastapi import FastAPI
from opentelemetry.instrumentation.utils import suppress_http_instrumentation, suppress_instrumentation

import otel_usage as usage
from otel_usage.testing import AxiomStub, ReceivedSpan
from tests.outside import unseen
from tests.servers import listening, serve_asgi

SLOW_HEAD, SLOW_BODY = 0.03, 0.06
"""Seconds that the slow answer of the upstream takes until its head, and from there to its last byte."""


TLS = ssl.create_default_context()
"""What a client makes for itself otherwise, in 20 ms."""


class Upstream:
    """An ASGI application that answers in every way that an upstream may. No hook sees it: it is somebody else's."""

    def __init__(self) -> None:
        self.url = ""
        self.failures = 0
        self.received = 0
        self.headers: dict[str, str] = {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: C901  # a table of answers
        if scope["type"] == "lifespan":
            return
        what, _, rest = scope["path"].strip("/").partition("/")
        self.headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.received = 0
        more = True
        while more and what != "hang":
            message = await receive()
            self.received += len(message.get("body", b""))
            more = message.get("more_body", False)

        async def head(status: int, *headers: tuple[bytes, bytes]) -> None:
            await send({"type": "http.response.start", "status": status, "headers": headers})

        async def body(data: bytes, more: bool = False) -> None:
            await send({"type": "http.response.body", "body": data, "more_body": more})

        match what:
            case "bytes":
                await head(200, (b"content-length", rest.encode()))
                await body(b"x" * int(rest))
            case "status":
                await head(int(rest), *([(b"content-length", b"0")] if rest not in ("204", "304") else []))
                await body(b"")
            case "redirect":
                await head(307, (b"location", f"/redirect/{int(rest) - 1}".encode() if rest != "1" else b"/bytes/10"))
                await body(b"moved")
            case "flaky":
                self.failures -= 1
                await head(503 if self.failures >= 0 else 200)
                await body(b"flaky")
            case "chunks":
                await head(200)
                for _ in range(int(rest)):
                    await body(b"y" * 1000, more=True)
                await body(b"")
            case "gzip":
                data = gzip.compress(b"z" * 100_000)
                await head(200, (b"content-encoding", b"gzip"), (b"x-size", str(len(data)).encode()))
                await body(data)
            case "slow":
                await asyncio.sleep(SLOW_HEAD)
                await head(200)
                await body(b"1", more=True)
                await asyncio.sleep(SLOW_BODY)
                await body(b"2")
            case "endless":
                await head(200)
                gone = asyncio.create_task(receive())
                while not gone.done():
                    await body(b"e" * 1000, more=True)
                    await asyncio.sleep(0)
            case "hang":
                while (await receive())["type"] != "http.disconnect":
                    pass


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    app = Upstream()
    with serve_asgi(app, ours=False, lifespan="off") as url:
        app.url = url
        yield app


@contextlib.contextmanager
def raw_server(answer: bytes) -> Iterator[str]:
    """A server that reads a request, sends these bytes and closes the connection."""
    sock = listening()

    def serve() -> None:
        while True:
            try:
                connection, _ = sock.accept()
            except OSError:
                return
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"
    finally:
        sock.shutdown(socket.SHUT_RDWR)
        sock.close()
        thread.join(5)


class Calls:
    """One library, sync or async, behind one async face, so that each promise is written once."""

    def __init__(self, library: ModuleType, *, asynchronous: bool) -> None:
        self.library = library
        self.asynchronous = asynchronous
        self.transport = library.AsyncHTTPTransport if asynchronous else library.HTTPTransport
        self.method = "handle_async_request" if asynchronous else "handle_request"

    @contextlib.asynccontextmanager
    async def client(self, **settings: Any) -> AsyncIterator[Any]:
        settings.setdefault("verify", TLS)
        if self.asynchronous:
            async with self.library.AsyncClient(**settings) as client:
                yield client
        else:
            with self.library.Client(**settings) as client:
                yield client

    async def done(self, result: Any) -> Any:
        """What a call returns, which async clients make one wait for."""
        return await result if self.asynchronous else result

    async def send(self, client: Any, method: str, url: str, **details: Any) -> Any:
        """The response with only its head read."""
        return await self.done(client.send(client.build_request(method, url, **details), stream=True))

    async def read(self, response: Any) -> bytes:
        return await self.done(response.aread() if self.asynchronous else response.read())

    async def close(self, response: Any) -> None:
        await self.done(response.aclose() if self.asynchronous else response.close())

    async def each(self, response: Any, kind: str) -> AsyncIterator[bytes]:
        """The parts of the body: ``kind`` is ``bytes``, ``raw``, ``lines`` or ``text``."""
        if self.asynchronous:
            async for part in getattr(response, f"aiter_{kind}")():
                yield part
        else:
            for part in getattr(response, f"iter_{kind}")():
                yield part

    def body(self, *parts: bytes) -> Any:
        """A request's body that comes in parts, with no length told."""

        def generate() -> Iterator[bytes]:
            yield from parts

        async def agenerate() -> AsyncIterator[bytes]:
            for part in parts:
                yield part

        return agenerate() if self.asynchronous else generate()

    def around(self, transport: Any, handle: Callable[[Callable[[Any], Any], Any], Awaitable[Any]]) -> Any:
        """A transport of the application's own around ``transport``: no subclass of the library's transports."""
        calls = self

        async def forward(request: Any) -> Any:
            return await calls.done(getattr(transport, calls.method)(request))

        class Sync(self.library.BaseTransport):
            def handle_request(self, request: Any) -> Any:
                step = handle(forward, request).__await__()
                try:
                    next(step)
                except StopIteration as end:
                    return end.value
                raise AssertionError("sync calls do not wait")

            def close(self) -> None:
                transport.close()

        class Async(self.library.AsyncBaseTransport):
            async def handle_async_request(self, request: Any) -> Any:
                return await handle(forward, request)

            async def aclose(self) -> None:
                await transport.aclose()

        return Async() if self.asynchronous else Sync()


@pytest.fixture(
    params=[(httpx, False), (httpx, True), (httpx2, False), (httpx2, True)],
    ids=["httpx", "httpx-async", "httpx2", "httpx2-async"],
)
def calls(request: pytest.FixtureRequest) -> Calls:
    library, asynchronous = request.param
    return Calls(library, asynchronous=asynchronous)


def on_a_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Runs an async test."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


def recorded(stub: AxiomStub, n: int = 1) -> list[ReceivedSpan]:
    """The spans that were recorded: these and no more."""
    assert usage.flush(5).complete
    assert len(stub.spans) == n, [span.name for span in stub.spans]
    return stub.spans


def one(stub: AxiomStub) -> ReceivedSpan:
    return recorded(stub)[0]


def size(span: ReceivedSpan) -> tuple[Any, Any]:
    """Bytes of the request's and the response's body."""
    return span.attributes["http.request.body.size"], span.attributes["http.response.body.size"]


pytestmark = pytest.mark.usefixtures("usage_on")


class TestTheSpan:
    """One call, one span, with what is known of it."""

    @on_a_loop
    async def test_a_call_is_one_span_with_host_method_status_and_sizes(
        self, calls: Calls, stub: AxiomStub, upstream: Upstream
    ) -> None:
        async with calls.client() as client:
            response = await calls.done(client.post(f"{upstream.url}/bytes/1234?secret=1", content=b"hello"))
        assert len(response.content) == 1234
        span = one(stub)
        assert (span.name, span.kind, span.parent_span_id, span.status_code) == ("127.0.0.1", "client", None, "unset")
        time_to_first_byte = span.attributes["usage.time_to_first_byte"]
        assert isinstance(time_to_first_byte, float)
        assert 0 < time_to_first_byte * 1e9 <= span.duration
        assert {key: value for key, value in span.attributes.items() if key != "usage.time_to_first_byte"} == {
            "usage.kind": "upstream",
            "usage.identity.provenance": "unavailable",
            "usage.provider": "127.0.0.1",
            "http.request.method": "POST",
            "server.address": "127.0.0.1",
            "http.response.status_code": 200,
            "http.request.body.size": 5,
            "http.response.body.size": 1234,
        }

    @pytest.mark.parametrize(("code", "failed"), [(204, False), (304, False), (404, True), (429, True), (503, True)])
    @on_a_loop
    async def test_a_bad_status_is_an_error_of_that_name(
        self, calls: Calls, stub: AxiomStub, upstream: Upstream, code: int, failed: bool
    ) -> None:
        async with calls.client() as client:
            await calls.done(client.get(f"{upstream.url}/status/{code}"))
        span = one(stub)
        assert span.attributes["http.response.status_code"] == code
        assert span.status_code == ("error" if failed else "unset")
        assert span.attributes.get("error.type") == (str(code) if failed else None)
        assert "usage.aborted" not in span.attributes

    @on_a_loop
    async def test_the_module_level_functions_are_seen_too(
        self, calls: Calls, stub: AxiomStub, upstream: Upstream
    ) -> None:
        response = await asyncio.to_thread(calls.library.get, f"{upstream.url}/bytes/3")
        assert response.content == b"xxx"
        assert size(one(stub)) == (0, 3)

    @on_a_loop
    async def test_the_duration_runs_to_the_last_byte_and_the_head_has_a_time_of_its_own(
        self, calls: Calls, stub: AxiomStub, upstream: Upstream
    ) -> None:
        async with calls.client() as client:
            await calls.done(client.get(f"{upstream.url}/slow"))
        span = one(stub)
        first = float(span.attributes["usage.time_to_first_byte"])
        assert first >= SLOW_HEAD
        assert span.duration / 1e9 >= first + SLOW_BODY * 0.9, "the server's clock ticks a little differently"

    @on_a_loop
    async def test_a_span_ends_with_the_last_byte_and_not_when_the_response_is_closed(
        self, calls: Calls, stub: AxiomStub, upstream: Upstream
    ) -> None:
        async def hold_back(forward: Callable[[Any], Any], request: Any) -> Any:
            response = await forward(request)
            if calls.asynchronous:
                content = b"".join([part async for part in response.stream])
            else:
                content = b"".join(response.stream)
            assert usage.flush().accepted == 1, "recorded, although nobody has closed it"
            await calls.done(response.stream.aclose() if calls.asynchronous else response.stream.close())
            return calls.library.Response(response.status_code, content=content)

        async with calls.client(transport=calls.around(calls.transport(verify=TLS), hold_back)) as client:
            assert (await calls.done(client.get(f"{upstream.url}/chunks/3"))).content == b"y" * 3000
        span = one(stub)
        assert size(span) == (0, 3000)
        assert "usage.aborted" not in span.attributes


class TestAttempts:
    """Redirects and retries: each is a span of its own."""

    @on_a_loop
    async def test_each_hop_of_a_redirect_is_an_attempt(
        self, calls: Calls, stub: AxiomStub, upstream: Upstream
    ) -> None:
        async with calls.client(follow_redirects=True) as client:
            response = await calls.done(client.post(f"{upstream.url}/redirect/2", content=b"four"))
        assert len(response.history) == 2
        spans = recorded(stub, 3)
        assert [span.attributes["http.response.status_code"] for span in spans] == [307, 307, 200]
        assert [span.attributes.get("http.request.resend_count") for span in spans] == [None, 1, 2]
        assert [size(span) for span in spans] == [(4, 5), (4, 5), (4, 10)]

    @on_a_loop
    async def test_each_retry_of_a_transport_of_ones_own_is_an_attempt(
        self, calls: Calls, stub: AxiomStub, upstream: Upstream
    ) -> None:
        async def retry(forward: Callable[[Any], Any], request: Any) -> Any:
            for _ in range(5):
                response = await forward(request)
                if response.status_code != 503:
                    break
                await calls.done(response.aread() if calls.asynchronous else response.read())
            return response

        upstream.failures = 2
        async with calls.client(transport=calls.around(calls.transport(verify=TLS), retry)) as client:
            response = await calls.done(
                client.post(f"{upstream.url}/flaky", content=b"body", extensions={"usage": {"operation": "quote"}})
            )
        assert response.status_code == 200
        spans = recorded(stub, 3)
        assert [span.attributes["http.response.status_code"] for span in spans] == [503, 503, 200]
        assert [span.attributes.get("http.request.resend_count") for span in spans] == [None, 1, 2]
        assert [size(span) for span in spans] == [(4, 5)] * 3
        assert {span.name for span in spans} == {"127.0.0.1 quote"}

    @on_a_loop
    async def test_connection_retries_beneath_the_transport_are_one_attempt(
        self, calls: Calls, stub: AxiomStub
    ) -> None:
        with contextlib.closing(socket.socket()) as unused:
            unused.bind(("127.0.0.1", 0))
            async with calls.client(transport=calls.transport(retries=1, verify=TLS)) as client:
                with pytest.raises(calls.library.ConnectError):
                    await calls.done(client.get(f"http://127.0.0.1:{unused.getsockname()[1]}/"))
        assert one(stub).attributes["error.type"] == f"{calls.library.__name__}.ConnectError"

    @on_a_loop
    async def test_two_calls_are_no_resending(self, calls: Calls, stub: AxiomStub, upstream: Upstream) -> None:
        extensions = {"usage": {"provider": "yahoo-finance"}}
        async with calls.client() as client:
            for _ in range(2):
                await calls.done(client.get(f"{upstream.url}/bytes/1", extensions=extensions))
        assert [span.attributes.get("http.request.resend_count") for span in recorded(stub, 2)] == [None, None]
        assert extensions == {"usage": {"provider": "yahoo-finance"}}, "the caller's own dict is left alone"

    @on_a_loop
    async def test_concurrent_calls_do_not_mix(self, calls: Calls, stub: AxiomStub, upstream: Upstream) -> None:
        async with calls.client() as client:

            async def call(n: int) -> None:
                extensions = {"usage": {"operation": f"op{n}"}}
                if calls.asynchronous:
                    await client.post(f"{upstream.url}/bytes/{n}", content=b"b" * n * 2, extensions=extensions)
                else:
                    post = functools.partial(client.post, content=b"b" * n * 2, extensions=extensions)
                    await asyncio.to_thread(post, f"{upstream.url}/bytes/{n}")

            await asyncio.gather(*(call(n) for n in range(1, 21)))
        found = {span.attributes["usage.operation"]: size(span) for span in recorded(stub, 20)}
        assert found == {f"op{n}": (n * 2, n) for n in range(1, 21)}


class TestBytes:
    """Counted, and not taken from a header."""

    @on_a_loop
    async def test_a_body_that_comes_in_parts_is_counted(
        self, calls: Calls, stub: AxiomStub, upstream: Upstream
    ) -> None:
        async with calls.client() as client:
            await calls.done(client.post(f"{upstream.url}/bytes/1", content=calls.body(b"abc", b"", b"de" * 500)))
        assert upstream.headers["transfer-encoding"] == "chunked"
        assert size(one(stub)) == (1003, 1)
        assert upstream.received == 1003

    @on_a_loop
    async def test_forms_and_files_are_counted_with_all_that_is_around_them(
        self, calls: Calls, stub: AxiomStub, upstream: Upstream
    ) -> None:
        async with calls.client() as client:
            files = {"file": ("größe.csv", b"a;b\n" * 1000, "text/csv")}
            await calls.done(client.post(f"{upstream.url}/bytes/1", data={"name": "ü"}, files=files))
        assert upstream.received > 4000
        assert size(one(stub)) == (upstream.received, 1)

    @on_a_loop
    async def test_json_is_counted_in_bytes_and_not_in_characters(
        self, calls: Calls, stub: AxiomStub, upstream: Upstream
    ) -> None:
        async with calls.client() as client:
            await calls.done(client.put(f"{upstream.url}/bytes/0", json={"name": "€" * 10}))
        assert upstream.received > 30
        assert size(one(stub)) == (upstream.received, 0)

    @on_a_loop
    async def test_a_compressed_answer_counts_as_it_came_over_the_wire(
        self, calls: Calls, stub: AxiomStub, upstream: Upstream
    ) -> None:
        async with calls.client() as client:
            response = await calls.done(client.get(f"{upstream.url}/gzip"))
        assert response.content == b"z" * 100_000
        on_the_wire = int(response.headers["x-size"])
        assert on_the_wire < 1000
        assert size(one(stub)) == (0, on_the_wire)
        assert response.num_bytes_downloaded == on_the_wire

    @pytest.mark.parametrize("kind", ["bytes", "raw", "text", "lines"])
    @on_a_loop
    async def test_a_streamed_answer_is_counted_to_its_last_byte(
        self, calls: Calls, stub: AxiomStub, upstream: Upstream, kind: str
    ) -> None:
        async with calls.client() as client:
            response = await calls.send(client, "GET", f"{upstream.url}/chunks/50")
            assert not usage.flush().accepted, "nothing is recorded before the end"
            parts = [part async for part in calls.each(response, kind)]
            assert sum(map(len, parts)) == 50_000
        span = one(stub)
        assert size(span) == (0, 50_000)
        assert "usage.aborted" not in span.attributes

    @on_a_loop
    async def test_an_answer_that_is_closed_early_is_aborted(
        self, calls: Calls, stub: AxiomStub, upstream: Upstream
    ) -> None:
        async with calls.client() as client:
            response = await calls.send(client, "GET", f"{upstream.url}/chunks/3000")
            async with contextlib.aclosing(calls.each(response, "raw")) as parts:
                read = len(await anext(parts))
            await calls.close(response)
        span = one(stub)
        assert span.attributes["usage.aborted"] is True
        assert read <= int(span.attributes["http.response.body.size"]) < 3_000_000
        assert "error.type" not in span.attributes

    @on_a_loop
    async def test_an_answer_that_is_never_read_is_aborted_unless_there_was_nothing_to_read(
        self, calls: Calls, stub: AxiomStub, upstream: Upstream
    ) -> None:
        async with calls.client() as client:
            for method, path in (
                ("GET", "bytes/9000"),
                ("HEAD", "bytes/9000"),
                ("GET", "status/204"),
                ("GET", "bytes/0"),
            ):
                await calls.close(await calls.send(client, method, f"{upstream.url}/{path}"))
        assert [span.attributes.get("usage.aborted") for span in recorded(stub, 4)] == [True, None, None, None]

    @on_a_loop
    async def test_a_connection_that_becomes_another_protocol_is_not_aborted_when_it_is_closed(
        self, calls: Calls, stub: AxiomStub
    ) -> None:
        with raw_server(
            b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\nhello"
        ) as url:
            async with calls.client() as client:
                headers = {"connection": "upgrade", "upgrade": "echo"}
                response = await calls.send(client, "GET", url, headers=headers)
                assert response.status_code == 101
                assert "network_stream" in response.extensions
                await calls.close(response)
        span = one(stub)
        assert span.attributes["http.response.status_code"] == 101
        assert "usage.aborted" not in span.attributes

    @on_a_loop
    async def test_a_reader_that_stops_at_the_last_byte_has_read_it_all(
        self, calls: Calls, stub: AxiomStub, upstream: Upstream
    ) -> None:
        async with calls.client() as client:
            response = await calls.send(client, "GET", f"{upstream.url}/bytes/7")
            async with contextlib.aclosing(calls.each(response, "raw")) as parts:
                assert await anext(parts) == b"x" * 7
            await calls.close(response)
        assert "usage.aborted" not in one(stub).attributes

    @on_a_loop
    async def test_how_much_there_is_to_read_was_said_by_the_head_that_came_whatever_became_of_it(
        self, calls: Calls, stub: AxiomStub, upstream: Upstream
    ) -> None:
        async with calls.client() as client:
            for said in (None, "8", "6"):
                response = await calls.send(client, "GET", f"{upstream.url}/bytes/7")
                del response.headers["content-length"]
                if said is not None:
                    response.headers["content-length"] = said
                async with contextlib.aclosing(calls.each(response, "raw")) as parts:
                    assert await anext(parts) == b"x" * 7
                await calls.close(response)
        assert [span.attributes.get("usage.aborted") for span in recorded(stub, 3)] == [None] * 3

    @pytest.mark.filterwarnings("ignore::ResourceWarning")
    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    @on_a_loop
    async def test_an_answer_that_is_never_closed_is_recorded_when_it_is_collected(
        self, calls: Calls, stub: AxiomStub, upstream: Upstream
    ) -> None:
        async with calls.client() as client:
            response = await calls.send(client, "GET", f"{upstream.url}/bytes/70000")
            gc.collect()
            assert not usage.flush().accepted
            del response
            gc.collect()
            span = one(stub)
        assert span.attributes["usage.aborted"] is True
        assert span.attributes["http.response.status_code"] == 200

    @on_a_loop
    async def test_an_answer_of_megabytes_is_counted_to_the_byte(
        self, calls: Calls, stub: AxiomStub, upstream: Upstream
    ) -> None:
        async with calls.client() as client:
            await calls.done(client.post(f"{upstream.url}/bytes/5000001", content=b"u" * 3_000_001))
        assert size(one(stub)) == (3_000_001, 5_000_001)


class TestFailures:
    """An attempt without an answer, or with half of one."""

    @on_a_loop
    async def test_a_host_that_refuses_is_a_connect_error(self, calls: Calls, stub: AxiomStub) -> None:
        with contextlib.closing(socket.socket()) as unused:
            unused.bind(("127.0.0.1", 0))
            async with calls.client() as client:
                with pytest.raises(calls.library.ConnectError):
                    await calls.done(client.post(f"http://127.0.0.1:{unused.getsockname()[1]}/", content=b"never sent"))
        span = one(stub)
        assert span.attributes["error.type"] == f"{calls.library.__name__}.ConnectError"
        assert span.status_code == "error"
        assert size(span) == (0, 0)
        assert not {"http.response.status_code", "usage.time_to_first_byte", "usage.aborted"} & span.attributes.keys()

    @on_a_loop
    async def test_an_answer_that_does_not_come_is_a_read_timeout(
        self, calls: Calls, stub: AxiomStub, upstream: Upstream
    ) -> None:
        async with calls.client(timeout=0.05) as client:
            with pytest.raises(calls.library.ReadTimeout):
                await calls.done(client.post(f"{upstream.url}/hang", content=b"sent"))
        span = one(stub)
        assert span.attributes["error.type"] == f"{calls.library.__name__}.ReadTimeout"
        assert size(span) == (4, 0)
        assert span.duration >= 0.05e9

    @on_a_loop
    async def test_a_server_that_hangs_up_is_a_protocol_error(self, calls: Calls, stub: AxiomStub) -> None:
        with raw_server(b"") as url:
            async with calls.client() as client:
                with pytest.raises(calls.library.RemoteProtocolError):
                    await calls.done(client.get(url))
        assert one(stub).attributes["error.type"] == f"{calls.library.__name__}.RemoteProtocolError"

    @on_a_loop
    async def test_a_body_that_breaks_off_is_an_aborted_answer_with_the_error_and_the_bytes_that_came(
        self, calls: Calls, stub: AxiomStub
    ) -> None:
        with raw_server(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly this") as url:
            async with calls.client() as client:
                with pytest.raises(calls.library.RemoteProtocolError):
                    await calls.done(client.get(url))
        span = one(stub)
        assert span.attributes["error.type"] == f"{calls.library.__name__}.RemoteProtocolError"
        assert span.attributes["http.response.status_code"] == 200
        assert span.attributes["usage.aborted"] is True
        assert size(span) == (0, 9)
        assert span.status_code == "error"

    @on_a_loop
    async def test_an_unknown_scheme_or_method_costs_nothing_but_its_span(
        self, calls: Calls, stub: AxiomStub, upstream: Upstream
    ) -> None:
        async with calls.client() as client:
            with pytest.raises(calls.library.UnsupportedProtocol):
                await calls.done(client.get("gopher://example.com/"))
            await calls.done(client.request("PROPFIND", f"{upstream.url}/bytes/1"))
        first, second = recorded(stub, 2)
        assert first.attributes["error.type"] == f"{calls.library.__name__}.UnsupportedProtocol"
        assert second.attributes["http.request.method"] == "_OTHER"

    @pytest.mark.parametrize("library", [httpx, httpx2])
    @pytest.mark.parametrize(("path", "status"), [("hang", None), ("endless", 200)])
    @on_a_loop
    async def test_a_cancelled_call_is_recorded_as_cancelled(
        self, stub: AxiomStub, upstream: Upstream, library: ModuleType, path: str, status: int | None
    ) -> None:
        async with library.AsyncClient(verify=TLS) as client:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await client.get(f"{upstream.url}/{path}")
        span = one(stub)
        assert span.attributes["error.type"] == "asyncio.exceptions.CancelledError"
        assert span.attributes.get("http.response.status_code") == status
        assert span.attributes.get("usage.aborted") == (True if status else None)


class TestNames:
    """Who was called, and what was asked of them."""

    @on_a_loop
    async def test_the_call_may_say_it_itself(self, calls: Calls, stub: AxiomStub, upstream: Upstream) -> None:
        said = {"provider": "yahoo-finance", "operation": "quote", "cache_status": "miss"}
        async with calls.client() as client:
            await calls.done(client.get(f"{upstream.url}/bytes/1", extensions={"usage": said}))
        span = one(stub)
        assert span.name == "yahoo-finance quote"
        assert [span.attributes[f"usage.{key}"] for key in ("provider", "operation", "cache.status")] == [
            "yahoo-finance", "quote", "miss",
        ]  # fmt: skip
        assert span.attributes["server.address"] == "127.0.0.1"

    @on_a_loop
    async def test_a_block_names_all_calls_within(self, calls: Calls, stub: AxiomStub, upstream: Upstream) -> None:
        async with calls.client() as client:
            with usage.upstream("yahoo-finance", "quote", cache_status="stale-while-revalidate"):
                for _ in range(2):
                    await calls.done(client.get(f"{upstream.url}/bytes/1"))
            await calls.done(client.get(f"{upstream.url}/bytes/1"))
        spans = recorded(stub, 3)
        assert [span.name for span in spans] == ["yahoo-finance quote", "yahoo-finance quote", "127.0.0.1"]
        assert spans[0].attributes["usage.cache.status"] == "stale-while-revalidate"

    @on_a_loop
    async def test_the_nearer_name_goes_first_and_the_farther_one_fills_in(
        self, calls: Calls, stub: AxiomStub, upstream: Upstream
    ) -> None:
        async with calls.client() as client:
            with usage.upstream("outer", "far"):
                with usage.upstream("inner", "near"):
                    await calls.done(client.get(f"{upstream.url}/bytes/1"))
                await calls.done(client.get(f"{upstream.url}/bytes/1", extensions={"usage": {"operation": "nearest"}}))
                await calls.done(client.get(f"{upstream.url}/bytes/1", extensions={"usage": {"provider": "own"}}))
        assert [span.name for span in recorded(stub, 3)] == ["inner near", "outer nearest", "own far"]

    @on_a_loop
    async def test_nonsense_in_the_extension_harms_neither_the_call_nor_its_span(
        self, calls: Calls, stub: AxiomStub, upstream: Upstream
    ) -> None:
        nonsense: tuple[Any, ...] = (None, "quote", 7, {"provider": 7}, {"provider": "p" * 300, "operation": ["x"]}, {})
        async with calls.client() as client:
            for said in nonsense:
                response = await calls.done(client.get(f"{upstream.url}/bytes/1", extensions={"usage": said}))
                assert response.content == b"x"
        spans = recorded(stub, len(nonsense))
        assert {span.name for span in spans} <= {"127.0.0.1", "upstream"}
        assert usage.health().attributes_dropped == {"usage.provider": 2, "usage.operation": 1}
        assert usage.health().internal_errors == {}

    @on_a_loop
    async def test_a_block_that_is_entered_again_and_shared_by_tasks_names_each_call(
        self, calls: Calls, stub: AxiomStub, upstream: Upstream
    ) -> None:
        shared = usage.upstream("yahoo-finance")
        async with calls.client() as client:

            async def call() -> None:
                with shared:
                    await calls.done(client.get(f"{upstream.url}/bytes/1"))
                await calls.done(client.get(f"{upstream.url}/bytes/2"))

            await asyncio.gather(call(), call(), call())
        assert sorted(span.name for span in recorded(stub, 6)) == ["127.0.0.1"] * 3 + ["yahoo-finance"] * 3


@pytest.mark.parametrize(
    ("host", "provider"),
    [
        ("api.example.com", "exact"),
        ("a.example.com", "suffix"),
        ("b.a.example.com", "suffix"),
        ("x.deep.example.com", "deeper"),
        ("example.com", "example.com"),
        ("notexample.com", "notexample.com"),
        ("API.EXAMPLE.COM", "exact"),
    ],
)
@pytest.mark.parametrize("library", [httpx, httpx2])
def test_the_settings_name_providers_by_host(
    switch_on: Callable[..., None], stub: AxiomStub, library: ModuleType, host: str, provider: str
) -> None:
    usage.uninstrument()
    switch_on(
        providers={"api.example.com": "exact", "*.example.com": "suffix", "*.deep.example.com": "deeper", "other": "x"}
    )
    with library.Client(transport=library.MockTransport(lambda request: library.Response(200))) as client:
        client.get(f"http://{host}:8080/path")
    span = one(stub)
    assert (span.name, span.attributes["usage.provider"]) == (provider, provider)
    assert span.attributes["server.address"] == host.lower()


class TestBlocksThatNoHookSees:
    """``with upstream(…)`` around another client."""

    def test_the_block_is_one_span_without_bytes(self, stub: AxiomStub, upstream: Upstream) -> None:
        with usage.upstream("yahoo-finance", "slow"):
            unseen(f"{upstream.url}/slow")
        span = one(stub)
        assert (span.name, span.kind) == ("yahoo-finance slow", "client")
        assert span.duration / 1e9 >= (SLOW_HEAD + SLOW_BODY) * 0.9
        assert not {"http.request.body.size", "http.request.method", "server.address"} & span.attributes.keys()

    def test_an_error_passes_through_and_is_named(self, stub: AxiomStub) -> None:
        with pytest.raises(ZeroDivisionError), usage.upstream("yahoo-finance"):
            _ = 1 / 0
        span = one(stub)
        assert (span.attributes["error.type"], span.status_code) == ("ZeroDivisionError", "error")

    def test_a_generator_that_is_closed_in_another_context_is_recorded_and_raises_nothing(
        self, stub: AxiomStub
    ) -> None:
        async def body() -> AsyncIterator[int]:
            with usage.upstream("yahoo-finance"):
                yield 1
                yield 2

        async def main() -> None:
            parts = body()
            await asyncio.create_task(anext(parts))
            await asyncio.create_task(parts.aclose())

        asyncio.run(main())
        assert one(stub).name == "yahoo-finance"


class TestOtherTransports:
    """Mocks, and applications that are called without a socket."""

    @on_a_loop
    async def test_a_mock_is_seen_with_the_sizes_of_both_bodies(self, calls: Calls, stub: AxiomStub) -> None:
        library = calls.library

        def answer(request: Any) -> Any:
            assert request.content in (b"in memory", b"streamed")
            return library.Response(201, content=b"hello")

        async with calls.client(transport=library.MockTransport(answer)) as client:
            response = await calls.done(client.post("http://mock.test/", content=b"in memory"))
            assert response.content == b"hello"
            await calls.done(client.post("http://mock.test/", content=calls.body(b"stre", b"amed")))
        spans = recorded(stub, 2)
        assert [size(span) for span in spans] == [(9, 5), (8, 5)]
        assert spans[0].attributes["server.address"] == "mock.test"
        assert spans[0].attributes["http.response.status_code"] == 201

    @on_a_loop
    async def test_a_mock_that_streams_is_counted(self, calls: Calls, stub: AxiomStub) -> None:
        library = calls.library
        transport = library.MockTransport(lambda request: library.Response(200, content=calls.body(b"abc", b"def")))
        async with calls.client(transport=transport) as client:
            assert (await calls.done(client.get("http://mock.test/"))).content == b"abcdef"
        assert size(one(stub)) == (0, 6)

    @on_a_loop
    async def test_a_mock_that_raises_is_an_error(self, calls: Calls, stub: AxiomStub) -> None:
        def fail(request: Any) -> Any:
            raise calls.library.ConnectTimeout("no route", request=request)

        async with calls.client(transport=calls.library.MockTransport(fail)) as client:
            with pytest.raises(calls.library.ConnectTimeout, match="no route"):
                await calls.done(client.get("http://mock.test/"))
        assert one(stub).attributes["error.type"] == f"{calls.library.__name__}.ConnectTimeout"

    @pytest.mark.parametrize("library", [httpx, httpx2])
    @on_a_loop
    async def test_an_asgi_application_that_is_called_directly_is_seen(
        self, stub: AxiomStub, library: ModuleType
    ) -> None:
        async with library.AsyncClient(transport=library.ASGITransport(Upstream())) as client:
            response = await client.post("http://app.test/bytes/12", content=b"hello")
        assert response.content == b"x" * 12
        span = one(stub)
        assert size(span) == (5, 12)
        assert span.attributes["server.address"] == "app.test"

    @pytest.mark.parametrize("library", [httpx, httpx2])
    def test_a_wsgi_application_that_is_called_directly_is_seen(self, stub: AxiomStub, library: ModuleType) -> None:
        def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
            start_response("200 OK", [("content-type", "text/plain")])
            return [environ["wsgi.input"].read() * 2]

        with library.Client(transport=library.WSGITransport(app)) as client:
            assert client.post("http://app.test/", content=b"hello").content == b"hellohello"
        assert size(one(stub)) == (5, 10)

    @on_a_loop
    async def test_a_transport_of_ones_own_that_answers_itself_is_not_seen(self, calls: Calls, stub: AxiomStub) -> None:
        # A limit of hooking the library's transports. What `with upstream(…)` is for.
        async def answer(forward: Callable[[Any], Any], request: Any) -> Any:
            return calls.library.Response(200, content=b"from a cache")

        async with calls.client(transport=calls.around(calls.transport(verify=TLS), answer)) as client:
            await calls.done(client.get("http://cache.test/"))
            assert usage.flush().accepted == 0
            with usage.upstream("cache"):
                await calls.done(client.get("http://cache.test/"))
        assert one(stub).name == "cache"

    @on_a_loop
    async def test_a_subclass_that_calls_its_base_is_seen_once_for_each_attempt(
        self, calls: Calls, stub: AxiomStub, upstream: Upstream
    ) -> None:
        class Twice(calls.transport):
            def handle_request(self, request: Any) -> Any:
                super().handle_request(request).close()
                return super().handle_request(request)

            async def handle_async_request(self, request: Any) -> Any:
                await (await super().handle_async_request(request)).aclose()
                return await super().handle_async_request(request)

        async with calls.client(transport=Twice(verify=TLS)) as client:
            await calls.done(client.get(f"{upstream.url}/bytes/1"))
        assert [span.attributes.get("http.request.resend_count") for span in recorded(stub, 2)] == [None, 1]


class TestTheApplicationNoticesNothing:
    """Requests and responses behave as they do without us."""

    @on_a_loop
    async def test_a_request_keeps_its_own_stream(self, calls: Calls, stub: AxiomStub, upstream: Upstream) -> None:
        async with calls.client() as client:
            request = client.build_request("POST", f"{upstream.url}/bytes/1", content=b"hello")
            stream = request.stream
            await calls.done(client.send(request))
            assert request.stream is stream
            await calls.done(client.send(request))
            with contextlib.closing(socket.socket()) as unused:
                unused.bind(("127.0.0.1", 0))
                failing = client.build_request(
                    "POST", f"http://127.0.0.1:{unused.getsockname()[1]}/", content=calls.body(b"x")
                )
                stream = failing.stream
                with pytest.raises(calls.library.ConnectError):
                    await calls.done(client.send(failing))
                assert failing.stream is stream
        assert [span.attributes["http.request.body.size"] for span in recorded(stub, 3)] == [5, 5, 0]

    @on_a_loop
    async def test_a_response_can_be_read_and_asked_as_ever(
        self, calls: Calls, stub: AxiomStub, upstream: Upstream
    ) -> None:
        async with calls.client() as client:
            response = await calls.send(client, "GET", f"{upstream.url}/chunks/3")
            assert not response.is_closed
            with pytest.raises(calls.library.ResponseNotRead):
                _ = response.content
            assert await calls.read(response) == b"y" * 3000
            assert response.is_closed
            assert response.is_stream_consumed
            assert response.num_bytes_downloaded == 3000
            assert response.elapsed.total_seconds() > 0
            assert [part async for part in calls.each(response, "bytes")] == [b"y" * 3000], "from memory"
            with pytest.raises(calls.library.StreamConsumed):
                [part async for part in calls.each(response, "raw")]

            streamed = await calls.send(client, "GET", f"{upstream.url}/chunks/3")
            assert b"".join([part async for part in calls.each(streamed, "raw")]) == b"y" * 3000
            assert streamed.num_bytes_downloaded == 3000
            with pytest.raises(calls.library.StreamConsumed):
                await calls.read(streamed)

            closed = await calls.send(client, "GET", f"{upstream.url}/chunks/3")
            await calls.close(closed)
            with pytest.raises(calls.library.StreamClosed):
                await calls.read(closed)
        recorded(stub, 3)

    @on_a_loop
    async def test_connections_go_back_to_the_pool(self, calls: Calls, stub: AxiomStub, upstream: Upstream) -> None:
        limits = calls.library.Limits(max_connections=1)
        async with calls.client(limits=limits, timeout=calls.library.Timeout(5, pool=0.5)) as client:
            for path in ("bytes/10", "chunks/5", "status/404", "gzip", "bytes/0"):
                await calls.done(client.get(f"{upstream.url}/{path}"))
            await calls.close(await calls.send(client, "GET", f"{upstream.url}/bytes/900000"))
            assert (await calls.done(client.get(f"{upstream.url}/bytes/1"))).content == b"x"
        recorded(stub, 7)

    @on_a_loop
    async def test_nothing_is_added_to_what_is_sent(self, calls: Calls, stub: AxiomStub, upstream: Upstream) -> None:
        async with calls.client() as client:
            await calls.done(client.get(f"{upstream.url}/bytes/1"))
            with_usage = upstream.headers
            usage.uninstrument()
            await calls.done(client.get(f"{upstream.url}/bytes/1"))
        assert with_usage == upstream.headers

    @on_a_loop
    async def test_a_call_within_suppressed_instrumentation_is_not_recorded(
        self, calls: Calls, stub: AxiomStub, upstream: Upstream
    ) -> None:
        async with calls.client() as client:
            for suppress in (suppress_instrumentation, suppress_http_instrumentation):
                with suppress():
                    await calls.done(client.get(f"{upstream.url}/bytes/1"))
        recorded(stub, 0)

    @on_a_loop
    async def test_a_client_that_outlives_usage_goes_on(
        self, calls: Calls, stub: AxiomStub, upstream: Upstream, switch_on: Callable[..., None]
    ) -> None:
        async with calls.client() as client:
            response = await calls.send(client, "GET", f"{upstream.url}/chunks/5")
            usage.uninstrument()
            assert await calls.read(response) == b"y" * 5000, "begun while usage was on, ended when it was off"
            await calls.done(client.get(f"{upstream.url}/bytes/1"))
            switch_on()
            await calls.done(client.get(f"{upstream.url}/bytes/2"))
        assert size(one(stub)) == (0, 2)

    @on_a_loop
    async def test_a_hook_that_a_foreign_closure_hides_is_not_counted_twice_when_usage_is_switched_on_again(
        self, calls: Calls, stub: AxiomStub, upstream: Upstream, switch_on: Callable[..., None]
    ) -> None:
        original = vars(calls.transport)[calls.method].__wrapped__
        beneath = getattr(calls.transport, calls.method)
        setattr(calls.transport, calls.method, lambda self, request: beneath(self, request))  # noqa: PLW0108  # the point
        try:
            usage.uninstrument()
            switch_on()
            async with calls.client() as client:
                await calls.done(client.get(f"{upstream.url}/bytes/1"))
            one(stub)
        finally:
            usage.uninstrument()
            setattr(calls.transport, calls.method, original)


class TestWithinARequest:
    """What a call inherits from the request that it is made for, and what it adds to it."""

    @pytest.mark.parametrize("late", [False, True], ids=["known-before", "known-after"])
    @pytest.mark.parametrize("library", [httpx, httpx2])
    @pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
    def test_a_call_inherits_customer_tier_route_and_request_id_and_is_rolled_up(
        self, stub: AxiomStub, upstream: Upstream, library: ModuleType, asynchronous: bool, late: bool
    ) -> None:
        app = FastAPI()

        def who() -> None:
            usage.identify(customer_id="acme", tier=2, plan="api_pro", auth_kind="jwt", provenance="verified")

        def handler(n: int) -> dict[str, int]:
            if not late:
                who()
            with library.Client(follow_redirects=True, verify=TLS) as client:
                client.get(f"{upstream.url}/bytes/{n}")
                client.get(f"{upstream.url}/redirect/1")
            if late:
                who()
            return {"n": n}

        async def ahandler(n: int) -> dict[str, int]:
            if not late:
                who()
            async with library.AsyncClient(follow_redirects=True, verify=TLS) as client:
                await asyncio.gather(client.get(f"{upstream.url}/bytes/{n}"), client.get(f"{upstream.url}/redirect/1"))
            if late:
                who()
            return {"n": n}

        app.get("/v1/items/{n}")(ahandler if asynchronous else handler)
        with serve_asgi(app) as url:
            unseen(f"{url}/v1/items/77")
        spans = recorded(stub, 4)
        (request,) = [span for span in spans if span.attributes["usage.kind"] == "request"]
        attempts = [span for span in spans if span is not request]
        for span in attempts:
            assert (span.trace_id, span.parent_span_id) == (request.trace_id, request.span_id)
            assert span.attributes["usage.customer.id"] == "acme"
            assert span.attributes["usage.tier"] == 2
            assert span.attributes["usage.plan"] == "api_pro"
            assert span.attributes["usage.auth.kind"] == "jwt"
            assert span.attributes["usage.identity.provenance"] == "verified"
            assert span.attributes["usage.route"] == "/v1/items/{n}" == request.attributes["http.route"]
            assert span.attributes["usage.request.id"] == request.attributes["usage.request.id"]
        assert request.attributes["usage.upstream.count"] == 3
        assert request.attributes["usage.upstream.response.size"] == 77 + 5 + 10
        assert request.attributes["usage.upstream.duration"] == pytest.approx(
            sum(span.duration for span in attempts) / 1e9, abs=2**-20
        )

    def test_a_call_within_a_usage_span_is_its_child(self, stub: AxiomStub, upstream: Upstream) -> None:
        with usage.usage_span("report.render") as outer, httpx.Client() as client:
            usage.identify(customer_id="acme")
            client.get(f"{upstream.url}/bytes/1")
            outer.set_attribute("usage.unit", "page")
        call, work = recorded(stub, 2)
        assert (call.trace_id, call.parent_span_id) == (work.trace_id, work.span_id)
        assert call.attributes["usage.customer.id"] == work.attributes["usage.customer.id"] == "acme"

    def test_a_block_that_no_hook_sees_is_rolled_up_too(self, stub: AxiomStub, upstream: Upstream) -> None:
        app = FastAPI()

        @app.get("/")
        def handler() -> None:
            with usage.upstream("yahoo-finance"):
                unseen(f"{upstream.url}/bytes/3")

        with serve_asgi(app) as url:
            unseen(url)
        call, request = recorded(stub, 2)
        assert request.attributes["usage.upstream.count"] == 1
        assert call.parent_span_id == request.span_id

    def test_requests_that_run_at_the_same_time_do_not_share_their_calls(
        self, stub: AxiomStub, upstream: Upstream
    ) -> None:
        app = FastAPI()

        @app.get("/{customer}")
        async def handler(customer: str) -> None:
            async with httpx2.AsyncClient(verify=TLS) as client:
                await client.get(f"{upstream.url}/slow")
                usage.identify(customer_id=customer)
                await client.get(f"{upstream.url}/bytes/1")

        async def ask(url: str) -> None:
            names = [f"customer-{n}" for n in range(10)]
            await asyncio.gather(*(asyncio.to_thread(unseen, f"{url}/{name}") for name in names))

        with serve_asgi(app) as url:
            asyncio.run(ask(url))
        spans = recorded(stub, 30)
        customer_of = {
            span.trace_id: span.attributes["usage.customer.id"]
            for span in spans
            if span.attributes["usage.kind"] == "request"
        }
        assert len(set(customer_of.values())) == 10
        assert all(span.attributes["usage.customer.id"] == customer_of[span.trace_id] for span in spans)


def test_a_span_costs_a_call_well_under_a_millisecond(stub: AxiomStub) -> None:
    transport = httpx.MockTransport(lambda request: httpx.Response(200, content=b"x"))
    request = httpx.Request("GET", "http://mock.test/")

    def seconds() -> float:
        began = time.perf_counter()
        for _ in range(200):
            transport.handle_request(request)
        return (time.perf_counter() - began) / 200

    on = min(seconds() for _ in range(5))
    usage.uninstrument()
    off = min(seconds() for _ in range(5))
    assert on - off < 0.001
