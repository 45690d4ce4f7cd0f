"""What a request costs where the package is imported and usage is off, against the noise of one process and the next.

One process cannot be both, so processes take turns, with one that has not imported it before, between and after: what
those differ by is the noise.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from typing import Any, Final

from .children import measured
from .figures import quantile
from .finding import Finding

VARIANTS: Final = {
    "imported": "imported, and `instrument()` called",
    "wrapped": "and `UsageMiddleware` around the application",
    "identified": "and `identify()` called in it",
}
BLOCKS: Final = 40
BLOCK: Final = 2000
"""Requests that are timed in one piece. The quickest block of a process counts: whatever disturbs, makes it slower."""

SCOPE: Final = {"type": "http", "method": "GET", "path": "/", "headers": [(b"host", b"api.example.com")]}


def find(rounds: int) -> list[Finding]:
    """Each variant once in a round, each between two processes without the package."""
    bare = [_once("bare")]
    added: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for _ in range(rounds):
        for name, differences in added.items():
            here = _once(name)
            bare.append(_once("bare"))
            differences.append(here - (bare[-2] + bare[-1]) / 2)
    noise = quantile([abs(b - a) for a, b in itertools.pairwise(bare)], 0.95)
    return [_finding(name, differences, noise, statistics.median(bare)) for name, differences in added.items()]


def _once(name: str) -> float:
    """Nanoseconds of a request."""
    return float(measured("off", name)["ns"])


def _finding(name: str, differences: list[float], noise: float, bare: float) -> Finding:
    added = statistics.median(differences)
    measured_is = f"{added:+.0f} ns a request (a bare one takes {bare:.0f}; processes without it differ by {noise:.0f})"
    numbers = {"ns": differences, "noise": noise, "bare": bare}
    if name != "imported":  # it calls us: that is for information, and there is no process to compare with that does
        return Finding(f"off, {VARIANTS[name]}", measured_is, numbers=numbers)
    return Finding(f"off, {VARIANTS[name]}", measured_is, "within the noise", abs(added) <= noise, numbers)


def work(name: str) -> dict[str, Any]:
    """The quickest block of requests to a bare ASGI application."""
    return {"ns": asyncio.run(_quickest(_application(name)))}


async def _quickest(app: Any) -> float:
    return min([await _block(app) for _ in range(BLOCKS)])


async def _block(app: Any) -> float:
    began = time.thread_time_ns()
    for _ in range(BLOCK):
        await app(dict(SCOPE), _receive, _send)
    return (time.thread_time_ns() - began) / BLOCK


def _application(name: str) -> Any:
    if name == "bare":
        return _answer
    import otel_usage as usage

    usage.instrument()  # as the environment says, which says nothing
    assert usage.health().status == "off"
    if name == "imported":
        return _answer
    if name == "wrapped":
        return usage.UsageMiddleware(_answer)

    async def identifying(scope: Any, receive: Any, send: Any) -> None:
        usage.identify(customer_id="acme", tier=2, auth_kind="user_api_key", principal="sk_live_0123456789abcdef")
        await _answer(scope, receive, send)

    return usage.UsageMiddleware(identifying)


async def _answer(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"{}"})


async def _receive() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _send(message: dict[str, Any]) -> None:
    """What is sent is of no interest."""
