"""From services by their agents to a gateway that goes away for a while: everything arrives, once, and is counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from otel_usage import flush

from . import traffic
from .collectors import CONFIGS, PATIENCE, Collector, collector
from .facts import Request, request
from .gateways import AGENTS_TOKEN, Gateway, gateway, times, wait_until
from .otlp import export, key, post


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Gateway]:
    (tmp_path / "gateway").mkdir()
    with gateway(tmp_path / "gateway", USAGE_METRIC_CUSTOMERS=".*") as made:
        yield made


@pytest.fixture
def agents(tmp_path: Path, running: Gateway) -> Iterator[list[Collector]]:
    with ExitStack() as started:
        made = []
        for name in ("one", "two", "three"):
            (tmp_path / name).mkdir()
            to = {"AXIOM_URL": running.collector.url, "AXIOM_API_TOKEN": AGENTS_TOKEN}
            made.append(started.enter_context(collector(CONFIGS / "agent.yaml", tmp_path / name, **to)))
        yield made


def test_what_agents_have_taken_outlives_the_gateway(
    running: Gateway, agents: list[Collector], switch_on: Callable[..., None]
) -> None:
    switch_on(otlp_endpoint=agents[0].url, axiom_token=None)
    traffic.serve(traffic.calls(60))
    assert flush(PATIENCE).complete
    wait_until(lambda: len(times(running.usage)) == 168, lambda: len(times(running.usage)))
    running.collector.stop()
    sent = set()
    for number, agent in enumerate(agents):
        spans = [request(Request(f"customer-{number}", tier=number)) for _ in range(200)]
        assert post(agent.http, export(spans)) == 200
        sent.update(map(key, spans))
    traffic.serve(traffic.calls(60))
    assert flush(PATIENCE).complete
    running.collector.start()
    wait_until(lambda: len(times(running.usage)) == 2 * 168 + 600, lambda: len(times(running.usage)))
    assert sent <= times(running.usage).keys()
    assert set(times(running.usage).values()) == {1}
    running.metrics.wait_until(lambda: running.metrics.total("usage.requests") >= 720)
    counted = running.metrics.by("usage.requests", "usage.customer.id")
    assert {customer: counted[customer,] for customer in ("customer-0", "customer-1", "customer-2")} == {
        "customer-0": 200,
        "customer-1": 200,
        "customer-2": 200,
    }
    assert counted.total() == 720
