"""WebSockets, by each framework of ASGI that has a way of its own to end them badly. The apps are made before usage is
switched on.
"""

from __future__ import annotations

import socket
import warnings
from typing import Any, Final

import pytest
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from otel_usage.testing import AxiomStub
from tests.outside import facts, outcome, the_request
from tests.servers import serve_asgi

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # libraries that those import, and what is deprecated in them, are not of interest
    import blacksheep
    import litestar
    import litestar.exceptions
    import quart

SECRET: Final = "what-a-customer-wrote"
SIZES: Final = "http.request.body.size", "http.response.body.size"


def starlette_sockets() -> Any:
    async def echo(ws: WebSocket) -> None:
        await ws.accept()
        try:
            while True:
                await ws.send_bytes(await ws.receive_bytes())
        except WebSocketDisconnect:
            pass

    async def refused(ws: WebSocket) -> None:
        await ws.close()

    async def broken(ws: WebSocket) -> None:
        await ws.accept()
        raise RuntimeError(SECRET)

    async def never(ws: WebSocket) -> None:
        raise RuntimeError(SECRET)

    ways = {"/echo": echo, "/refused": refused, "/broken": broken, "/never": never}
    return Starlette(routes=[WebSocketRoute(path, way) for path, way in ways.items()])


def litestar_sockets() -> Any:
    @litestar.websocket("/echo")
    async def echo(socket: litestar.WebSocket) -> None:
        await socket.accept()
        try:
            while True:
                await socket.send_bytes(await socket.receive_bytes())
        except litestar.exceptions.WebSocketDisconnect:
            pass

    @litestar.websocket("/refused")
    async def refused(socket: litestar.WebSocket) -> None:
        await socket.close()

    @litestar.websocket("/broken")
    async def broken(socket: litestar.WebSocket) -> None:
        await socket.accept()
        raise RuntimeError(SECRET)

    @litestar.websocket("/never")
    async def never(socket: litestar.WebSocket) -> None:
        raise RuntimeError(SECRET)

    return litestar.Litestar([echo, refused, broken, never], logging_config=None)


def quart_sockets() -> Any:
    app = quart.Quart(__name__)

    @app.websocket("/echo")
    async def echo() -> None:
        while True:
            await quart.websocket.send(await quart.websocket.receive())

    @app.websocket("/refused")
    async def refused() -> None:
        quart.abort(403)

    @app.websocket("/broken")
    async def broken() -> None:
        await quart.websocket.accept()
        raise RuntimeError(SECRET)

    @app.websocket("/never")
    async def never() -> None:
        raise RuntimeError(SECRET)

    return app


def blacksheep_sockets() -> Any:
    app = blacksheep.Application(router=blacksheep.Router())

    @app.router.ws("/echo")
    async def echo(socket: blacksheep.WebSocket) -> None:
        await socket.accept()
        try:
            while True:
                await socket.send_bytes(await socket.receive_bytes())
        except blacksheep.WebSocketDisconnectError:
            pass

    @app.router.ws("/refused")
    async def refused(socket: blacksheep.WebSocket) -> None:
        await socket.close()

    @app.router.ws("/broken")
    async def broken(socket: blacksheep.WebSocket) -> None:
        await socket.accept()
        raise RuntimeError(SECRET)

    @app.router.ws("/never")
    async def never(socket: blacksheep.WebSocket) -> None:
        raise RuntimeError(SECRET)

    return app


FRAMEWORKS: Final = {
    "Starlette": starlette_sockets,
    "Litestar": litestar_sockets,
    "Quart": quart_sockets,
    "BlackSheep": blacksheep_sockets,
}


@pytest.fixture(params=FRAMEWORKS)
def sockets(request: pytest.FixtureRequest) -> Any:
    return FRAMEWORKS[request.param]()


def ws(url: str, path: str) -> str:
    return f"ws{url.removeprefix('http')}{path}"


def test_binary_messages_are_counted_until_the_client_closes(sockets: Any, usage_on: None, stub: AxiomStub) -> None:
    with serve_asgi(sockets) as url, connect(ws(url, "/echo")) as client:
        for _ in range(3):
            client.send(b"\x00" * 700)
            assert client.recv(10) == b"\x00" * 700
    span = the_request(stub)
    assert outcome(span) == (101, "ok", None, None)
    assert facts(span, "http.route", *SIZES) == ("/echo", 2100, 2100)


def test_a_client_that_leaves_without_closing_has_aborted(sockets: Any, usage_on: None, stub: AxiomStub) -> None:
    with serve_asgi(sockets) as url, connect(ws(url, "/echo")) as client:
        client.send(b"\x00")
        client.recv(10)
        client.socket.shutdown(socket.SHUT_RDWR)
    span = the_request(stub)
    assert outcome(span)[:3] == (101, "client_aborted", True)
    assert facts(span, *SIZES) == (1, 1)


def test_a_refusal_before_the_handshake_is_one(sockets: Any, usage_on: None, stub: AxiomStub) -> None:
    with serve_asgi(sockets) as url, pytest.raises(InvalidStatus) as refusal, connect(ws(url, "/refused")):
        pass
    assert refusal.value.response.status_code == 403
    span = the_request(stub)
    assert outcome(span) == (403, "auth_403", None, None)
    assert facts(span, "http.route") == ("/refused",)


def test_an_exception_in_a_connection_is_an_error_whatever_it_is_closed_with(
    sockets: Any, usage_on: None, stub: AxiomStub
) -> None:
    with serve_asgi(sockets) as url, connect(ws(url, "/broken")) as client, pytest.raises(ConnectionClosed):
        client.recv(10)
    span = the_request(stub)
    assert outcome(span) == (101, "unhandled_exception", True, "RuntimeError")
    assert span.status_code == "error"
    assert SECRET not in repr(span)


def test_an_exception_before_the_handshake_is_no_refusal(sockets: Any, usage_on: None, stub: AxiomStub) -> None:
    with serve_asgi(sockets) as url, pytest.raises(InvalidStatus), connect(ws(url, "/never")):
        pass
    span = the_request(stub)
    assert facts(span, "usage.reason", "error.type", "http.route") == ("unhandled_exception", "RuntimeError", "/never")
    assert SECRET not in repr(span)
