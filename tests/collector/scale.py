"""The scale pipeline as processes, and a service whose usage goes through it."""

from __future__ import annotations

import re
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
from tests.needs import needed_collector
from tests.servers import serve_asgi

from .broker import Broker
from .collectors import CONFIGS, Collector

PARTITIONS: Final = 4
PATIENCE: Final = 90.0
"""Seconds that a pipeline may take for what it does in three: a group waits ten for a member that was killed."""


@dataclass
class Chain:
    """What one topic of a broker and one sink have in common."""

    broker: Broker
    topic: str
    sink: AxiomStub
    directory: Path

    @contextmanager
    def agent(self, gateways: str) -> Iterator[Collector]:
        """An agent of gateways', by what OTELCOL_GATEWAYS says."""
        settings = {"OTELCOL_GATEWAYS": gateways, "OTELCOL_PLAINTEXT": "true"}
        with self._collector("agent", CONFIGS / "scale-agent.yaml", "builder.yaml", **settings) as running:
            yield running

    @contextmanager
    def gateway(self, name: str = "gateway", config: Path | None = None, **environment: str) -> Iterator[Collector]:
        """A gateway, whose queue is that of the one of this name before it."""
        settings = {**self._kafka, **environment}
        with self._collector(name, config or CONFIGS / "scale-gateway.yaml", **settings) as running:
            yield running

    @contextmanager
    def consumer(self, name: str = "consumer", token: str = TOKEN, config: Path | None = None) -> Iterator[Collector]:
        """A consumer, which keeps nothing."""
        sink = {"AXIOM_URL": self.sink.url, "AXIOM_API_TOKEN": token, "KAFKA_GROUP": self._group}
        with self._collector(name, config or CONFIGS / "scale-consumer.yaml", **self._kafka, **sink) as running:
            yield running

    def committed(self) -> int:
        """How many records the consumers have said they are done with."""
        return self.broker.committed(self._group, self.topic)

    def held(self) -> int:
        """How many records the topic has."""
        return self.broker.records(self.topic)

    @property
    def _group(self) -> str:
        return f"axiom-{self.topic}"

    @property
    def _kafka(self) -> dict[str, str]:
        port = self.broker.address.rpartition(":")[2]
        return {"KAFKA_BROKERS": f"127.0.0.1:{port},localhost:{port}", "KAFKA_TOPIC": self.topic}

    @contextmanager
    def _collector(
        self, name: str, config: Path, manifest: str = "builder-kafka.yaml", **environment: str
    ) -> Iterator[Collector]:
        directory = self.directory / name
        directory.mkdir(exist_ok=True)
        running = Collector(needed_collector(manifest), config, directory, **environment)
        try:
            running.start()
            yield running
        finally:
            running.kill()


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
        with (
            serve_asgi(usage.UsageMiddleware(_priced), ours=False) as url,
            httpx.Client(base_url=url) as client,
            suppress_http_instrumentation(),  # whoever calls is in this process, and no part of the service
        ):
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


def spans_by(running: Collector) -> int:
    """How many spans have come by a Collector, as it says itself."""
    said = httpx.get(running.metrics_url, timeout=30).text
    found = re.findall(r"^otelcol_receiver_accepted_spans\S*\{[^}]*\} (\S+)$", said, re.MULTILINE)
    return int(sum(map(float, found)))
