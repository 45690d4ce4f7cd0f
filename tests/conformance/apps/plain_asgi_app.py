"""An ASGI application of no framework. What it serves has a template where it says so."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

import parts
from setting import SECRET

import otel_usage as usage

App = Callable[[Any, Any, Any], Awaitable[None]]


async def answer(send: Any, body: bytes = b"", status: int = 200, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})


async def stream(receive: Any, send: Any, chunks: AsyncIterator[bytes], kind: bytes = b"text/plain") -> None:
    async def sending() -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
        async for chunk in chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    work, gone = asyncio.create_task(sending()), asyncio.create_task(left(receive))
    await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
    gone.cancel()
    if work.done():
        await work  # for what it has raised
    work.cancel()


async def left(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def read(receive: Any) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body


async def as_customer(customer: str) -> bytes:
    await parts.identify_around_a_pause_async(customer)
    return customer.encode()


async def thread(customer: str) -> bytes:
    await asyncio.to_thread(parts.identify_on_a_thread, customer)
    return customer.encode()


async def background(customer: str) -> bytes:
    parts.identify(customer)
    parts.start_afterwards_async()
    return customer.encode()


async def serve(scope: Any, receive: Any, send: Any) -> None:  # noqa: C901 - it is the table of what there is
    match scope["path"].split("/")[1:]:
        case [""]:
            usage.annotate(route="/")
            await answer(send, b"hello")
        case ["items", n]:
            usage.annotate(route="/items/{n}")
            if scope["method"] != "GET":
                await answer(send, status=405)
            else:
                await answer(send, json.dumps({"n": int(n)}).encode())
        case ["inner", m, "items", n]:
            usage.annotate(route="/inner/{m}/items/{n}")
            await answer(send, json.dumps({m: int(n)}).encode())
        case ["echo"]:
            await answer(send, await read(receive))
        case ["empty"]:
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body"})
        case ["moved"]:
            await answer(send, status=302, headers=[(b"location", b"/")])
        case ["status", code]:
            usage.annotate(route="/status/{code}")
            await answer(send, b"as you wish", int(code))
        case ["refused"]:
            usage.annotate(route="/refused")
            await answer(send, status=403)
        case ["broken"]:
            usage.annotate(route="/broken")
            raise RuntimeError(SECRET)
        case ["stream"]:
            await stream(receive, send, parts.chunks_async(5))
        case ["stream-broken"]:
            await stream(receive, send, parts.chunks_async(1, breaks=True))
        case ["forever"]:
            await stream(receive, send, parts.chunks_async(1000))
        case ["slow"]:
            usage.annotate(route="/slow")
            await asyncio.sleep(0.5)
            await answer(send, b"at last")
        case ["as", customer]:
            await answer(send, await as_customer(customer))
        case ["deep", customer]:
            await answer(send, customer.encode())
        case ["thread", customer]:
            await answer(send, await thread(customer))
        case ["upstream"]:
            usage.annotate(route="/upstream")
            await answer(send, (await parts.call_upstream_async()).encode())
        case ["background", customer]:
            await answer(send, await background(customer))
        case ["events"]:
            usage.annotate(route="/events")
            await stream(receive, send, parts.events_async(), b"text/event-stream")
        case _:
            await answer(send, status=404)


async def web_socket(receive: Any, send: Any) -> None:
    usage.annotate(route="/ws")
    await receive()
    await send({"type": "websocket.accept"})
    while (text := (await receive())["text"]) != "bye":
        await send({"type": "websocket.send", "text": text})
    await send({"type": "websocket.close"})


async def last(receive: Any, send: Any) -> None:
    for kind in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{kind}.complete"})


async def plain(scope: Any, receive: Any, send: Any) -> None:
    match scope["type"]:
        case "http":
            await serve(scope, receive, send)
        case "websocket":
            await web_socket(receive, send)
        case _:
            await last(receive, send)


def authenticating(within: App) -> App:
    async def call(scope: Any, receive: Any, send: Any) -> None:
        path = scope.get("path", "")
        if path.startswith("/deep/"):
            parts.identify(path.removeprefix("/deep/"))
        await within(scope, receive, send)

    return call


app = authenticating(plain)
if os.environ.get("MODE") == "by-hand":
    app = usage.UsageMiddleware(app)
