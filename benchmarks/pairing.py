"""``python -m benchmarks.pairing NAME VARIANT PAIRS REQUESTS SINK``: two applications in this process, chunk by chunk.

Prints a line of JSON. ``benchmarks.pair`` runs it, in the environment of the configuration.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from opentelemetry import trace

from benchmarks.application import QUIET, application, upstream_client
from benchmarks.built import Built
from benchmarks.configurations import BY_NAME
from benchmarks.cores import stay_on
from benchmarks.traffic import serve, start_up

SETTLING: Final = 20
"""Requests before each chunk that are not timed: after a switch, the interpreter specializes its code anew."""
WARM_UP: Final = 500
PAIRS_TO_FLUSH: Final = 10

Side = Callable[[], Awaitable[float]]
"""Serves a chunk, and returns the microseconds of the thread's CPU for each request."""


async def pairs(one: Side, other: Side, count: int, between: Callable[[], object]) -> list[tuple[float, float]]:
    """Chunks of both, in the order one, other, other, one, …, so that what drifts falls on both alike."""
    found = []
    for number in range(count):
        if number % 2:
            second = await other()
            first = await one()
        else:
            first = await one()
            second = await other()
        found.append((first, second))
        if number % PAIRS_TO_FLUSH == PAIRS_TO_FLUSH - 1:
            between()
    return found


async def measure(name: str, variant: str, count: int, requests: int, sink: str) -> dict[str, Any]:
    built = BY_NAME[name].build(variant, sink)
    # With a global provider FastAPI's own telemetry would write spans for the bare application too.
    proxy = isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
    options: dict[str, Any] = {} if proxy else {"telemetry": QUIET}
    bare = application(upstream_client(variant), **options)
    ups = [await start_up(app) for app in (built.app, bare)]
    observed = _side(built.app, requests, lambda: _switch(built, True))
    # Both of these are the bare application. The second one's switch is turned just as for the observed one, and back.
    unobserved = _side(bare, requests, lambda: _switch(built, False))
    control = _side(bare, requests, lambda: _switch(built, True, False))
    for side in (observed, unobserved, control):
        await side()
    await serve(built.app, WARM_UP)
    built.flush()
    gc.collect()
    found = {
        "control": await pairs(control, unobserved, count, lambda: None),
        "measured": await pairs(observed, unobserved, count, built.flush),
    }
    for up in ups:
        up.cancel()
    return found


def _switch(built: Built, *turns: bool) -> None:
    if built.switch is not None:
        for on in turns:
            built.switch(on)


def _side(app: Any, requests: int, switch: Callable[[], object]) -> Side:
    async def chunk() -> float:
        switch()
        await serve(app, SETTLING)
        began = time.thread_time()
        await serve(app, requests)
        return (time.thread_time() - began) / requests * 1e6

    return chunk


def main() -> None:
    name, variant, count, requests, sink = sys.argv[1:]
    stay_on(first=True)
    print(json.dumps(asyncio.run(measure(name, variant, int(count), int(requests), sink))), flush=True)
    os._exit(0)  # without waiting for what a peer does at its end


if __name__ == "__main__":
    main()
