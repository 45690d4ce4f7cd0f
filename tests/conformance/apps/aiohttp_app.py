import asyncio
import sys
import threading
from collections.abc import AsyncIterator

import httpx
from aiohttp import WSMsgType, web
from aiohttp.typedefs import Handler
from setting import CHUNK, PAUSE, SECRET, UPSTREAM

import otel_usage as usage

routes = web.RouteTableDef()


@web.middleware
async def authenticate(request: web.Request, handler: Handler) -> web.StreamResponse:
    if request.path.startswith("/deep/"):
        usage.identify(customer_id=request.match_info["customer"], tier=1)
    return await handler(request)


@routes.get("/")
async def hello(_: web.Request) -> web.Response:
    return web.Response(text="hello")


@routes.get("/items/{n}")
async def item(request: web.Request) -> web.Response:
    return web.json_response({"n": request.match_info["n"]})


@routes.post("/echo")
async def echo(request: web.Request) -> web.Response:
    return web.Response(body=await request.read())


@routes.get("/empty")
async def empty(_: web.Request) -> web.Response:
    return web.Response(status=204)


@routes.get("/moved")
async def moved(_: web.Request) -> web.Response:
    raise web.HTTPFound("/")


@routes.get(r"/status/{code:\d+}")
async def status(request: web.Request) -> web.Response:
    return web.Response(text="as you wish", status=int(request.match_info["code"]))


@routes.get("/refused")
async def refused(_: web.Request) -> web.Response:
    raise web.HTTPForbidden


@routes.get("/broken")
async def broken(_: web.Request) -> web.Response:
    raise RuntimeError(SECRET)


async def streamed(request: web.Request, count: int, *, breaks: bool = False) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(count):
        await response.write(CHUNK)
        await asyncio.sleep(PAUSE)
    if breaks:
        raise RuntimeError(SECRET)
    return response


@routes.get("/stream")
async def stream(request: web.Request) -> web.StreamResponse:
    return await streamed(request, 5)


@routes.get("/stream-broken")
async def stream_broken(request: web.Request) -> web.StreamResponse:
    return await streamed(request, 1, breaks=True)


@routes.get("/forever")
async def forever(request: web.Request) -> web.StreamResponse:
    return await streamed(request, 1000)


@routes.get("/slow")
async def slow(_: web.Request) -> web.Response:
    await asyncio.sleep(0.5)
    return web.Response(text="at last")


@routes.get("/as/{customer}")
async def as_customer(request: web.Request) -> web.Response:
    customer = request.match_info["customer"]
    await asyncio.sleep(PAUSE)
    usage.identify(customer_id=customer, tier=1)
    await asyncio.sleep(PAUSE)
    usage.identify(plan="pro")
    return web.Response(text=customer)


@routes.get("/deep/{customer}")
async def deep(request: web.Request) -> web.Response:
    return web.Response(text=request.match_info["customer"])


@routes.get("/thread/{customer}")
async def thread(request: web.Request) -> web.Response:
    customer = request.match_info["customer"]

    def identify() -> None:
        worker = threading.Thread(target=usage.identify, kwargs={"customer_id": customer, "tier": 1})
        worker.start()
        worker.join()

    await asyncio.to_thread(identify)
    return web.Response(text=customer)


@routes.get("/upstream")
async def upstream(_: web.Request) -> web.Response:
    async with httpx.AsyncClient() as client:
        answer = await client.get(UPSTREAM)
    return web.Response(text=str(len(answer.content)))


async def afterwards() -> None:
    await asyncio.sleep(PAUSE)
    with usage.usage_span("afterwards"):
        async with httpx.AsyncClient() as client:
            await client.get(UPSTREAM)


at_work: set[asyncio.Task[None]] = set()


@routes.get("/background/{customer}")
async def background(request: web.Request) -> web.Response:
    customer = request.match_info["customer"]
    usage.identify(customer_id=customer, tier=1)
    task = asyncio.create_task(afterwards())
    at_work.add(task)
    task.add_done_callback(at_work.discard)
    return web.Response(text=customer)


@routes.get("/ws")
async def web_socket(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        if message.type is not WSMsgType.TEXT or message.data == "bye":
            break
        await socket.send_str(message.data)
    await socket.close()
    return socket


@routes.get("/events")
async def events(_: web.Request) -> web.Response:
    async def three() -> AsyncIterator[bytes]:
        for number in range(3):
            yield b"data: %d\n\n" % number
            await asyncio.sleep(PAUSE)

    return web.Response(body=three(), content_type="text/event-stream")


async def inner_item(request: web.Request) -> web.Response:
    return web.json_response(dict(request.match_info))


app = web.Application(middlewares=[authenticate])
app.add_routes(routes)
inner = web.Application()
inner.add_routes([web.get("/{m}/items/{n}", inner_item)])
app.add_subapp("/inner", inner)

if __name__ == "__main__":
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None)
