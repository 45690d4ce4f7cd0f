"""The scale pipeline as processes: gateways, a real broker and consumers; and a service whose usage goes through them."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
from opentelemetry.instrumentation.utils import suppress_http_instrumentation

import otel_usage as usage
from otel_usage.testing import AxiomStub
from tests.conftest import TOKEN
from tests.servers import free_port, listens, program_process, serve_asgi

from .broker import Broker

CONFIGS: Final = Path(__file__).parents[2] / "collector-config"
PARTITIONS: Final = 4
PATIENCE: Final = 90.0
"""Seconds that a pipeline may take for what it does in three: a group waits ten for a member that was killed."""


@dataclass
class Collector:
    """One Collector that runs."""

    process: subprocess.Popen[bytes]
    log: Path
    url: str
    """Where it takes OTLP over HTTP. Of a consumer: of nobody."""

    def kill(self) -> None:
        """End it without a word."""
        self.process.kill()
        self.process.wait(30)


@dataclass
class Chain:
    """What one topic of a broker and one sink have in common."""

    binary: str
    broker: Broker
    topic: str
    sink: AxiomStub
    directory: Path

    @contextmanager
    def gateway(self, name: str = "gateway", config: Path | None = None) -> Iterator[Collector]:
        """A gateway, whose queue is that of the one of this name before it."""
        storage = self.directory / name
        storage.mkdir(exist_ok=True)
        settings = {"OTELCOL_STORAGE": str(storage)}
        with self._collector(name, config or CONFIGS / "scale-gateway.yaml", **settings) as collector:
            yield collector

    @contextmanager
    def consumer(self, name: str = "consumer", token: str = TOKEN) -> Iterator[Collector]:
        """A consumer, which keeps nothing."""
        sink = {"AXIOM_URL": self.sink.url, "AXIOM_API_TOKEN": token}
        with self._collector(name, CONFIGS / "scale-consumer.yaml", **sink) as collector:
            yield collector

    @property
    def group(self) -> str:
        return f"axiom-{self.topic}"

    def committed(self) -> int:
        """How many records the consumers have said they are done with."""
        return self.broker.committed(self.group, self.topic)

    def held(self) -> int:
        """How many records the topic has."""
        return self.broker.records(self.topic)

    @contextmanager
    def _collector(self, name: str, config: Path, **environment: str) -> Iterator[Collector]:
        http, grpc, health, metrics = (free_port() for _ in range(4))
        log = self.directory / f"{name}.log"
        settings = {
            "OTELCOL_HTTP_PORT": str(http),
            "OTELCOL_GRPC_PORT": str(grpc),
            "OTELCOL_HEALTH": f"127.0.0.1:{health}",
            "OTELCOL_METRICS_PORT": str(metrics),
            "KAFKA_BROKERS": self.broker.address,
            "KAFKA_TOPIC": self.topic,
            "KAFKA_GROUP": self.group,
            **environment,
        }
        command = [self.binary, "--config", str(config)]
        with program_process(command, log, self.directory, **settings) as process:
            within(lambda: process.poll() is not None or listens(health), f"{name} does not listen: {log}")
            assert process.poll() is None, log.read_text()
            yield Collector(process, log, f"http://127.0.0.1:{http}")


def within(true: Callable[[], object], otherwise: str) -> None:
    """Wait for something to become true."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.1)


async def _priced(scope: Any, receive: Any, send: Any) -> None:
    """An application that says whom it serves, and asks a model for them: a request and a model call, in one trace."""
    usage.identify(customer_id=scope["path"].strip("/"), tier=1, auth_kind="jwt", provenance="verified")
    usage.record_llm("openai", "gpt-5", input_tokens=812, output_tokens=90)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"{}"})


def served(customers: list[str], gateway: str) -> None:
    """A service serves each customer once, towards a Collector, and knows no token of Axiom's.

    It is over when the Collector has acknowledged every span: two for each customer.
    """
    usage.instrument(usage.UsageConfig(otlp_endpoint=gateway, schedule_delay=0.02))
    try:
        with serve_asgi(usage.UsageMiddleware(_priced), ours=False) as url, httpx.Client(base_url=url) as client:
            with suppress_http_instrumentation():  # whoever calls is in this process, and no part of the service
                for customer in customers:
                    assert client.get(f"/{customer}").status_code == 200
        report = usage.flush(timeout=30)
        assert report.accepted == usage.health().ledger.produced == 2 * len(customers), usage.health()
    finally:
        usage.uninstrument()


def named(prefix: str, n: int) -> list[str]:
    return [f"{prefix}-{i}" for i in range(n)]


def arrived(sink: AxiomStub) -> set[tuple[str, str]]:
    """Whose spans have arrived, and of which kind."""
    return {(str(s.attributes["usage.customer.id"]), str(s.attributes["usage.kind"])) for s in sink.unique_spans}


def all_of(customers: list[str]) -> set[tuple[str, str]]:
    return {(customer, kind) for customer in customers for kind in ("request", "llm")}
