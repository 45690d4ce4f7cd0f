"""A day of a quiet service in minutes: does the process grow?

Customers, user agents and routes that have not been seen before keep coming, requests fail, and the sink is away now
and then. The schedule of delivery is as much quicker as the traffic is. The pauses of the circuit breaker are no
settings, and take their time. A second process serves the same requests without usage: what the interpreter, the
application and the machine do by themselves.
"""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import itertools
import math
import random
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from starlette.responses import Response

from .application import application
from .children import measured
from .driving import ORDER, drive
from .figures import slope
from .finding import Finding
from .sink import Sink
from .traffic import PROVIDERS, Order, orders

LEGS: Final = 15
"""Equal parts of the run. After each there is a sample."""
WARM_UP: Final = 5
"""Legs whose samples do not count: a third."""
OUTAGE_EVERY: Final = 3
"""The sink fails in the second half of each leg of that number."""
CUSTOMERS, AGENTS, RARE = 20_000, 10_000, 10
"""Different customers and user agents; and each so many requests, a route that has never been."""
PEPPER: Final = "soak:0123456789abcdef"
MOST_QUEUED: Final = 4096
SLICE: Final = 250
"""Requests between two looks at the queue, which fills quicker than a day's requests would fill it."""
LONGEST_RECOVERY: Final = 120.0

KINDS: Final = {"rss": ("RSS", 1024.0, "KiB"), "objects": ("objects known to the garbage collector", 1.0, "")}


def find(requests: int) -> list[Finding]:
    """Growth over the last two thirds, with usage and without."""
    used, bare = measured("soak", requests, "usage"), measured("soak", requests, "bare")
    return [_finding(kind, requests, used, bare) for kind in KINDS]


def _finding(kind: str, requests: int, used: dict[str, Any], bare: dict[str, Any]) -> Finding:
    """Whether what it grows by more than without usage is within what the two lines are unsure of."""
    name, unit, word = KINDS[kind]
    (rise, noise), (rise_bare, noise_bare) = (_growth(each["samples"], kind) for each in (used, bare))
    sure = math.hypot(noise, noise_bare)
    shown = (
        f"{rise / unit:+,.0f} ± {noise / unit:,.0f} {word} over the last two thirds of {requests:,} requests "
        f"(without usage {rise_bare / unit:+,.0f} ± {noise_bare / unit:,.0f}; {used['ledger']})"
    )
    numbers = {"with": used, "without": bare}
    return Finding(f"soak, growth of {name}", shown, "none: within ±", rise - rise_bare <= sure, numbers)


def _growth(samples: list[dict[str, float]], kind: str) -> tuple[float, float]:
    counted = samples[WARM_UP:]
    rise, noise = slope(range(len(counted)), [sample[kind] for sample in counted])
    return rise * len(counted), noise * len(counted)


def work(requests: str, which: str) -> dict[str, Any]:
    """A sample after each leg, and how the ledger ended."""
    per_leg = int(requests) // LEGS
    with tempfile.TemporaryDirectory() as spool, Sink() as sink:
        if which == "bare":
            return {"samples": asyncio.run(_legs(application(), per_leg, None)), "ledger": ""}
        import otel_usage as usage

        from .switched import switch_on

        switch_on(sink.url, user_agent_pepper=PEPPER, providers=PROVIDERS, schedule_delay=0.01, spool=Path(spool))
        app = application(usage.identify)
        app.add_middleware(RareRoutes)
        samples = asyncio.run(_legs(app, per_leg, sink))
        health = usage.health()
        assert health.ledger.balanced, health
        usage.uninstrument()
    return {"samples": samples, "ledger": str(health.ledger), "errors": dict(health.internal_errors)}


async def _legs(app: Any, per_leg: int, sink: Sink | None) -> list[dict[str, float]]:
    traffic, samples = _traffic(), []
    for leg in range(LEGS):
        outage = leg % OUTAGE_EVERY == 0
        for status, count in ((200, per_leg // 2), (503 if outage else 200, per_leg - per_leg // 2)):
            if sink is not None:
                sink.answer(status)
            await _leg(app, itertools.islice(traffic, count), paced=sink is not None)
        if sink is not None:
            sink.answer(200)
            _recover()
        gc.collect()
        samples.append({"rss": _resident(), "objects": len(gc.get_objects())})
    return samples


async def _leg(app: Any, traffic: Iterator[Order], *, paced: bool) -> None:
    while some := list(itertools.islice(traffic, SLICE)):
        await drive(app, some, at_once=8)
        while paced and _queued() > MOST_QUEUED:
            await asyncio.sleep(0.005)


def _queued() -> int:
    import otel_usage as usage

    return usage.health().ledger.queued


def _recover() -> None:
    """Wait until everything is delivered."""
    import otel_usage as usage

    deadline = time.monotonic() + LONGEST_RECOVERY
    while not usage.flush(5).complete:
        assert time.monotonic() < deadline, usage.health()
        time.sleep(0.1)


def _traffic() -> Iterator[Order]:
    """Half of the requests are of customers that come seldom, or never came before."""
    chance = random.Random(6)
    for order in orders(5, agents=AGENTS):
        seldom = order.number % 2 == 0
        yield dataclasses.replace(order, customer=chance.randrange(CUSTOMERS)) if seldom else order


class RareRoutes:
    """Serves routes that have never been before."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        import otel_usage as usage

        order: Order = scope[ORDER]
        if order.number % RARE:
            await self._app(scope, receive, send)
            return
        usage.identify(customer_id=f"cus_{order.customer:06d}", tier=1, auth_kind="user_api_key")
        usage.annotate(route=f"/v1/new{order.number}/{{id}}")
        await Response(b"{}")(scope, receive, send)


def _resident() -> float:
    """Bytes of this process alone."""
    return float(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
