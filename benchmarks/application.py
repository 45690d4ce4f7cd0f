"""The application that every configuration serves, and the middleware that knows who calls it."""

from __future__ import annotations

import random
from typing import Any, Final

import httpx
from fastapi import FastAPI

VARIANTS: Final = {"A": "one route", "B": "one route and one upstream call"}
CUSTOMERS_COUNT: Final = 37
UPSTREAM: Final = "http://upstream.example/v2/lookup?sku="

_RANDOM: Final = random.Random(CUSTOMERS_COUNT)  # the same keys in every process
KEYS: Final = tuple(f"sk_live_{_RANDOM.getrandbits(128):032x}" for _ in range(CUSTOMERS_COUNT))
CUSTOMERS: Final = {key: f"customer-{number}" for number, key in enumerate(KEYS)}

QUIET: Final = {"tracing": False, "metrics": False, "logs": False}
"""For ``FastAPI(telemetry=…)``: FastAPI's own telemetry off, also where there is a global provider."""


class KnowsCaller:
    """Reads the key and looks up its customer, as every service with customers does: in all configurations."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            key = key_of(scope)
            scope["state"]["key"], scope["state"]["customer"] = key, CUSTOMERS[key]
        await self.app(scope, receive, send)


def key_of(scope: Any) -> str:
    for name, value in scope["headers"]:
        if name == b"x-api-key":
            return str(value, "latin-1")
    return ""


def upstream_client(variant: str) -> httpx.AsyncClient | None:
    """None in variant A. In B, one with a transport that answers at once, so that no network is measured."""
    if variant == "A":
        return None
    return httpx.AsyncClient(transport=httpx.MockTransport(lambda _request: httpx.Response(200, json={"n": 7})))


def application(client: httpx.AsyncClient | None, middleware: Any = KnowsCaller, **options: Any) -> FastAPI:
    """``middleware`` knows the caller; ``options`` are FastAPI's."""
    app = FastAPI(**options)

    @app.get("/v1/items/{id}")
    async def item(id: int) -> dict[str, Any]:
        if client is not None:
            return {"id": id, "name": "widget", "n": (await client.get(f"{UPSTREAM}{id}")).json()["n"]}
        return {"id": id, "name": "widget", "price": 9.5, "tags": ["a", "b"]}

    app.add_middleware(middleware)
    return app
