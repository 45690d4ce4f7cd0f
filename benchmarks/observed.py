"""What the two configurations that are written by hand see of a request: as little as usage can be made of."""

from __future__ import annotations

from contextvars import ContextVar
from hashlib import blake2b
from time import perf_counter_ns, time_ns
from typing import Any, NamedTuple

import httpx


class Call(NamedTuple):
    """One upstream call."""

    ended_ns: int
    """Since the epoch."""
    host: str
    method: str
    status: int
    """0: there was no response."""
    duration_ms: float


CALLS: ContextVar[list[Call] | None] = ContextVar("calls", default=None)
"""Those of the request that is being served. None: there is none."""


class ObservedTransport(httpx.AsyncBaseTransport):
    """Puts each call into the list of the request that makes it."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        calls = CALLS.get()
        if calls is None:
            return await self._inner.handle_async_request(request)
        started, status = perf_counter_ns(), 0
        try:
            response = await self._inner.handle_async_request(request)
            status = response.status_code
            return response
        finally:
            milliseconds = (perf_counter_ns() - started) / 1e6
            calls.append(Call(time_ns(), request.url.host, request.method, status, milliseconds))


def observe_calls(client: httpx.AsyncClient | None) -> None:
    """Put the transport around the client's own."""
    if client is not None:
        client._transport = ObservedTransport(client._transport)


class Answer:
    """Counts what a response is made of as it passes."""

    __slots__ = ("_send", "size", "status")

    def __init__(self, send: Any) -> None:
        self._send, self.status, self.size = send, 0, 0

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        else:
            self.size += len(message.get("body", b""))
        await self._send(message)


_key_ids: dict[str, str] = {}


def key_id(key: str) -> str:
    """The keyed hash of a key, made once for each."""
    found = _key_ids.get(key)
    if found is None:
        found = _key_ids[key] = blake2b(key.encode(), key=b"bench:0123456789abcdef", digest_size=16).hexdigest()
    return found


def route_of(scope: Any) -> str:
    route = scope.get("route")
    return "" if route is None else str(route.path)
