"""Calls an ASGI application with one request after the other, or several at a time, without a server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Any, Final

from .traffic import Order

ORDER: Final = "footprint.order"
"""Where the scope holds what is to become of the request."""

Headers = list[tuple[bytes, bytes]]


def plain_headers(order: Order) -> Headers:
    """What a program sends."""
    return [
        (b"host", b"api.example.com"),
        (b"user-agent", b"client/%d.%d" % divmod(order.agent, 10)),
        (b"accept", b"application/json"),
        (b"x-api-key", b"sk_live_%024d" % order.customer),
    ]


class FailedError(Exception):
    """What the application raises where it is told to fail."""


async def drive(
    app: Any, orders: Iterable[Order], *, at_once: int = 1, headers: Callable[[Order], Headers] = plain_headers
) -> None:
    """Serve them all, ``at_once`` at a time."""
    waiting = iter(orders)

    async def serve() -> None:
        for order in waiting:
            with suppress(FailedError):
                await app(scope_of(order, headers(order)), _receiving(order), _send)

    await asyncio.gather(*(serve() for _ in range(at_once)))


def scope_of(order: Order, headers: Headers) -> dict[str, Any]:
    """What a server makes of a request."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 50000),
        "scheme": "http",
        "method": order.method,
        "root_path": "",
        "path": order.path,
        "raw_path": order.path.encode(),
        "query_string": order.query,
        "headers": headers,
        "state": {},
        ORDER: order,
    }


def _receiving(order: Order) -> Callable[[], Awaitable[dict[str, Any]]]:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": bytes(order.received), "more_body": False}

    return receive


async def _send(message: dict[str, Any]) -> None:
    """What is sent is of no interest."""
