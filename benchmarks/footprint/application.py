"""The application that is measured: routes, authentication, upstream calls; what it answers stands in the order.

It is the same with usage and without. Who is calling is told to ``identify``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from .driving import ORDER, FailedError
from .traffic import ROUTES, Order

BODY: Final = bytes(1 << 18)


def application(identify: Callable[..., None] = lambda **_facts: None) -> Any:
    """Make it. ``identify`` takes what ``usage.identify`` takes."""
    client = httpx.AsyncClient(transport=httpx.MockTransport(_answer))

    async def serve(request: Request) -> Response:
        order: Order = request.scope[ORDER]
        if order.received:
            await request.body()
        await _work(order, client)
        headers = {"cache-control": order.cache_control} if order.cache_control else None
        return Response(BODY[: order.sent], order.status, headers, "application/json")

    app = Starlette(routes=[Route(template, serve, methods=[method]) for method, template, _ in ROUTES])
    app.add_middleware(Authenticate, identify=identify)
    return app


class Authenticate:
    """Knows who is calling, and turns away whom it does not know."""

    def __init__(self, app: Any, identify: Callable[..., None]) -> None:
        self._app = app
        self._identify = identify

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        order: Order = scope[ORDER]
        if order.status == 401:
            await Response(b'{"error":"no such key"}', 401)(scope, receive, send)
            return
        # Made anew for each request, as what comes out of a header or a database is.
        customer = f"cus_{order.customer:06d}"
        self._identify(
            customer_id=customer,
            tier=order.customer % 4,
            auth_kind="user_api_key",
            principal=f"sk_live_{order.customer:024d}",
        )
        await self._app(scope, receive, send)


async def _work(order: Order, client: httpx.AsyncClient) -> None:
    call = order.upstream
    if call is not None:
        await client.get(
            f"https://{call.host}/v2/{call.operation}?status={call.status}&size={call.size}",
            extensions={"usage": {"operation": call.operation}},
        )
    if order.seconds:
        await asyncio.sleep(order.seconds)
    if order.status == 500:
        raise FailedError


def _answer(request: httpx.Request) -> httpx.Response:
    asked = request.url.params
    return httpx.Response(int(asked["status"]), content=BODY[: int(asked["size"])])
