"""Sanic: what it does in ways of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import httpx
import pytest
from sanic import HTTPResponse, Request, Sanic, Websocket, text
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

import otel_usage as usage
from otel_usage import guard
from otel_usage.testing import AxiomStub
from tests.outside import facts, outcome, outside, requests_of, the_request
from tests.servers import serve_asgi, serve_sanic

SIZE = "http.response.body.size"

_numbers = count(1)


@pytest.fixture(autouse=True)
def nothing_of_ours_fails() -> Iterator[None]:
    yield
    assert not guard.internal_errors()


@pytest.fixture
def app(usage_on: None) -> Sanic:
    made = Sanic(f"ways-{next(_numbers)}", configure_logging=False)
    made.config.TOUCHUP = False  # it can be done once in a process
    return made


def test_a_handler_that_takes_too_long(app: Sanic, stub: AxiomStub) -> None:
    app.config.RESPONSE_TIMEOUT = 0.1

    @app.get("/")
    async def handler(_: Request) -> HTTPResponse:
        await asyncio.sleep(60)
        return text("")

    with serve_sanic(app) as url:
        (answer,) = outside(url, "/")
    assert answer.status_code == 503
    span = the_request(stub)
    assert outcome(span) == (503, "server_error", None, "503")
    assert facts(span, "http.route", SIZE) == ("/", len(answer.content))


def test_a_response_that_takes_too_long(app: Sanic, stub: AxiomStub) -> None:
    app.config.RESPONSE_TIMEOUT = 0.1

    @app.get("/")
    async def handler(request: Request) -> None:
        response = await request.respond()
        await response.send("one")
        await asyncio.sleep(60)

    with serve_sanic(app) as url:
        with httpx.Client() as client, pytest.raises(httpx.RemoteProtocolError):
            client.get(url)
        span = the_request(stub)
    assert outcome(span) == (200, "unhandled_exception", True, "sanic.exceptions.ServiceUnavailable")


def test_an_exception_that_the_application_has_a_handler_for_is_an_answer(app: Sanic, stub: AxiomStub) -> None:
    @app.get("/")
    async def handler(_: Request) -> HTTPResponse:
        raise LookupError

    @app.exception(LookupError)
    async def not_there(_: Request, error: LookupError) -> HTTPResponse:
        return text("not there", 404)

    with serve_sanic(app) as url:
        outside(url, "/")
    assert outcome(the_request(stub)) == (404, "not_found", None, None)


def test_a_handler_that_answers_nothing(app: Sanic, stub: AxiomStub) -> None:
    @app.get("/")
    async def handler(_: Request) -> None:
        pass

    with serve_sanic(app) as url:
        assert outside(url, "/")[0].status_code == 500
    assert outcome(the_request(stub))[:2] == (500, "server_error")


def test_a_middleware_that_answers(app: Sanic, stub: AxiomStub) -> None:
    @app.get("/")
    async def handler(_: Request) -> HTTPResponse:
        return text("no")

    @app.on_request
    async def first(_: Request) -> HTTPResponse:
        usage.identify(customer_id="acme")
        return text("stop here", 429)

    with serve_sanic(app) as url:
        outside(url, "/")
    span = the_request(stub)
    assert facts(span, "http.route", "usage.customer.id", "usage.reason", SIZE) == ("/", "acme", "rate_limit_429", 9)


@pytest.mark.parametrize(
    ("written", "path", "template"),
    [
        ("/items/<n:int>/<name>", "/items/17/a", "/items/<n:int>/<name:str>"),
        ("/years/<year:[0-9]{4}>", "/years/2026", "/years/<year>"),
        ("/images/<image:ext=png|jpg>", "/images/a.png", "/images/<image:ext=png|jpg>"),
        ("/all/<rest:path>", "/all/a/b/c", "/all/<rest:path>"),
    ],
)
def test_templates_are_as_they_are_written_but_for_patterns(
    app: Sanic, stub: AxiomStub, written: str, path: str, template: str
) -> None:
    @app.get(written)
    async def handler(_: Request, **values: object) -> HTTPResponse:
        return text("")

    with serve_sanic(app) as url:
        assert outside(url, path)[0].status_code == 200
    assert facts(the_request(stub), "http.route") == (template,)


def test_static_files(app: Sanic, stub: AxiomStub, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"f" * 1000)
    app.static("/files", tmp_path)
    with serve_sanic(app) as url:
        outside(url, "/files/file", "/files/none")
    found = [facts(span, "http.route", "usage.reason", SIZE)[:2] for span in requests_of(stub, 2)]
    assert found == [("/files/<__file_uri__:path>", "ok"), ("/files/<__file_uri__:path>", "not_found")]


def test_the_router_remembers_as_it_did(app: Sanic, stub: AxiomStub) -> None:
    @app.get("/")
    async def handler(request: Request) -> HTTPResponse:
        return text(str(request.app.router.get.cache_info().maxsize))

    with serve_sanic(app) as url:
        assert outside(url, "/")[0].text == "1024"
    the_request(stub)


def test_a_response_that_an_application_uses_again_is_as_it_was(
    switch_on: Callable[..., None], stub: AxiomStub
) -> None:
    switch_on(dev_header=True)
    app, response = Sanic(f"ways-{next(_numbers)}", configure_logging=False), text("hello")
    app.config.TOUCHUP = False

    @app.get("/")
    async def handler(_: Request) -> HTTPResponse:
        return response

    with serve_sanic(app) as url:
        assert outside(url, "/")[0].headers["x-usage-telemetry"] == "ok"
    assert "x-usage-telemetry" not in response.headers
    the_request(stub)


def test_messages_in_parts_and_in_bursts(app: Sanic, stub: AxiomStub) -> None:
    @app.websocket("/ws")
    async def handler(_: Request, socket: Websocket) -> None:
        async for part in socket.recv_streaming():
            if part:  # the last one is empty
                await socket.send(part)
        while not (messages := await socket.recv_burst()):
            await asyncio.sleep(0.01)
        for message in messages:
            await socket.send(message)

    with serve_sanic(app) as url, connect(f"{url.replace('http', 'ws')}/ws", proxy=None) as client:
        client.send(["one", "two"])
        assert [client.recv(10), client.recv(10)] == ["one", "two"]
        client.send("three")
        assert client.recv(10) == "three"
        with pytest.raises(ConnectionClosed):
            client.recv(10)
    span = the_request(stub)
    assert facts(span, "http.request.body.size", SIZE) == (11, 11)
    assert outcome(span)[:3] == (101, "ok", None)


def test_errors_where_another_server_serves_it(app: Sanic, stub: AxiomStub) -> None:
    @app.get("/refused")
    async def refused(_: Request) -> HTTPResponse:
        raise LookupError

    @app.get("/broken")
    async def broken(request: Request) -> None:
        response = await request.respond()
        await response.send("one")
        raise LookupError

    with serve_asgi(app) as url:
        assert outside(url, "/refused")[0].status_code == 500
        with httpx.Client() as client, pytest.raises(httpx.RemoteProtocolError):
            client.get(f"{url}/broken")
    found = [outcome(span) for span in requests_of(stub, 2)]
    assert found == [
        (500, "unhandled_exception", None, "LookupError"),
        (200, "unhandled_exception", True, "LookupError"),
    ]
