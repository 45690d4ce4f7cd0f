"""Whether a request costs the same, however many customers and routes there are.

One process and one application; for each number of customers and of routes a block of requests, in random order, in
each round. What is compared is what they took in the same round.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import random
import statistics
import time
from collections.abc import Iterator
from typing import Any, Final

from .children import measured
from .finding import Finding
from .sink import Sink
from .switched import switch_on

CUSTOMERS: Final = (1, 100, 10_000)
ROUTES: Final = (1, 100, 1_000, 10_000)
BLOCK: Final = 1000
"""Requests of one combination in one round."""
WARM_UP: Final = 12_000
"""Requests before: enough for every customer and every route to have been seen."""

CLOCKS: Final = {"thread": "on the request's thread", "cpu": "of all threads, delivery included"}


def find(rounds: int) -> list[Finding]:
    """The ratio to one customer and one route, by both clocks."""
    with Sink() as sink:
        found = measured("flat", sink.url, rounds)
    return [_finding(clock, found["blocks"]) for clock in CLOCKS]


def _finding(clock: str, blocks: list[dict[str, dict[str, float]]]) -> Finding:
    ratios = {
        key: statistics.median(block[key][clock] / block["1 x 1"][clock] for block in blocks)
        for key in blocks[0]
        if key != "1 x 1"
    }
    again = ratios.pop("again")
    one = statistics.median(block["1 x 1"][clock] for block in blocks)
    shown = ", ".join(f"{key}: {ratio:.2f}" for key, ratio in ratios.items())
    return Finding(
        f"flat, CPU time {CLOCKS[clock]}, customers x routes over 1 x 1",
        f"{shown} (1 x 1 again: {again:.2f}; it takes {one:.0f} µs, the bare application's included)",
        numbers={"ratios": ratios, "again": again, "us": one},
    )


def work(url: str, rounds: str) -> dict[str, Any]:
    """Microseconds of a request, of each combination in each round."""
    switch_on(url, queue_size=1 << 16)
    return asyncio.run(_rounds(int(rounds)))


async def _rounds(rounds: int) -> dict[str, Any]:
    import otel_usage as usage

    combinations = {f"{c:,} x {r:,}": (c, r) for c, r in itertools.product(CUSTOMERS, ROUTES)} | {"again": (1, 1)}
    app, chance, blocks = usage.UsageMiddleware(_answer), random.Random(3), []
    await _drive(app, zip(itertools.cycle(range(max(CUSTOMERS))), range(WARM_UP), strict=False))
    for _ in range(rounds):
        block = {}
        for key, (customers, routes) in chance.sample(list(combinations.items()), len(combinations)):
            usage.flush(60)
            pairs = [(chance.randrange(customers), chance.randrange(routes)) for _ in range(BLOCK)]
            block[key] = await _timed(app, pairs)
        blocks.append({key: block[key] for key in combinations})
    return {"blocks": blocks}


async def _timed(app: Any, pairs: list[tuple[int, int]]) -> dict[str, float]:
    import otel_usage as usage

    gc.collect()
    thread, cpu = time.thread_time(), time.process_time()
    await _drive(app, iter(pairs))
    thread = time.thread_time() - thread
    usage.flush(60)
    cpu = time.process_time() - cpu
    return {"thread": thread / BLOCK * 1e6, "cpu": cpu / BLOCK * 1e6}


async def _drive(app: Any, pairs: Iterator[tuple[int, int]]) -> None:
    for customer, route in pairs:
        scope = {
            "type": "http",
            "method": "GET",
            "path": f"/v1/r{route}/{customer}",
            "headers": [(b"host", b"api.example.com"), (b"user-agent", b"client/1.0")],
            "pair": (customer, route),
        }
        await app(scope, _receive, _send)


async def _answer(scope: Any, receive: Any, send: Any) -> None:
    import otel_usage as usage

    customer, route = scope["pair"]
    usage.identify(
        customer_id=f"cus_{customer:06d}", tier=2, auth_kind="user_api_key", principal=f"sk_live_{customer:024d}"
    )
    usage.annotate(route=f"/v1/r{route}/{{id}}")
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"{}"})


async def _receive() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _send(message: dict[str, Any]) -> None:
    """What is sent is of no interest."""
