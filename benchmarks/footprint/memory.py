"""Bytes that a span takes while it waits in the queue, and whether it keeps anything alive that the client sent."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import itertools
import os
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any, Final

from tests.chaos.processes import resident_bytes

from .children import measured
from .driving import Headers, drive, plain_headers, scope_of
from .finding import Finding, at_most
from .held import holders
from .traffic import Order, Upstream, orders

BOUND: Final = 2048.0
WARM_UP: Final = 1000
CASES: Final = {
    "request": "request spans",
    "upstream": "a request span and an upstream span each",
    "headers": "request spans, 15 headers with 1.4 kB of them",
}
_MARK: Final = ("footprint", "mark")
"""Two parts, joined where the mark is used: as one it would be found here."""


def find(requests: int) -> list[Finding]:
    """Of each case: by Python's allocator, and by the memory of the process."""
    found = []
    for case, words in CASES.items():
        by = {how: measured("memory", case, requests, how) for how in ("tracemalloc", "rss")}
        traced, resident = (by[how]["bytes"] / by[how]["spans"] for how in by)
        spans = f"{by['rss']['spans']:,} spans"
        more = f"(tracemalloc {traced:,.0f}, RSS {resident:,.0f}; {spans})"
        worst = max(traced, resident)
        found.append(at_most(f"memory, {words}", worst, BOUND, "bytes a queued span", more=more, numbers=by))
    return [*found, _kept()]


def _kept() -> Finding:
    kept = measured("memory", "headers", 500, "kept")
    assert kept["control"], "the look for what is kept is blind"
    shown = ", ".join(f"{count} by {name}" for name, count in kept["held"].items())
    return Finding(
        "memory, what the client sent (header values, path, query) is kept by the queue",
        f"{shown or 'nothing'} ({kept['spans']} spans queued)",
        "nothing",
        not kept["held"],
        kept,
    )


def work(case: str, requests: str, how: str) -> dict[str, Any]:
    """Record so many requests with delivery held back, and say how much memory they took."""
    import otel_usage as usage

    from .application import application
    from .switched import switch_on

    # Nobody listens there, and nobody is asked.
    switch_on("http://127.0.0.1:9", schedule_delay=1e6, batch_size=1 << 30, queue_size=1 << 30)
    app = application(usage.identify)
    return asyncio.run(_measure(app, case, int(requests), how, lambda: usage.health().ledger.queued))


async def _measure(app: Any, case: str, requests: int, how: str, queued: Callable[[], int]) -> dict[str, Any]:
    traffic = _traffic(case)
    headers = _many_headers if case == "headers" else plain_headers
    await drive(app, itertools.islice(traffic, WARM_UP), headers=plain_headers)
    gc.collect()
    if how == "tracemalloc":
        tracemalloc.start()
    before, bytes_before = queued(), _bytes(how)
    await drive(app, itertools.islice(traffic, requests), headers=headers)
    gc.collect()
    found: dict[str, Any] = {"bytes": _bytes(how) - bytes_before, "spans": queued() - before}
    if how == "kept":
        found["held"] = holders("-".join(_MARK))
        kept = scope_of(order := next(traffic), _many_headers(order))  # as the queue would keep it
        found["control"] = bool(holders("-".join(_MARK))) and bool(kept)
    return found


def _bytes(how: str) -> int:
    return tracemalloc.get_traced_memory()[0] if how == "tracemalloc" else resident_bytes(os.getpid())


def _traffic(case: str) -> Iterator[Order]:
    """Requests that all succeed, and call somebody in one case only."""
    call = Upstream("quotes.example.com", "quote", 200, 900)
    for order in orders(2, upstream=0.0):
        if case == "headers":  # without a local variable, which would keep what is marked
            yield dataclasses.replace(order, status=200, path=_marked_path(order), query=b"q=" + _mark(order))
        else:
            yield dataclasses.replace(order, status=200, upstream=call if case == "upstream" else None)


def _mark(order: Order) -> bytes:
    return b"%b-%d" % ("-".join(_MARK).encode(), order.number)


def _marked_path(order: Order) -> str:
    """The path with the mark in the place of its number, where it has one."""
    return "/".join(_mark(order).decode() if part.isdecimal() else part for part in order.path.split("/"))


def _many_headers(order: Order) -> Headers:
    """What a browser sends, each value a new object, and each but the host's marked."""
    mark = _mark(order)
    return [
        (b"host", b"api.example.com"),
        (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 " + mark),
        (b"accept", b"application/json, text/plain, */*;q=0.8 " + mark),
        (b"accept-language", b"de-DE,de;q=0.9,en;q=0.8;" + mark),
        (b"accept-encoding", b"gzip, deflate, br;" + mark),
        (b"authorization", b"Bearer " + mark + b"a" * 180),
        (b"cookie", (b"session=" + mark).ljust(900, b"c")),
        (b"referer", b"https://shop.example.com/basket?" + mark),
        (b"cache-control", b"no-cache;" + mark),
        (b"sec-fetch-mode", b"cors;" + mark),
        (b"sec-fetch-site", b"same-site;" + mark),
        (b"sec-ch-ua-platform", b'"Linux";' + mark),
        (b"dnt", b"1;" + mark),
        (b"x-requested-with", b"fetch;" + mark),
        (b"if-none-match", b'"' + mark + b'"'),
    ]
