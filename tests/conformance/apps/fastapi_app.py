import asyncio
import threading
from collections.abc import AsyncIterator

import httpx
from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, HTTPException, Request, Response, WebSocket
from fastapi.responses import PlainTextResponse, RedirectResponse, StreamingResponse
from setting import CHUNK, PAUSE, SECRET, UPSTREAM

import otel_usage as usage

app = FastAPI()


@app.get("/")
async def hello() -> PlainTextResponse:
    return PlainTextResponse("hello")


@app.get("/items/{n}")
def item(n: int) -> dict[str, int]:
    return {"n": n}


@app.post("/echo")
async def echo(request: Request) -> Response:
    return Response(await request.body())


@app.get("/empty", status_code=204)
async def empty() -> None:
    pass


@app.get("/moved")
async def moved() -> RedirectResponse:
    return RedirectResponse("/", 302)


@app.get("/status/{code}")
async def status(code: int) -> PlainTextResponse:
    return PlainTextResponse("as you wish", code)


@app.get("/refused")
async def refused() -> None:
    raise HTTPException(403)


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
async def stream() -> StreamingResponse:
    return StreamingResponse(chunks(5))


@app.get("/stream-broken")
async def stream_broken() -> StreamingResponse:
    return StreamingResponse(chunks(1, breaks=True))


@app.get("/forever")
async def forever() -> StreamingResponse:
    return StreamingResponse(chunks(1000))


@app.get("/slow")
async def slow() -> PlainTextResponse:
    await asyncio.sleep(0.5)
    return PlainTextResponse("at last")


@app.get("/as/{customer}")
async def as_customer(customer: str) -> PlainTextResponse:
    await asyncio.sleep(PAUSE)
    usage.identify(customer_id=customer, tier=1)
    await asyncio.sleep(PAUSE)
    usage.identify(plan="pro")
    return PlainTextResponse(customer)


async def authenticated(customer: str) -> str:
    usage.identify(customer_id=customer, tier=1)
    return customer


@app.get("/deep/{customer}")
async def deep(customer: str = Depends(authenticated)) -> PlainTextResponse:
    return PlainTextResponse(customer)


@app.get("/thread/{customer}")
def thread(customer: str) -> PlainTextResponse:
    worker = threading.Thread(target=usage.identify, kwargs={"customer_id": customer, "tier": 1})
    worker.start()
    worker.join()
    return PlainTextResponse(customer)


@app.get("/upstream")
async def upstream() -> PlainTextResponse:
    async with httpx.AsyncClient() as client:
        answer = await client.get(UPSTREAM)
    return PlainTextResponse(str(len(answer.content)))


async def afterwards() -> None:
    await asyncio.sleep(PAUSE)
    with usage.usage_span("afterwards"):
        async with httpx.AsyncClient() as client:
            await client.get(UPSTREAM)


@app.get("/background/{customer}")
async def background(customer: str, tasks: BackgroundTasks) -> PlainTextResponse:
    usage.identify(customer_id=customer, tier=1)
    tasks.add_task(afterwards)
    return PlainTextResponse(customer)


@app.websocket("/ws")
async def web_socket(socket: WebSocket) -> None:
    await socket.accept()
    while (text := await socket.receive_text()) != "bye":
        await socket.send_text(text)
    await socket.close()


@app.get("/events")
async def events() -> StreamingResponse:
    async def three() -> AsyncIterator[bytes]:
        for number in range(3):
            yield b"data: %d\n\n" % number
            await asyncio.sleep(PAUSE)

    return StreamingResponse(three(), media_type="text/event-stream")


inner = APIRouter(prefix="/inner/{m}")


@inner.get("/items/{n}")
async def inner_item(m: str, n: int) -> dict[str, int]:
    return {m: n}


app.include_router(inner)
