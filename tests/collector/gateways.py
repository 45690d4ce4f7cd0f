"""The gateway as it is shipped, in a real Collector on loopback, with sinks of ours behind it."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_usage.local.otlp import ReceivedSpan
from otel_usage.testing import AxiomStub

from .collectors import CONFIGS, PATIENCE, Collector, collector
from .metrics_sink import MetricsSink
from .otlp import OURS, export, post

AGENTS_TOKEN: Final = "agents-token-0000"
TRACES_TOKEN: Final = "traces-token-0000"


@dataclass(frozen=True)
class Gateway:
    """A gateway that runs, and what stands behind it."""

    collector: Collector
    usage: AxiomStub
    metrics: MetricsSink
    traces: AxiomStub

    def send(self, spans: Iterable[Span], scope: str = OURS, **resource: str) -> int:
        """Post spans as an agent does, and return the status of the answer."""
        return post(self.collector.http, export(spans, scope, **resource), AGENTS_TOKEN)

    def kill_and_start(self) -> None:
        """End it as ``kill -9`` does, and start it with what it had on disk."""
        self.collector.kill()
        self.collector.start()


@contextmanager
def gateway(directory: Path, *, overlay: Path | None = None, **settings: str) -> Iterator[Gateway]:
    """A gateway and its backends, for the length of a test. ``settings``: its environment, over what tests need."""
    with AxiomStub(token=None) as usage, MetricsSink() as metrics, AxiomStub(token=None) as traces:
        environment = {
            "OTELCOL_TOKEN": AGENTS_TOKEN,
            "AXIOM_URL": usage.url,
            "AXIOM_METRICS_URL": metrics.url,
            "TRACES_URL": traces.url,
            "TRACES_TOKEN": TRACES_TOKEN,
            "TRACES_WAIT": "1s",
            **settings,
        }
        with collector(CONFIGS / "gateway.yaml", directory, overlay=overlay, **environment) as running:
            yield Gateway(running, usage, metrics, traces)


def wait_until(held: Callable[[], object], what: Callable[[], object], timeout: float = PATIENCE) -> None:
    """Until something holds; fails with ``what()`` if it does not in time."""
    deadline = time.monotonic() + timeout
    while not held():
        assert time.monotonic() < deadline, what()
        time.sleep(0.05)


def by_dataset(stub: AxiomStub) -> dict[str, list[ReceivedSpan]]:
    """What a backend has taken, by the dataset that it was sent to."""
    taken: defaultdict[str, list[ReceivedSpan]] = defaultdict(list)
    spans = iter(stub.spans)
    for request in stub.requests:
        taken[request.headers.get("x-axiom-dataset", "")].extend(next(spans) for _ in range(request.spans))
    return dict(taken)


def times(stub: AxiomStub) -> Counter[tuple[str, str]]:
    """How many times each span has arrived."""
    return Counter(span.key for span in stub.spans)
