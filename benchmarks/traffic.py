"""Requests: the ASGI callable is called in a loop, without a server, whose own cost would drown what is compared."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from benchmarks.application import KEYS

PATHS: Final = 997
"""Different paths. A prime, so that they and the keys combine."""

HEADERS: Final = tuple(
    (
        (b"host", b"api.example.com"),
        (b"user-agent", b"python-client/2.1"),
        (b"accept", b"application/json"),
        (b"accept-encoding", b"gzip, deflate"),
        (b"connection", b"keep-alive"),
        (b"x-api-key", key.encode()),
        (b"x-request-id", b"0f8fad5bd9cb469fa16570867728950e"),
    )
    for key in KEYS
)


def scope_of(number: int) -> dict[str, Any]:
    path = f"/v1/items/{number % PATHS}"
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 50000 + number % 1000),
        "scheme": "http",
        "method": "GET",
        "root_path": "",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": list(HEADERS[number % len(HEADERS)]),
        "state": {},
    }


async def receive() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


async def serve(app: Any, requests: int, first: int = 0) -> None:
    """Serve one request after the other. All of them must be answered with 200."""
    statuses: set[int] = set()

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            statuses.add(message["status"])

    for number in range(first, first + requests):
        await app(scope_of(number), receive, send)
    assert statuses == {200}, statuses


async def start_up(app: Any) -> asyncio.Task[None]:
    """Start the application as a server does. It stays up for as long as the task is kept.

    Raises:
        RuntimeError: it did not start.
    """
    inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    answers: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    inbox.put_nowait({"type": "lifespan.startup"})
    scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.3"}, "state": {}}
    task = asyncio.create_task(app(scope, inbox.get, answers.put))
    answer = await answers.get()
    if answer["type"] != "lifespan.startup.complete":
        raise RuntimeError(f"the application did not start: {answer}")
    return task
