"""Requests of many kinds, recorded by this package in this process, each with facts that are known beforehand."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import otel_usage as usage

CUSTOMERS: Final = (("acme", 3), ("globex", 2), ("initech", 1), ("umbrella", 0))
"""Each with its tier."""
ROUTES: Final = ("/v1/items/{id}", "/v1/orders", "/v1/reports/{name}")
OUTCOMES: Final = ((200, None), (200, None), (403, "tier_403"), (429, "rate_limit_429"), (500, None))
"""Statuses, and what the application says of them."""


@dataclass(frozen=True)
class Call:
    """One request, as the application will serve it."""

    customer: str
    tier: int
    route: str
    status: int
    rejected: str | None
    body: int
    """Bytes of its own body; the answer's is twice as long."""
    upstream: int
    """Upstream calls."""
    tokens: int
    """Tokens of a prompt; the completion has half as many. 0: no model was called."""

    @property
    def reason(self) -> str:
        """What the package makes of it."""
        return self.rejected or ("server_error" if self.status >= 500 else "ok")


def calls(number: int) -> list[Call]:
    """As many calls as that, of every combination."""
    combined = itertools.cycle(itertools.product(CUSTOMERS, ROUTES, OUTCOMES))
    return [
        Call(customer, tier, route, status, rejected, n % 97, n % 3, 10 * (n % 5))
        for n, ((customer, tier), route, (status, rejected)) in zip(range(number), combined, strict=False)
    ]


def serve(served: Iterable[Call]) -> None:
    """Serve them, one after the other."""
    asyncio.run(_serve(served))


def expected(served: Sequence[Call]) -> dict[str, Counter[tuple[object, ...]]]:
    """What the metrics have to add up to, by customer, route and reason."""
    sums: dict[str, Counter[tuple[object, ...]]] = {name: Counter() for name in _OF_A_CALL}
    for call in served:
        for name, value in _OF_A_CALL.items():
            sums[name][call.customer, call.route, call.reason] += value(call)
    return sums


_OF_A_CALL: Final = {
    "usage.requests": lambda call: 1,
    "usage.request.errors": lambda call: int(call.status >= 500),
    "usage.upstream.calls": lambda call: call.upstream,
    "usage.request.bytes": lambda call: call.body,
    "usage.response.bytes": lambda call: 2 * call.body,
}


async def _serve(served: Iterable[Call]) -> None:
    for call in served:
        body = {"type": "http.request", "body": b"x" * call.body, "more_body": False}

        async def receive(body: dict[str, Any] = body) -> dict[str, Any]:
            return body

        async def send(message: dict[str, Any]) -> None: ...

        app: Any = usage.UsageMiddleware(_application(call))
        await app(_scope(call), receive, send)


def _scope(call: Call) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 50000),
        "scheme": "http",
        "method": "POST",
        "root_path": "",
        "path": "/anything",
        "raw_path": b"/anything",
        "query_string": b"",
        "headers": [(b"host", b"api.example.com")],
        "state": {},
    }


def _application(call: Call) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        usage.identify(customer_id=call.customer, tier=call.tier, auth_kind="jwt", provenance="verified")
        usage.annotate(route=call.route)
        if call.rejected is not None:
            usage.reject(call.rejected)
        for _ in range(call.upstream):
            with usage.upstream("warehouse", "stock"):
                pass
        if call.tokens:
            usage.record_llm("openai", "gpt-5", input_tokens=call.tokens, output_tokens=call.tokens // 2)
        await receive()
        await send({"type": "http.response.start", "status": call.status, "headers": []})
        await send({"type": "http.response.body", "body": b"y" * (2 * call.body), "more_body": False})

    return app
