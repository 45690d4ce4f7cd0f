"""An application on aiohttp's own server, for `tests/e2e/test_own_servers.py`."""

import asyncio
from contextlib import AbstractContextManager
from pathlib import Path

from aiohttp import WSMsgType, web

from tests.servers import serve_aiohttp

FILE = web.AppKey("file", Path)
HELD = web.AppKey("held", asyncio.Event)

routes = web.RouteTableDef()


@routes.get("/hello")
async def hello(_: web.Request) -> web.Response:
    return web.Response(text="hello", headers={"cache-control": "max-age=60"})


@routes.get("/baggage")
async def baggage(request: web.Request) -> web.Response:
    return web.json_response(request.headers.getall("baggage", []))


@routes.post("/part")
async def part(request: web.Request) -> web.Response:
    return web.Response(text=str(len(await request.content.read(1000))), status=202)


@routes.post("/whole")
async def whole(request: web.Request) -> web.Response:
    return web.Response(body=await request.read())


@routes.get("/file")
async def a_file(request: web.Request) -> web.FileResponse:
    return web.FileResponse(request.app[FILE])


@routes.get("/hang")
async def hang(_: web.Request) -> web.Response:
    await asyncio.sleep(60)
    return web.Response()


@routes.get("/parts")
async def parts(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"one")
    while not request.app[HELD].is_set():
        await asyncio.sleep(0.01)
    await response.write(b"two")
    return response


@routes.get("/ws")
async def socket(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    async for message in ws:
        if message.type is WSMsgType.BINARY:
            await ws.send_bytes(message.data)
        elif message.data == "break":
            raise RuntimeError
        else:
            await ws.close(code=int(message.data))
    return ws


def serve(file: Path, held: asyncio.Event) -> AbstractContextManager[str]:
    app = web.Application(client_max_size=5000)
    app[FILE], app[HELD] = file, held
    app.add_routes(routes)
    return serve_aiohttp(app, handler_cancellation=True)
