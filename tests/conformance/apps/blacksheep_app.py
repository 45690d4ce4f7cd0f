import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
from blacksheep import Application, Content, Request, Response, Router, WebSocket, no_content, status_code, text
from blacksheep.contents import StreamedContent, TextServerSentEvent
from blacksheep.exceptions import Forbidden
from blacksheep.server.sse import ServerSentEventsResponse
from setting import CHUNK, PAUSE, SECRET, UPSTREAM

import otel_usage as usage

app = Application(router=Router())
get, post = app.router.get, app.router.post


async def authenticating(request: Request, handler: Callable[[Request], Awaitable[Response]]) -> Response:
    if request.path.startswith("/deep/"):
        usage.identify(customer_id=request.route_values["customer"], tier=1)
    return await handler(request)


app.middlewares.append(authenticating)


@get("/")
async def hello() -> Response:
    return text("hello")


@get("/items/{int:n}")
def item(n: int) -> dict[str, int]:
    return {"n": n}


@post("/echo")
async def echo(request: Request) -> Response:
    return Response(200, content=Content(b"application/octet-stream", await request.read() or b""))


@get("/empty")
async def empty() -> Response:
    return no_content()


@get("/moved")
async def moved() -> Response:
    return Response(302, [(b"location", b"/")])


@get("/status/{int:code}")
async def status(code: int) -> Response:
    return status_code(code, "as you wish")


@get("/refused")
async def refused() -> None:
    raise Forbidden


@get("/broken")
async def broken() -> None:
    raise RuntimeError(SECRET)


def streaming(count: int, *, breaks: bool = False) -> Response:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(count):
            yield CHUNK
            await asyncio.sleep(PAUSE)
        if breaks:
            raise RuntimeError(SECRET)

    return Response(200, content=StreamedContent(b"application/octet-stream", chunks))


@get("/stream")
async def stream() -> Response:
    return streaming(5)


@get("/stream-broken")
async def stream_broken() -> Response:
    return streaming(1, breaks=True)


@get("/forever")
async def forever() -> Response:
    return streaming(150)  # BlackSheep does not notice that a client has left


@get("/slow")
async def slow() -> Response:
    await asyncio.sleep(0.5)
    return text("at last")


@get("/as/{customer}")
async def as_customer(customer: str) -> Response:
    await asyncio.sleep(PAUSE)
    usage.identify(customer_id=customer, tier=1)
    await asyncio.sleep(PAUSE)
    usage.identify(plan="pro")
    return text(customer)


@get("/deep/{customer}")
async def deep(customer: str) -> Response:
    return text(customer)


@get("/thread/{customer}")
def thread(customer: str) -> Response:
    worker = threading.Thread(target=usage.identify, kwargs={"customer_id": customer, "tier": 1})
    worker.start()
    worker.join()
    return text(customer)


@get("/upstream")
async def upstream() -> Response:
    async with httpx.AsyncClient() as client:
        answer = await client.get(UPSTREAM)
    return text(str(len(answer.content)))


async def afterwards() -> None:
    await asyncio.sleep(PAUSE)
    with usage.usage_span("afterwards"):
        async with httpx.AsyncClient() as client:
            await client.get(UPSTREAM)


tasks: set[asyncio.Task[None]] = set()


@get("/background/{customer}")
async def background(customer: str) -> Response:
    usage.identify(customer_id=customer, tier=1)
    task = asyncio.create_task(afterwards())
    tasks.add(task)
    task.add_done_callback(tasks.discard)
    return text(customer)


@app.router.ws("/ws")
async def web_socket(socket: WebSocket) -> None:
    await socket.accept()
    while (word := await socket.receive_text()) != "bye":
        await socket.send_text(word)
    await socket.close()


@get("/events")
async def events() -> Response:
    async def three() -> AsyncIterator[TextServerSentEvent]:
        for number in range(3):
            yield TextServerSentEvent(str(number))
            await asyncio.sleep(PAUSE)

    return ServerSentEventsResponse(three)


inner = Application(router=Router())


@inner.router.get("/{m}/items/{int:n}")
async def inner_item(m: str, n: int) -> dict[str, int]:
    return {m: n}


app.mount("/inner", inner)
