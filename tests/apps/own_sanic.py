"""An application on Sanic's own server, for `tests/e2e/test_own_servers.py`."""

import asyncio
from contextlib import AbstractContextManager
from itertools import count
from pathlib import Path

from sanic import Blueprint, HTTPResponse, Request, Sanic, Websocket, json, raw, text
from sanic.response import ResponseStream, file_stream

from tests.servers import serve_sanic

_numbers = count(1)

routes = Blueprint("routes")


@routes.get("/hello")
async def hello(_: Request) -> HTTPResponse:
    return text("hello", headers={"cache-control": "max-age=60"})


@routes.get("/baggage")
async def baggage(request: Request) -> HTTPResponse:
    return json(request.headers.getall("baggage", []))


@routes.post("/part", stream=True)
async def part(request: Request) -> HTTPResponse:
    return text(str(len(await request.stream.read())), 202)


@routes.post("/whole")
async def whole(request: Request) -> HTTPResponse:
    return raw(request.body)


@routes.get("/file")
async def a_file(request: Request) -> ResponseStream:
    return await file_stream(request.app.ctx.file)


@routes.get("/hang")
async def hang(_: Request) -> HTTPResponse:
    await asyncio.sleep(60)
    return text("")


@routes.get("/parts")
async def parts(request: Request) -> None:
    response = await request.respond()
    await response.send(b"one")
    while not request.app.ctx.held.is_set():
        await asyncio.sleep(0.01)
    await response.send(b"two")


@routes.websocket("/ws")
async def socket(_: Request, ws: Websocket) -> None:
    async for message in ws:
        if isinstance(message, bytes):
            await ws.send(message)
        elif message == "break":
            raise RuntimeError
        else:
            await ws.close(int(message))


def serve(file: Path, held: asyncio.Event) -> AbstractContextManager[str]:
    app = Sanic(f"own-{next(_numbers)}", configure_logging=False)
    app.config.REQUEST_MAX_SIZE = 5000
    app.config.TOUCHUP = False  # it can be done once in a process
    app.ctx.file, app.ctx.held = file, held
    app.blueprint(routes)
    return serve_sanic(app)
