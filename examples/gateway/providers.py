"""Calls to third parties over two shared connection pools, and the gateway's own count of them.

The count has nothing to do with telemetry: it is kept by hooks of httpx, and every response says it in
``x-upstream-calls``. So a caller can compare what usage telemetry reports with what really happened.
"""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CALLS_HEADER: Final = "x-upstream-calls"
"""Calls made before the response started: ``yahoo-finance=2,newswire=1``."""
LATER_CALLS_HEADER: Final = "x-upstream-calls-later"
"""Calls that are going to be made after the response, in the same form."""

UsageNames = dict[str, str]
"""What usage telemetry should call a call: ``provider``, ``operation``, and ``cache_status`` behind a cache."""

_DEFAULT_TIMEOUT: Final = 5.0
_RESPONSE_STARTS: Final = frozenset({"http.response.start", "websocket.accept", "websocket.http.response.start"})


class ProviderError(Exception):
    """A provider failed, was too slow or turned us away. ``status`` is what our own caller is told."""

    def __init__(self, provider: str, status: int, retry_after: str | None = None) -> None:
        super().__init__(f"{provider} is not available")
        self.provider, self.status, self.retry_after = provider, status, retry_after


@dataclass(slots=True)
class UpstreamCalls:
    """The calls of one request, by provider."""

    made: Counter[str] = field(default_factory=Counter)
    later: Counter[str] = field(default_factory=Counter)

    def headers(self) -> dict[str, str]:
        """The count as response headers. No header for no calls."""
        counts = {CALLS_HEADER: self.made, LATER_CALLS_HEADER: self.later}
        return {name: ",".join(f"{p}={n}" for p, n in sorted(c.items())) for name, c in counts.items() if c}


_calls: ContextVar[UpstreamCalls | None] = ContextVar("upstream_calls", default=None)


def upstream_headers() -> dict[str, str]:
    """The headers that say what the current request has called so far."""
    calls = _calls.get()
    return calls.headers() if calls else {}


def announce(provider: str) -> None:
    """Say that the current request calls ``provider`` once more after its response. Call before the response starts."""
    if calls := _calls.get():
        calls.later[provider] += 1


class CountUpstreamCalls:
    """ASGI middleware: counts the calls of each request and puts them in its response's headers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        # Never reset: the handler of unhandled exceptions stands outside of this middleware and still reads it. The
        # server gives each request a context of its own.
        calls = UpstreamCalls()
        _calls.set(calls)

        async def counted(message: Message) -> None:
            if message["type"] in _RESPONSE_STARTS:
                message.setdefault("headers", [])
                MutableHeaders(scope=message).update(calls.headers())
            await send(message)

        await self._app(scope, receive, counted)


class Providers:
    """The third parties, seen from the gateway."""

    def __init__(self, client: httpx.AsyncClient, blocking_client: httpx.Client) -> None:
        self.client, self.blocking_client = client, blocking_client

    async def call(
        self,
        names: UsageNames,
        url: str,
        *,
        json: object = None,
        timeout: float = _DEFAULT_TIMEOUT,
        stream: bool = False,
    ) -> httpx.Response:
        """One call: a POST if there is ``json`` to send, else a GET. Redirects are followed.

        ``names`` is for usage telemetry, which finds it in the request's extensions; nothing of it is sent.
        With ``stream`` the body of the answer is the caller's to read and to close.

        Raises:
            ProviderError: no answer within ``timeout`` seconds, or a 429, or a 5xx.

        """
        request = self.client.build_request(
            "GET" if json is None else "POST",
            url,
            json=json,
            timeout=timeout,
            extensions={"usage": names},
        )
        try:
            answer = await self.client.send(request, stream=stream, follow_redirects=True)
        except httpx.HTTPError as error:
            raise ProviderError(names["provider"], 503) from error
        if answer.is_server_error or answer.status_code == 429:
            await answer.aclose()
        return _usable(names["provider"], answer)

    def call_blocking(self, names: UsageNames, url: str, params: dict[str, str]) -> httpx.Response:
        """The same for a handler that runs in a thread.

        Raises:
            ProviderError: as for :meth:`call`.

        """
        try:
            answer = self.blocking_client.get(url, params=params, extensions={"usage": names})
        except httpx.HTTPError as error:
            raise ProviderError(names["provider"], 503) from error
        return _usable(names["provider"], answer)


@asynccontextmanager
async def open_providers(base_url: str) -> AsyncIterator[Providers]:
    """The providers at ``base_url``, until the context ends."""
    # The pools are wide and ignore the environment's proxies: the providers of the example are on this machine.
    options: dict[str, Any] = {
        "base_url": base_url,
        "timeout": _DEFAULT_TIMEOUT,
        "limits": httpx.Limits(max_connections=256, max_keepalive_connections=64, keepalive_expiry=2.0),
        "trust_env": False,
    }
    async with httpx.AsyncClient(**options, event_hooks={"request": [_count_async]}) as client:
        with httpx.Client(**options, event_hooks={"request": [_count]}) as blocking_client:
            yield Providers(client, blocking_client)


def _count(request: httpx.Request) -> None:
    # httpx calls this for each hop of a redirect too: each is a request that the provider has to answer.
    if calls := _calls.get():
        calls.made[request.extensions["usage"]["provider"]] += 1


async def _count_async(request: httpx.Request) -> None:
    _count(request)


def _usable(provider: str, answer: httpx.Response) -> httpx.Response:
    if answer.status_code == 429:
        raise ProviderError(provider, 503, retry_after=answer.headers.get("retry-after"))
    if answer.is_server_error:
        raise ProviderError(provider, 502)
    return answer
