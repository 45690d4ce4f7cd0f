"""What a pipeline for so many requests a second takes, of what each span costs at each step. Pure."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final

from .measuring import Round

REQUESTS: Final = 10_000
"""A second."""
BUSY: Final = 0.6
"""Of a core, what is planned with: the rest is for what has waited, and for another that is down."""
REPLICAS: Final = 3
"""Of what is in Kafka."""

_HEAD: Final = (
    "step", "CPU, cores", "instances of a core each", "memory, each", "written to disk", "received", "sent",
    "an hour takes",
)  # fmt: skip
_ADDED: Final = re.compile(
    r"\| B: one route.*?^\| \*\*otel_usage\*\* \|(?:[^|]*\|){2} \*\*(\d+) ", re.DOTALL | re.MULTILINE
)


@dataclass(frozen=True)
class Step:
    """What one span costs at a step. ``memory`` is that of the process."""

    cpu: float
    """Seconds."""
    memory: int
    """The most at once, in bytes."""
    disk: float
    """Bytes written."""
    wire: float
    """Bytes sent on."""


@dataclass(frozen=True)
class Measured:
    """Every step."""

    spans_per_request: float
    service_wire: float
    """Bytes that a service sends for a span."""
    plain: float
    """Bytes of a span as a Collector's queue keeps it, which does not compress."""
    agent: Step
    gateway: Step
    kafka: Step
    """Of one replica, for what comes in and goes out again; ``wire`` and ``disk`` are what a record is in it."""
    consumer: Step


def step(took: Round) -> Step:
    """What a round says of one span."""
    return Step(
        took.cpu_seconds / took.spans, took.peak_bytes, took.disk_bytes / took.spans, took.wire_bytes / took.spans
    )


def added(performance: str) -> float:
    """Seconds of processor time that a request costs its service, of what docs/performance.md says of B.

    Raises:
        ValueError: the page has no such row.
    """
    if (found := _ADDED.search(performance)) is None:
        raise ValueError("docs/performance.md does not say what a request of B costs")
    return int(found[1]) / 1e6


def table(found: Measured, service_cpu: float) -> str:
    """For :data:`REQUESTS` a second. ``service_cpu``: seconds that a request costs its service."""
    spans = REQUESTS * found.spans_per_request
    came, queued, kept = found.service_wire * spans, found.agent.wire * spans, found.kafka.disk * spans
    waiting = _gib(found.plain * spans)
    rows = [
        ("services, all of them", _cores(REQUESTS * service_cpu), "-", "-", "-", "-", _rate(came), "-"),
        _row("agents", found.agent, spans, came, waiting),
        _row("gateways (Kafka)", found.gateway, spans, queued, waiting),
        (
            f"Kafka, each of {REPLICAS} brokers", _cores(found.kafka.cpu * spans), "-", _mib(found.kafka.memory),
            _rate(kept), _rate(kept), _rate(kept), _gib(kept),
        ),
        _row("consumers", found.consumer, spans, kept, "-"),
    ]  # fmt: skip
    lines = [_HEAD, ("---", *("---:" for _ in _HEAD[1:])), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _row(name: str, one: Step, spans: float, received: float, waiting: str) -> tuple[str, ...]:
    cores = one.cpu * spans
    return (
        name, _cores(cores), str(math.ceil(cores / BUSY)), _mib(one.memory), _rate(one.disk * spans), _rate(received),
        _rate(one.wire * spans), waiting,
    )  # fmt: skip


def _cores(n: float) -> str:
    return f"{n:.1f}"


def _rate(n: float) -> str:
    return f"{n / 1e6:.1f} MB/s" if n >= 5e4 else "-"


def _mib(n: float) -> str:
    return f"{n / 2**20:.0f} MiB"


def _gib(a_second: float) -> str:
    return f"{a_second * 3600 / 1e9:.0f} GB" if a_second else "-"
