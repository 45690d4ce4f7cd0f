"""How long a request waits for the interpreter while a full batch is encoded, compressed and sent on another thread.

Python takes the interpreter from a thread after 5 ms, and never from one within a call into C. So what counts is how
long the worker keeps it before it lets go by itself. A canary tells (see there), for each batch. For comparison: with
nothing to do, with a thread that is as busy and holds no lock, and with OpenTelemetry's own encoder.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import itertools
import os
import statistics
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from .canary import Canary
from .children import measured
from .figures import quantile
from .finding import Finding
from .sink import Sink
from .wire import BATCH

BOUND: Final = 1.0
CASES: Final = {
    "usage": "stall, a batch of otel_usage",
    "stock": "stall, encode_spans() of the same number, and gzip",
    "idle": "stall, control: nothing to do",
    "busy": "stall, control: a busy thread without the lock",
}
WINDOW: Final = 0.05
"""Seconds of a control."""


def find(batches: int) -> list[Finding]:
    """Each case in a process of its own."""
    with Sink() as sink:
        return [_finding(case, measured("stall", case, sink.url, batches)["waits"]) for case in CASES]


def _finding(case: str, windows: list[list[float]]) -> Finding:
    """The 99.9th percentile of all; and the longest of each batch, of which the median is no accident of one."""
    waits = [wait * 1000 for window in windows for wait in window]
    longest = [max(window) * 1000 for window in windows]
    typical, rare = statistics.median(longest), quantile(waits, 0.999)
    shown = (
        f"p99.9 {rare:.2f} ms, longest of a batch {typical:.2f} ms (median), longest of all {max(longest):.2f} ms "
        f"({len(windows)} batches, {len(waits):,} moments)"
    )
    numbers = {"p99.9": rare, "longest": longest}
    if case != "usage":
        return Finding(CASES[case], shown, numbers=numbers)
    return Finding(CASES[case], shown, f"≤ {BOUND:g} ms (p99.9 and median)", max(typical, rare) <= BOUND, numbers)


def work(case: str, url: str, batches: str) -> dict[str, Any]:
    """The waits in each window, in seconds."""
    canary, once = Canary(), _MAKERS[case](url)
    once(lambda: None)  # the first time, connections are made and modules are loaded
    return {"waits": [_watched(canary, once) for _ in range(int(batches))]}


def _watched(canary: Canary, once: Callable[[Callable[[], None]], None]) -> list[float]:
    while not (waits := _window(canary, once)):
        pass  # over before the canary was due
    return waits


def _window(canary: Canary, once: Callable[[Callable[[], None]], None]) -> list[float]:
    once(canary.watch)
    return canary.rest()


# Each of these makes what is done in a window: what has to be ready is made ready, the canary begins, and then the work
# is done on another thread, while this one waits without the interpreter lock.


def _usage(url: str) -> Callable[[Callable[[], None]], None]:
    import otel_usage as usage

    from .application import application
    from .driving import drive
    from .switched import switch_on
    from .traffic import PROVIDERS, orders

    switch_on(url, providers=PROVIDERS, batch_size=BATCH, schedule_delay=600.0, queue_size=1 << 16)
    app, traffic, loop = application(usage.identify), orders(4, upstream=0.0), asyncio.new_event_loop()

    def serve(count: int) -> None:
        loop.run_until_complete(drive(app, itertools.islice(traffic, count)))

    def once(begins: Callable[[], None]) -> None:
        serve(BATCH - 1)
        begins()
        serve(1)  # the one that makes the batch full, and wakes the worker
        report = usage.flush(60)
        assert report.complete, report

    return once


def _stock(url: str) -> Callable[[Callable[[], None]], None]:
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

    spans = [_stock_span(number) for number in range(BATCH)]

    def once(begins: Callable[[], None]) -> None:
        begins()
        _elsewhere(lambda: gzip.compress(encode_spans(spans).SerializeToString()))

    return once


def _stock_span(number: int) -> Any:
    """As many attributes as a request span of ours has."""
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import SpanContext, TraceFlags

    attributes = {f"attribute.number.{n}": f"value {n} of {number}" if n % 3 else number + n for n in range(18)}
    context = SpanContext(number + 1, number + 1, is_remote=False, trace_flags=TraceFlags(1))
    return ReadableSpan(f"GET /v1/{number % 20}", context=context, attributes=attributes, start_time=1, end_time=2)


def _idle(url: str) -> Callable[[Callable[[], None]], None]:
    def once(begins: Callable[[], None]) -> None:
        begins()
        time.sleep(WINDOW)

    return once


def _busy(url: str) -> Callable[[Callable[[], None]], None]:
    def once(begins: Callable[[], None]) -> None:
        begins()
        _elsewhere(lambda: hashlib.pbkdf2_hmac("sha256", os.urandom(16), b"", int(WINDOW * 2e6)))

    return once


def _elsewhere(job: Callable[[], object]) -> None:
    thread = threading.Thread(target=job)
    thread.start()
    thread.join()


_MAKERS: Final = {"usage": _usage, "stock": _stock, "idle": _idle, "busy": _busy}
