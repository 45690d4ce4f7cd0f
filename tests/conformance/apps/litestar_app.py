import asyncio
import threading
from collections.abc import AsyncIterator

import httpx
from litestar import Litestar, MediaType, Request, Response, Router, WebSocket, get, post, websocket
from litestar.background_tasks import BackgroundTask
from litestar.connection import ASGIConnection
from litestar.exceptions import PermissionDeniedException
from litestar.handlers import BaseRouteHandler
from litestar.params import FromPath
from litestar.response import Redirect, ServerSentEvent, Stream
from setting import CHUNK, PAUSE, SECRET, UPSTREAM

import otel_usage as usage


@get("/", media_type=MediaType.TEXT)
async def hello() -> str:
    return "hello"


@get("/items/{n:int}", sync_to_thread=True)
def item(n: FromPath[int]) -> dict[str, int]:
    return {"n": n}


@post("/echo", status_code=200)
async def echo(request: Request) -> Response[bytes]:
    return Response(await request.body())


@get("/empty", status_code=204)
async def empty() -> None:
    pass


@get("/moved", status_code=302)
async def moved() -> Redirect:
    return Redirect("/", status_code=302)


@get("/status/{code:int}")
async def status(code: FromPath[int]) -> Response[str]:
    return Response("as you wish", status_code=code)


@get("/refused")
async def refused() -> None:
    raise PermissionDeniedException


@get("/broken")
async def broken() -> None:
    raise RuntimeError(SECRET)


async def chunks(count: int, *, breaks: bool = False) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield CHUNK
        await asyncio.sleep(PAUSE)
    if breaks:
        raise RuntimeError(SECRET)


@get("/stream")
async def stream() -> Stream:
    return Stream(chunks(5))


@get("/stream-broken")
async def stream_broken() -> Stream:
    return Stream(chunks(1, breaks=True))


@get("/forever")
async def forever() -> Stream:
    return Stream(chunks(1000))


@get("/slow")
async def slow() -> str:
    await asyncio.sleep(0.5)
    return "at last"


@get("/as/{customer:str}", media_type=MediaType.TEXT)
async def as_customer(customer: FromPath[str]) -> str:
    await asyncio.sleep(PAUSE)
    usage.identify(customer_id=customer, tier=1)
    await asyncio.sleep(PAUSE)
    usage.identify(plan="pro")
    return customer


async def authenticated(connection: ASGIConnection, _: BaseRouteHandler) -> None:
    usage.identify(customer_id=connection.path_params["customer"], tier=1)


@get("/deep/{customer:str}", guards=[authenticated])
async def deep(customer: FromPath[str]) -> str:
    return customer


@get("/thread/{customer:str}", sync_to_thread=True)
def thread(customer: FromPath[str]) -> str:
    worker = threading.Thread(target=usage.identify, kwargs={"customer_id": customer, "tier": 1})
    worker.start()
    worker.join()
    return customer


@get("/upstream", media_type=MediaType.TEXT)
async def upstream() -> str:
    async with httpx.AsyncClient() as client:
        answer = await client.get(UPSTREAM)
    return str(len(answer.content))


async def afterwards() -> None:
    await asyncio.sleep(PAUSE)
    with usage.usage_span("afterwards"):
        async with httpx.AsyncClient() as client:
            await client.get(UPSTREAM)


@get("/background/{customer:str}")
async def background(customer: FromPath[str]) -> Response[str]:
    usage.identify(customer_id=customer, tier=1)
    return Response(customer, background=BackgroundTask(afterwards))


@websocket("/ws")
async def web_socket(socket: WebSocket) -> None:
    await socket.accept()
    while (text := await socket.receive_text()) != "bye":
        await socket.send_text(text)
    await socket.close()


@get("/events")
async def events() -> ServerSentEvent:
    async def three() -> AsyncIterator[str]:
        for number in range(3):
            yield str(number)
            await asyncio.sleep(PAUSE)

    return ServerSentEvent(three())


@get("/items/{n:int}")
async def inner_item(m: FromPath[str], n: FromPath[int]) -> dict[str, int]:
    return {m: n}


app = Litestar(
    route_handlers=[
        hello, item, echo, empty, moved, status, refused, broken, stream, stream_broken, forever, slow, as_customer,
        deep, thread, upstream, background, web_socket, events, Router("/inner/{m:str}", route_handlers=[inner_item]),
    ],
)  # fmt: skip
