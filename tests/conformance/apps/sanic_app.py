import asyncio
import threading

import httpx
from sanic import Blueprint, HTTPResponse, Request, Sanic, Websocket, empty, json, raw, redirect, text
from sanic.exceptions import Forbidden
from setting import CHUNK, PAUSE, SECRET, UPSTREAM

import otel_usage as usage

app = Sanic("conformance")


@app.on_request
async def authenticate(request: Request) -> None:
    if request.path.startswith("/deep/"):
        usage.identify(customer_id=request.match_info["customer"], tier=1)


@app.get("/")
async def hello(_: Request) -> HTTPResponse:
    return text("hello")


@app.get("/items/<n:int>")
async def item(_: Request, n: int) -> HTTPResponse:
    return json({"n": n})


@app.post("/echo")
async def echo(request: Request) -> HTTPResponse:
    return raw(request.body)


@app.get("/empty", name="nothing")
async def nothing(_: Request) -> HTTPResponse:
    return empty()


@app.get("/moved")
async def moved(_: Request) -> HTTPResponse:
    return redirect("/")


@app.get("/status/<code:int>")
async def status(_: Request, code: int) -> HTTPResponse:
    return text("as you wish", code)


@app.get("/refused")
async def refused(_: Request) -> HTTPResponse:
    raise Forbidden


@app.get("/broken")
async def broken(_: Request) -> HTTPResponse:
    raise RuntimeError(SECRET)


async def streamed(request: Request, count: int, *, breaks: bool = False) -> None:
    response = await request.respond()
    for _ in range(count):
        await response.send(CHUNK)
        await asyncio.sleep(PAUSE)
    if breaks:
        raise RuntimeError(SECRET)


@app.get("/stream")
async def stream(request: Request) -> None:
    await streamed(request, 5)


@app.get("/stream-broken")
async def stream_broken(request: Request) -> None:
    await streamed(request, 1, breaks=True)


@app.get("/forever")
async def forever(request: Request) -> None:
    await streamed(request, 1000)


@app.get("/slow")
async def slow(_: Request) -> HTTPResponse:
    await asyncio.sleep(0.5)
    return text("at last")


@app.get("/as/<customer>")
async def as_customer(_: Request, customer: str) -> HTTPResponse:
    await asyncio.sleep(PAUSE)
    usage.identify(customer_id=customer, tier=1)
    await asyncio.sleep(PAUSE)
    usage.identify(plan="pro")
    return text(customer)


@app.get("/deep/<customer>")
async def deep(_: Request, customer: str) -> HTTPResponse:
    return text(customer)


@app.get("/thread/<customer>")
async def thread(_: Request, customer: str) -> HTTPResponse:
    def identify() -> None:
        worker = threading.Thread(target=usage.identify, kwargs={"customer_id": customer, "tier": 1})
        worker.start()
        worker.join()

    await asyncio.to_thread(identify)
    return text(customer)


@app.get("/upstream")
async def upstream(_: Request) -> HTTPResponse:
    async with httpx.AsyncClient() as client:
        answer = await client.get(UPSTREAM)
    return text(str(len(answer.content)))


async def afterwards() -> None:
    await asyncio.sleep(PAUSE)
    with usage.usage_span("afterwards"):
        async with httpx.AsyncClient() as client:
            await client.get(UPSTREAM)


@app.get("/background/<customer>")
async def background(request: Request, customer: str) -> HTTPResponse:
    usage.identify(customer_id=customer, tier=1)
    request.app.add_task(afterwards())
    return text(customer)


@app.websocket("/ws")
async def web_socket(_: Request, socket: Websocket) -> None:
    while (said := await socket.recv()) != "bye":
        await socket.send(said)


@app.get("/events")
async def events(request: Request) -> None:
    response = await request.respond(content_type="text/event-stream")
    for number in range(3):
        await response.send(f"data: {number}\n\n")
        await asyncio.sleep(PAUSE)
    await response.eof()


inner = Blueprint("inner", url_prefix="/inner/<m>")


@inner.get("/items/<n:int>")
async def inner_item(_: Request, m: str, n: int) -> HTTPResponse:
    return json({m: n})


app.blueprint(inner)
