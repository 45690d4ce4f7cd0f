import asyncio
import threading
from collections.abc import AsyncIterator

import httpx
from setting import CHUNK, PAUSE, SECRET, UPSTREAM
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

import otel_usage as usage


class Authenticating:
    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if path.startswith("/deep/"):
            usage.identify(customer_id=path.removeprefix("/deep/"), tier=1)
        await self.app(scope, receive, send)


async def hello(_: Request) -> Response:
    return PlainTextResponse("hello")


async def item(request: Request) -> Response:
    return JSONResponse({"n": request.path_params["n"]})


async def echo(request: Request) -> Response:
    return Response(await request.body())


async def empty(_: Request) -> Response:
    return Response(status_code=204)


async def moved(_: Request) -> Response:
    return RedirectResponse("/", 302)


async def status(request: Request) -> Response:
    return PlainTextResponse("as you wish", request.path_params["code"])


async def refused(_: Request) -> Response:
    raise HTTPException(403)


async def broken(_: Request) -> Response:
    raise RuntimeError(SECRET)


async def chunks(count: int, *, breaks: bool = False) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield CHUNK
        await asyncio.sleep(PAUSE)
    if breaks:
        raise RuntimeError(SECRET)


async def stream(_: Request) -> Response:
    return StreamingResponse(chunks(5))


async def stream_broken(_: Request) -> Response:
    return StreamingResponse(chunks(1, breaks=True))


async def forever(_: Request) -> Response:
    return StreamingResponse(chunks(1000))


async def slow(_: Request) -> Response:
    await asyncio.sleep(0.5)
    return PlainTextResponse("at last")


async def as_customer(request: Request) -> Response:
    customer = request.path_params["customer"]
    await asyncio.sleep(PAUSE)
    usage.identify(customer_id=customer, tier=1)
    await asyncio.sleep(PAUSE)
    usage.identify(plan="pro")
    return PlainTextResponse(customer)


async def deep(request: Request) -> Response:
    return PlainTextResponse(request.path_params["customer"])


def thread(request: Request) -> Response:
    customer = request.path_params["customer"]
    worker = threading.Thread(target=usage.identify, kwargs={"customer_id": customer, "tier": 1})
    worker.start()
    worker.join()
    return PlainTextResponse(customer)


async def upstream(_: Request) -> Response:
    async with httpx.AsyncClient() as client:
        answer = await client.get(UPSTREAM)
    return PlainTextResponse(str(len(answer.content)))


async def afterwards() -> None:
    await asyncio.sleep(PAUSE)
    with usage.usage_span("afterwards"):
        async with httpx.AsyncClient() as client:
            await client.get(UPSTREAM)


async def background(request: Request) -> Response:
    customer = request.path_params["customer"]
    usage.identify(customer_id=customer, tier=1)
    return PlainTextResponse(customer, background=BackgroundTask(afterwards))


async def web_socket(socket: WebSocket) -> None:
    await socket.accept()
    while (text := await socket.receive_text()) != "bye":
        await socket.send_text(text)
    await socket.close()


async def events(_: Request) -> Response:
    async def three() -> AsyncIterator[bytes]:
        for number in range(3):
            yield b"data: %d\n\n" % number
            await asyncio.sleep(PAUSE)

    return StreamingResponse(three(), media_type="text/event-stream")


app = Starlette(
    routes=[
        Route("/", hello),
        Route("/items/{n:int}", item),
        Route("/echo", echo, methods=["POST"]),
        Route("/empty", empty),
        Route("/moved", moved),
        Route("/status/{code:int}", status),
        Route("/refused", refused),
        Route("/broken", broken),
        Route("/stream", stream),
        Route("/stream-broken", stream_broken),
        Route("/forever", forever),
        Route("/slow", slow),
        Route("/as/{customer}", as_customer),
        Route("/deep/{customer}", deep),
        Route("/thread/{customer}", thread),
        Route("/upstream", upstream),
        Route("/background/{customer}", background),
        Route("/events", events),
        WebSocketRoute("/ws", web_socket),
        Mount("/inner/{m}", Starlette(routes=[Route("/items/{n:int}", item)])),
    ],
    middleware=[Middleware(Authenticating)],
)
