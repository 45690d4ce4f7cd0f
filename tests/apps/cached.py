"""A service whose calls go through caches, which knows nothing of how they are recorded.

Each cache is a small program of the same shape: it asks for a URL, with what it has stored in SQLite.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NamedTuple

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

import otel_usage as usage


class Order(NamedTuple):
    """What is asked for."""

    url: str
    method: str = "GET"
    revalidate: bool = False
    """Whether the upstream is to be asked if what is stored is still good."""
    stale: bool = False
    """Whether a stale answer will do."""


Answer = tuple[int, str]
"""Status code and text."""

NO_CACHE: Final = {"cache-control": "no-cache"}


class Hishel:
    """hishel's clients of httpx or httpx2."""

    def __init__(self, library: str, store: Path) -> None:
        hishel, module = import_module("hishel"), import_module(f"hishel.{library}")
        self._clients = {
            stale: module.CacheClient(
                storage=hishel.SqliteStorage(database_path=store / f"{stale}.db"), rfc={"allow_stale": stale}
            )
            for stale in (False, True)
        }

    async def ask(self, order: Order) -> Answer:
        return await asyncio.to_thread(self._ask, order)

    def _ask(self, order: Order) -> Answer:
        client = self._clients[order.stale]
        answer = client.request(order.method, order.url, headers=NO_CACHE if order.revalidate else {})
        return answer.status_code, answer.text

    async def close(self) -> None:
        for client in self._clients.values():
            client.close()


class AsyncHishel:
    """The same, async."""

    def __init__(self, library: str, store: Path) -> None:
        hishel, module = import_module("hishel"), import_module(f"hishel.{library}")
        self._clients = {
            stale: module.AsyncCacheClient(
                storage=hishel.AsyncSqliteStorage(database_path=store / f"{stale}.db"), rfc={"allow_stale": stale}
            )
            for stale in (False, True)
        }

    async def ask(self, order: Order) -> Answer:
        client = self._clients[order.stale]
        answer = await client.request(order.method, order.url, headers=NO_CACHE if order.revalidate else {})
        return answer.status_code, answer.text

    async def close(self) -> None:
        for client in self._clients.values():
            await client.aclose()


class HishelRequests:
    """hishel's adapter for requests."""

    def __init__(self, store: Path) -> None:
        import hishel
        import requests
        from hishel.requests import CacheAdapter

        self._sessions = {stale: requests.Session() for stale in (False, True)}
        for stale, session in self._sessions.items():
            storage = hishel.SqliteStorage(database_path=store / f"{stale}.db")
            session.mount("http://", CacheAdapter(storage=storage, rfc={"allow_stale": stale}))

    async def ask(self, order: Order) -> Answer:
        return await asyncio.to_thread(self._ask, order)

    def _ask(self, order: Order) -> Answer:
        session = self._sessions[order.stale]
        answer = session.request(order.method, order.url, headers=NO_CACHE if order.revalidate else {}, timeout=20)
        return answer.status_code, answer.text

    async def close(self) -> None:
        for session in self._sessions.values():
            session.close()


class RequestsCache:
    """requests-cache."""

    def __init__(self, store: Path) -> None:
        from requests_cache import CachedSession

        self._sessions = {
            stale: CachedSession(
                str(store / f"{stale}.db"),
                backend="sqlite",
                cache_control=True,
                allowable_codes=(200, 404),
                stale_while_revalidate=stale,
            )
            for stale in (False, True)
        }

    async def ask(self, order: Order) -> Answer:
        return await asyncio.to_thread(self._ask, order)

    def _ask(self, order: Order) -> Answer:
        answer = self._sessions[order.stale].request(order.method, order.url, refresh=order.revalidate, timeout=20)
        return answer.status_code, answer.text

    async def close(self) -> None:
        for session in self._sessions.values():
            session.close()


class AiohttpClientCache:
    """aiohttp-client-cache. It has nothing to do with what is stale."""

    def __init__(self, store: Path) -> None:
        from aiohttp_client_cache import CachedSession, SQLiteBackend

        backend = SQLiteBackend(str(store / "store.db"), cache_control=True, allowed_codes=(200, 404))
        self._session = CachedSession(cache=backend)

    async def ask(self, order: Order) -> Answer:
        async with self._session.request(order.method, order.url, refresh=order.revalidate) as answer:
            return answer.status, await answer.text()

    async def close(self) -> None:
        await self._session.close()


PROGRAMS: Final[Mapping[str, Callable[[Path], Any]]] = {
    "hishel for httpx": lambda store: Hishel("httpx", store),
    "hishel for httpx, async": lambda store: AsyncHishel("httpx", store),
    "hishel for httpx2": lambda store: Hishel("httpx2", store),
    "hishel for httpx2, async": lambda store: AsyncHishel("httpx2", store),
    "hishel for requests": HishelRequests,
    "requests-cache": RequestsCache,
    "aiohttp-client-cache": AiohttpClientCache,
}


@asynccontextmanager
async def program(name: str, store: Path) -> AsyncIterator[Any]:
    """A cache that keeps its store in this folder."""
    made = PROGRAMS[name](store)
    try:
        yield made
    finally:
        await made.close()


async def ask(request: Request) -> JSONResponse:
    """Pass on each of the orders that the query lists, one after the other."""
    usage.identify(customer_id=request.headers["x-customer"])
    answers = []
    for order in request.query_params.getlist("order"):
        url, method, revalidate, stale = order.split(" ")
        named = request.query_params.get("named")
        with usage.upstream(*named.split(" ")) if named else nullcontext():
            answers.append(
                await request.app.state.program.ask(Order(url, method, revalidate == "True", stale == "True"))
            )
    return JSONResponse(answers)


async def fence(request: Request) -> JSONResponse:
    """What is recorded of this comes after what was recorded before."""
    usage.identify(customer_id=request.headers["x-customer"])
    return JSONResponse([])


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    async with program(os.environ["CACHE"], Path(os.environ["CACHE_STORE"])) as app.state.program:
        yield


app = Starlette(routes=[Route("/ask", ask), Route("/fence", fence)], lifespan=lifespan)
