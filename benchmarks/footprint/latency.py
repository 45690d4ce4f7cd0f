"""What usage adds to the time of a request: a service on uvicorn, under a steady open-loop load, with and without.

The service without usage is measured before and after each one with it. What those differ by is the noise.
"""

from __future__ import annotations

import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from tests.chaos.load import Load
from tests.chaos.processes import free_port

from .children import ROOT, environment
from .figures import quantile, spread
from .finding import Finding
from .served import SINK
from .sink import Sink

QUANTILES: Final = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}
WARM_UP: Final = 1.0
"""Seconds of each run that do not count."""
START_SECONDS: Final = 30.0

Latencies = list[float]


def find(rate: float, seconds: float, rounds: int) -> list[Finding]:
    """Without, with, without, so many times."""
    without, used = [_once(rate, seconds, usage=False)], []
    for _ in range(rounds):
        used.append(_once(rate, seconds, usage=True))
        without.append(_once(rate, seconds, usage=False))
    return [_finding(name, without, used, rate) for name in QUANTILES]


def _finding(name: str, without: list[Latencies], used: list[Latencies], rate: float) -> Finding:
    before, after = ([quantile(run, QUANTILES[name]) * 1000 for run in runs] for runs in (without, used))
    added, noise = statistics.median(after) - statistics.median(before), spread(before)
    return Finding(
        f"latency, {name} at {rate:.0f} requests/s",
        f"{added:+.2f} ms ({statistics.median(before):.2f} without, in {len(before)} runs that differ by {noise:.2f})",
        "within the noise" if name == "p99" else "-",
        added <= noise if name == "p99" else None,
        {"without": before, "with": after},
    )


def _once(rate: float, seconds: float, *, usage: bool) -> Latencies:
    """Seconds of each request, of a new process."""
    with Sink() as sink, _service(**({SINK: sink.url} if usage else {})) as port:
        load = Load(port, rate, "footprint", longest=WARM_UP + seconds)
        began = time.monotonic()
        load.start()
        time.sleep(WARM_UP + seconds)
        load.stop()
    failed = sum(answer.status != 200 for answer in load.answers)
    assert not failed, f"{failed} requests failed"
    return [answer.latency for answer in load.answers if answer.due >= began + WARM_UP]


@contextmanager
def _service(**more: str) -> Iterator[int]:
    """The service, as a process of its own. Its port."""
    port = free_port()
    settings = ["--port", str(port), "--no-access-log", "--log-level", "warning"]
    process = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "--factory", "benchmarks.footprint.served:create", *settings],
        cwd=ROOT,
        env=environment(**more),
        stdin=subprocess.DEVNULL,
    )
    try:
        _wait_for(port, process)
        yield port
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1.0).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise SystemExit("the service did not start")
