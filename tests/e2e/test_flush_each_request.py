"""``USAGE_FLUSH=request``: what a process may be frozen after has been delivered before."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

import otel_usage as usage
from otel_usage.config import FlushMode
from otel_usage.testing import AxiomStub, Hang, Status
from tests.outside import outside
from tests.servers import serve_asgi, serve_wsgi

NEVER = 3600.0


@pytest.fixture
def frozen(switch_on: Callable[..., None]) -> None:
    """Usage that would deliver nothing by itself for an hour."""
    switch_on(flush=FlushMode.REQUEST, schedule_delay=NEVER, export_timeout=0.5)


def later() -> None:
    with usage.usage_span("mail"):
        pass


async def hello(request: Request) -> PlainTextResponse:
    return PlainTextResponse("hello", background=BackgroundTask(later))


async def stream(request: Request) -> StreamingResponse:
    async def parts() -> Any:
        for number in range(3):
            yield f"{number}\n"

    return StreamingResponse(parts())


async def broken(request: Request) -> PlainTextResponse:
    raise ValueError


APP = usage.UsageMiddleware(
    Starlette(routes=[Route("/hello", hello), Route("/stream", stream), Route("/broken", broken)])
)


@pytest.mark.parametrize(("path", "status"), [("/hello", 200), ("/stream", 200), ("/broken", 500), ("/unknown", 404)])
def test_who_has_the_last_byte_finds_the_request_at_the_sink(
    frozen: None, stub: AxiomStub, path: str, status: int
) -> None:
    with serve_asgi(APP) as url:
        (answer,) = outside(url, path)
        arrived = [
            (span.kind, span.attributes["http.response.status_code"]) for span in stub.spans if span.kind == "server"
        ]
    assert answer.status_code == status
    assert arrived == [("server", status)]


def test_work_after_the_response_is_delivered_when_the_application_is_done(frozen: None, stub: AxiomStub) -> None:
    done = threading.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await APP(scope, receive, send)
            done.set()

    with serve_asgi(app, ours=False) as url:  # so that the application is observed within this one
        outside(url, "/hello")
        assert done.wait(5)
        assert [span.name for span in stub.spans if span.kind == "internal"] == ["mail"]


def test_a_response_is_whole_and_recorded_once(frozen: None, stub: AxiomStub) -> None:
    with serve_asgi(APP) as url:
        answers = outside(url, "/stream", "/hello")
    assert [answer.text for answer in answers] == ["0\n1\n2\n", "hello"]
    sizes = [span.attributes["http.response.body.size"] for span in stub.spans if span.kind == "server"]
    assert sizes == [6, 5]
    assert {span.attributes["usage.reason"] for span in stub.spans if span.kind == "server"} == {"ok"}


def test_a_sink_that_hangs_costs_a_request_its_deadline_and_no_more(frozen: None, stub: AxiomStub) -> None:
    stub.fail_with(Hang(60))
    with serve_asgi(APP) as url:
        started = time.monotonic()
        (answer,) = outside(url, "/stream")
        assert answer.status_code == 200
        assert 0.4 < time.monotonic() - started < 3.0


def test_a_sink_that_fails_leaves_the_request_in_the_spool(frozen: None, stub: AxiomStub) -> None:
    stub.fail_with(Status(503))
    with serve_asgi(APP) as url:
        outside(url, "/stream")
        assert usage.health().ledger.spooled == 1


def test_the_loop_goes_on_while_a_request_waits(frozen: None, stub: AxiomStub) -> None:
    stub.fail_with(Hang(60))
    with serve_asgi(APP) as url:
        first = threading.Thread(target=outside, args=(url, "/stream"))
        first.start()
        time.sleep(0.1)
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rsplit(":", 1)[1]))
            writer.write(b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
            ticks += 1
            writer.close()

        asyncio.run(asyncio.wait_for(tick(), 5))
        first.join(5)
        assert ticks == 1


def test_a_wsgi_request_is_delivered_before_its_server_is_done_with_it(frozen: None, stub: AxiomStub) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Length", "5")])
        return [b"hello"]

    observed, at_the_end = usage.UsageWSGIMiddleware(app), []

    class Server:
        """What an adapter of a runtime that freezes does: read the body, close it, answer."""

        def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
            body = observed(environ, start_response)
            parts = list(body)
            body.close()  # type: ignore[attr-defined]  # PEP 3333
            at_the_end.extend(stub.spans)
            return parts

    with serve_wsgi(Server(), ours=False) as url:
        assert outside(url, "/")[0].text == "hello"
    assert [span.kind for span in at_the_end] == ["server"]
