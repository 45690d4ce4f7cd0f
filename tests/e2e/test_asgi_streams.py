"""An application that streams without asking for its client: usage asks in its place, and takes nothing from it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from otel_usage import UsageMiddleware
from otel_usage.instrumentation.listening import Listening
from otel_usage.testing import AxiomStub
from tests.outside import Outside, facts, outcome, outside, the_request
from tests.servers import serve_asgi

CHUNK = b"x" * 1000
SIZES = "http.request.body.size", "http.response.body.size"

Messages = list[Any]
Asking = Callable[[Callable[[], Awaitable[Any]]], Awaitable[None]]


def streaming(parts: int, asking: Asking | None = None) -> Any:
    """An app that sends so many parts, and asks for its client's messages before the last."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(parts):
            await send({"type": "http.response.body", "body": CHUNK, "more_body": True})
            await asyncio.sleep(0.01)
        if asking is not None:
            await asking(receive)
        await send({"type": "http.response.body", "body": b""})

    return UsageMiddleware(app)


def test_a_client_that_leaves_is_noticed_though_the_application_does_not_ask(usage_on: None, stub: AxiomStub) -> None:
    with (
        serve_asgi(streaming(100), lifespan="off") as url,
        httpx.Client(transport=Outside()) as client,
        client.stream("GET", url) as answer,
    ):
        next(answer.iter_bytes())
    span = the_request(stub)
    assert outcome(span) == (200, "client_aborted", True, None)
    assert 1000 <= facts(span, SIZES[1])[0] < 100_000, "what goes to nobody is not counted"


def test_a_client_that_stays_has_its_answer(usage_on: None, stub: AxiomStub) -> None:
    with serve_asgi(streaming(10), lifespan="off") as url:
        (answer,) = outside(url, "/")
    assert answer.content == CHUNK * 10
    span = the_request(stub)
    assert outcome(span) == (200, "ok", None, None)
    assert facts(span, *SIZES) == (0, 10_000)


def test_the_application_hears_what_it_would_hear(usage_on: None, stub: AxiomStub) -> None:
    heard: Messages = []

    async def asking(receive: Any) -> None:
        heard.append(await receive())
        with pytest.raises(TimeoutError):  # the client is there, and silent
            await asyncio.wait_for(receive(), 0.05)

    with serve_asgi(streaming(5, asking), lifespan="off") as url:
        outside(url, "/")
    assert [(each["type"], each["body"], each["more_body"]) for each in heard] == [("http.request", b"", False)]
    assert outcome(the_request(stub)) == (200, "ok", None, None)


def test_a_body_is_the_applications_to_read(usage_on: None, stub: AxiomStub) -> None:
    body = bytearray()

    async def asking(receive: Any) -> None:
        more = True
        while more:
            message = await receive()
            body.extend(message["body"])
            more = message["more_body"]

    with (
        serve_asgi(streaming(5, asking), lifespan="off") as url,
        httpx.Client(transport=Outside()) as client,
    ):
        client.post(url, content=b"z" * 300_000)
    assert body == b"z" * 300_000
    span = the_request(stub)
    assert outcome(span) == (200, "ok", None, None)
    assert facts(span, *SIZES) == (300_000, 5000)


REQUEST = {"type": "http.request", "body": b"a", "more_body": True}
END = {"type": "http.request", "body": b"", "more_body": False}
GONE = {"type": "http.disconnect"}


@pytest.mark.parametrize("script", [[GONE], [END, GONE], [REQUEST, END, GONE], [REQUEST, REQUEST, END, GONE], [END]])
def test_what_is_heard_is_handed_on_in_its_order_and_counted_once(script: Messages) -> None:
    heard: Messages = []

    async def listen() -> Messages:
        left = iter(script)

        async def receive() -> Any:
            await asyncio.sleep(0)
            for message in left:
                return message
            raise ConnectionError

        listening = Listening(receive, heard.append)
        await asyncio.sleep(0.01)
        found = [await listening.next() for _ in script]
        with pytest.raises(ConnectionError):
            await listening.next()
        return found

    assert asyncio.run(listen()) == heard == script


def test_of_a_body_one_part_is_kept_at_most() -> None:
    async def listen() -> int:
        asked = 0

        async def receive() -> Any:
            nonlocal asked
            asked += 1
            return REQUEST

        Listening(receive, lambda _: None)
        await asyncio.sleep(0.01)
        return asked

    assert asyncio.run(listen()) == 1


def test_who_waits_is_not_left_waiting_when_it_stops() -> None:
    async def listen() -> Any:
        asked = 0

        async def receive() -> Any:
            nonlocal asked
            asked += 1
            if asked == 1:
                await asyncio.Event().wait()
            return GONE

        listening = Listening(receive, lambda _: None)
        waiting = asyncio.create_task(listening.next())
        await asyncio.sleep(0.01)
        listening.stop()
        return await asyncio.wait_for(waiting, 5)

    assert asyncio.run(listen()) == GONE
