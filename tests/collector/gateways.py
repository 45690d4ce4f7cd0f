"""The gateway as it is shipped, in a real Collector on loopback, with sinks of ours behind it."""

from __future__ import annotations

import subprocess
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from otel_usage.local.otlp import ReceivedSpan
from otel_usage.testing import AxiomStub
from tests.servers import free_port, server_process

from .binary import collector
from .metrics_sink import MetricsSink
from .raw import Client

CONFIG: Final = Path(__file__).parents[2] / "collector-config" / "gateway.yaml"
TOKEN: Final = "gateway-token-0000"
BACKEND_TOKEN: Final = "xaat-backend-0000"
TRACES_TOKEN: Final = "traces-token-0000"
PATIENCE: Final = 60.0
"""Seconds that anything may take here on a slow machine."""


@dataclass
class Backends:
    """What stands behind a gateway: for usage, for metrics, and for ordinary traces."""

    usage: AxiomStub
    metrics: MetricsSink
    traces: AxiomStub


@dataclass
class Gateway:
    """A Collector that can be killed and started again with what it had on disk."""

    directory: Path
    backends: Backends
    settings: dict[str, str] = field(default_factory=dict)
    """Environment, over what the tests need."""
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.port, self._others = free_port(), (free_port(), free_port(), free_port())
        self._running = ExitStack()
        self.storage.mkdir()

    @property
    def storage(self) -> Path:
        """Where its queues are."""
        return self.directory / "storage"

    @property
    def client(self) -> Client:
        """A client that the gateway knows."""
        return Client(f"http://127.0.0.1:{self.port}", TOKEN)

    def environment(self) -> dict[str, str]:
        """Everything that has to be set, and what tests are quicker with."""
        grpc, health, own = self._others
        return {
            "OTELCOL_TOKEN": TOKEN,
            "AXIOM_URL": self.backends.usage.url,
            "AXIOM_API_TOKEN": BACKEND_TOKEN,
            "AXIOM_METRICS_URL": self.backends.metrics.url,
            "TRACES_URL": self.backends.traces.url,
            "TRACES_TOKEN": TRACES_TOKEN,
            "TRACES_WAIT": "1s",
            "OTELCOL_STORAGE": str(self.storage),
            "OTELCOL_HTTP_PORT": str(self.port),
            "OTELCOL_GRPC_PORT": str(grpc),
            "OTELCOL_HEALTH": f"127.0.0.1:{health}",
            "OTELCOL_METRICS_PORT": str(own),
            **self.settings,
        }

    def start(self) -> None:
        """Start it, and wait until it listens."""
        command = [str(collector()), "--config", str(CONFIG)]
        running = server_process(command, self.port, self.directory, **self.environment())
        self.process, _ = self._running.enter_context(running)

    def kill(self) -> None:
        """End it as ``kill -9`` does."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(PATIENCE)
        self._running.close()

    def stop(self) -> None:
        """End it in an orderly way."""
        self._running.close()


@contextmanager
def gateway(directory: Path, **settings: str) -> Iterator[Gateway]:
    """A gateway and its backends, for the length of a test."""
    with AxiomStub(token=None) as usage, MetricsSink() as metrics, AxiomStub(token=None) as traces:
        made = Gateway(directory, Backends(usage, metrics, traces), settings)
        made.start()
        try:
            yield made
        finally:
            made.stop()


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
