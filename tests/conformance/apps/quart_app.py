import asyncio
import threading
from collections.abc import AsyncIterator

import httpx
import quart
from setting import CHUNK, PAUSE, SECRET, UPSTREAM

import otel_usage as usage

app = quart.Quart(__name__)


@app.before_request
async def authenticate() -> None:
    if quart.request.endpoint == "deep":
        usage.identify(customer_id=quart.request.view_args["customer"], tier=1)


@app.get("/")
async def hello() -> str:
    return "hello"


@app.get("/items/<int:n>")
def item(n: int) -> dict[str, int]:
    return {"n": n}


@app.post("/echo")
async def echo() -> bytes:
    return await quart.request.get_data()


@app.get("/empty")
async def empty() -> tuple[str, int]:
    return "", 204


@app.get("/moved")
async def moved() -> quart.typing.ResponseReturnValue:
    return quart.redirect("/", 302)


@app.get("/status/<int:code>")
async def status(code: int) -> tuple[str, int]:
    return "as you wish", code


@app.get("/refused")
async def refused() -> None:
    quart.abort(403)


@app.get("/broken")
async def broken() -> None:
    raise RuntimeError(SECRET)


async def chunks(count: int, *, breaks: bool = False) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield CHUNK
        await asyncio.sleep(PAUSE)
    if breaks:
        raise RuntimeError(SECRET)


@app.get("/stream")
async def stream() -> AsyncIterator[bytes]:
    return chunks(5)


@app.get("/stream-broken")
async def stream_broken() -> AsyncIterator[bytes]:
    return chunks(1, breaks=True)


@app.get("/forever")
async def forever() -> AsyncIterator[bytes]:
    return chunks(1000)


@app.get("/slow")
async def slow() -> str:
    await asyncio.sleep(0.5)
    return "at last"


@app.get("/as/<customer>")
async def as_customer(customer: str) -> str:
    await asyncio.sleep(PAUSE)
    usage.identify(customer_id=customer, tier=1)
    await asyncio.sleep(PAUSE)
    usage.identify(plan="pro")
    return customer


@app.get("/deep/<customer>")
async def deep(customer: str) -> str:
    return customer


@app.get("/thread/<customer>")
def thread(customer: str) -> str:
    worker = threading.Thread(target=usage.identify, kwargs={"customer_id": customer, "tier": 1})
    worker.start()
    worker.join()
    return customer


@app.get("/upstream")
async def upstream() -> str:
    async with httpx.AsyncClient() as client:
        answer = await client.get(UPSTREAM)
    return str(len(answer.content))


async def afterwards() -> None:
    await asyncio.sleep(PAUSE)
    with usage.usage_span("afterwards"):
        async with httpx.AsyncClient() as client:
            await client.get(UPSTREAM)


@app.get("/background/<customer>")
async def background(customer: str) -> str:
    usage.identify(customer_id=customer, tier=1)
    app.add_background_task(afterwards)
    return customer


@app.websocket("/ws")
async def web_socket() -> None:
    while (text := await quart.websocket.receive()) != "bye":
        await quart.websocket.send(text)


@app.get("/events")
async def events() -> quart.Response:
    async def three() -> AsyncIterator[bytes]:
        for number in range(3):
            yield b"data: %d\n\n" % number
            await asyncio.sleep(PAUSE)

    return quart.Response(three(), mimetype="text/event-stream")


inner = quart.Blueprint("inner", __name__, url_prefix="/inner/<m>")


@inner.get("/items/<int:n>")
async def inner_item(m: str, n: int) -> dict[str, int]:
    return {m: n}


app.register_blueprint(inner)
