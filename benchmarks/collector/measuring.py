"""One Collector on one core, under as much as it takes, and what it used until all of it had been sent on."""

from __future__ import annotations

import os
import re
import threading
import time
import urllib.request
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection
from itertools import cycle
from pathlib import Path
from typing import Final

from benchmarks.footprint.sink import Sink
from tests.collector.collectors import CONFIGS, Collector
from tests.servers import free_port

from .bodies import Body

CLIENTS: Final = 4
TOKEN: Final = "benchmark-token-0000"
LONGEST: Final = 900.0
"""Seconds, after which a round is given up."""
_TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Round:
    """What one round took."""

    spans: int
    seconds: float
    cpu_seconds: float
    peak_bytes: int
    """Of memory that it had at once."""
    disk_bytes: int
    """Written to the disk."""
    wire_bytes: int
    """Sent on, as it was on the wire."""
    points: int
    """Points of metrics that were sent."""

    @property
    def cpu_per_million(self) -> float:
        """Seconds of processor time for a million spans."""
        return self.cpu_seconds / self.spans * 1e6


def measure(
    binary: str, pipeline: str, bodies: Sequence[Body], spans: int, directory: Path, *, core: int | None = None
) -> Round:
    """Send at least as many spans to a pipeline. The bodies are sent again where they are fewer. ``core``: the one that
    the Collector has to stay on. None: it may choose.
    """
    wire = directory / "wire"
    wire.mkdir()
    own = free_port()
    with Sink(keep=wire) as sink:
        environment = {
            "AXIOM_URL": sink.url,
            "TRACES_URL": sink.url,
            "TRACES_TOKEN": TOKEN,
            "OTELCOL_TOKEN": TOKEN,
            "OTELCOL_METRICS_PORT": str(own),
            "GOMAXPROCS": "1",
        }
        running = Collector(binary, CONFIGS / f"{pipeline}.yaml", directory, **environment)
        running.start()
        try:
            assert running.process is not None
            bind(running.process.pid, core)
            return _round(running, running.process.pid, own, chosen(bodies, spans), wire)
        finally:
            running.kill()


def bind(pid: int, core: int | None) -> None:
    """Have a process stay on a core, if one is named."""
    if core is not None:
        for thread in Path(f"/proc/{pid}/task").iterdir():  # those to come are where those are that start them
            os.sched_setaffinity(int(thread.name), {core})


def _round(running: Collector, pid: int, own: int, bodies: Sequence[Body], wire: Path) -> Round:
    send(running.http, bodies[:1])  # what is made at the first export is no part of what each costs
    wait(own, bodies[0].spans, running)
    spans = sum(body.spans for body in bodies)
    began, used, written, sent = time.monotonic(), cpu(pid), disk(pid), size(wire)
    send(running.http, bodies)
    wait(own, bodies[0].spans + spans, running)
    seconds = time.monotonic() - began
    used, points = cpu(pid) - used, added_up(_said(own), "sent_metric_points")
    return Round(spans, seconds, used, peak(pid), disk(pid) - written, size(wire) - sent, points)


def chosen(bodies: Sequence[Body], spans: int) -> list[Body]:
    """Bodies of at least as many spans, again from the first where they do not suffice."""
    taken: list[Body] = []
    again = cycle(bodies)
    while spans > 0:
        taken.append(next(again))
        spans -= taken[-1].spans
    return taken


def send(port: int, bodies: Sequence[Body]) -> None:
    """Send all of them, by as many clients as there are, until each has its answer."""
    failed: list[str] = []

    def client(own: Sequence[Body]) -> None:
        headers = {"Content-Type": "application/x-protobuf", "Content-Encoding": "gzip"}
        headers["Authorization"] = f"Bearer {TOKEN}"
        with closing(HTTPConnection("127.0.0.1", port, timeout=LONGEST)) as connection:
            for body in own:
                connection.request("POST", "/v1/traces", body.wire, headers)
                answer = connection.getresponse()
                answer.read()
                if answer.status != 200:
                    failed.append(f"answered with {answer.status}")
                    return

    threads = [threading.Thread(target=client, args=(bodies[n::CLIENTS],)) for n in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise SystemExit(f"the Collector did not take what it was sent: {failed[0]}")


def wait(own: int, spans: int, running: Collector) -> None:
    """Until the Collector says that it has sent as many spans on, and has nothing left to send."""
    deadline = time.monotonic() + LONGEST
    while added_up(said := _said(own), "sent_spans") < spans or added_up(said, "queue_size"):
        if time.monotonic() > deadline:
            raise SystemExit(f"{spans} spans were not sent on within {LONGEST:.0f} s:\n{running.said()[-2000:]}")
        time.sleep(0.05)


def _said(own: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{own}/metrics", timeout=60) as answer:
        return str(answer.read(), "utf-8")


def added_up(said: str, what: str) -> int:
    """A number that each exporter of a Collector has, of all of them, out of what it says of itself to Prometheus."""
    found = re.findall(rf"^otelcol_exporter_{what}(?:_total)?\{{[^}}]*\}} (\S+)$", said, re.MULTILINE)
    return sum(int(float(number)) for number in found)


def cpu(pid: int) -> float:
    """Seconds of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def peak(pid: int) -> int:
    """The most memory that it had at once, in bytes."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) * 1024 if found else 0


def disk(pid: int) -> int:
    """Bytes that it had the system write to disks."""
    found = re.search(r"^write_bytes: (\d+)$", Path(f"/proc/{pid}/io").read_text(), re.MULTILINE)
    return int(found[1]) if found else 0


def size(directory: Path) -> int:
    """Bytes of all files in a directory."""
    return sum(file.stat().st_size for file in directory.iterdir())
