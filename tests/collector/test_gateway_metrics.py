"""What the gateway counts is what it received: to the last byte, in a bounded number of series, after every restart."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from otel_usage import flush
from otel_usage.schema import BY_KEY, REASONS
from otel_usage.testing import AxiomStub
from tests.conftest import TOKEN

from . import traffic
from .collectors import PATIENCE
from .facts import Request, request
from .gateways import AGENTS_TOKEN, gateway, wait_until
from .metrics_sink import MetricsSink

NAMED = "|".join(customer for customer, _ in traffic.CUSTOMERS)
DIVISIONS = ("usage.customer.id", "usage.route", "usage.reason")
CELLS = 256
"""Values that all customers together have that are not named, and all routes."""
KILOBYTES = 2**10


def test_totals_are_those_of_the_requests_that_were_served(tmp_path: Path, switch_on: Callable[..., None]) -> None:
    with gateway(tmp_path, USAGE_METRIC_CUSTOMERS=NAMED) as running:
        switch_on(otlp_endpoint=running.collector.url, axiom_token=AGENTS_TOKEN)
        served = traffic.calls(600)
        traffic.serve(served)
        assert flush(PATIENCE).complete
        usage, metrics = running.usage, running.metrics
        prompts = sum(call.tokens for call in served)
        metrics.wait_until(
            lambda: metrics.total("usage.requests") + metrics.total("usage.input.tokens") >= 600 + prompts
        )
        wait_until(lambda: requests(usage) == 600, lambda: requests(usage))
        for name, sums in traffic.expected(served).items():
            assert metrics.by(name, *DIVISIONS) == sums, name
        assert metrics.total("usage.input.tokens") == prompts
        assert metrics.total("usage.output.tokens") == sum(call.tokens // 2 for call in served)
        assert_durations(metrics, usage)
        assert {headers["authorization"] for headers in metrics.headers} == {f"Bearer {TOKEN}"}
        assert {headers["x-axiom-metrics-dataset"] for headers in metrics.headers} == {"api_usage_metrics"}


def test_totals_are_right_when_it_was_killed_and_the_dataset_was_away(tmp_path: Path) -> None:
    with gateway(tmp_path, USAGE_METRIC_CUSTOMERS="acme") as running:
        metrics = running.metrics
        metrics.status = 503
        facts = Request(bytes_out=KILOBYTES, failed=True)
        for _ in range(3):
            with ThreadPoolExecutor(4) as clients:
                batches = [[request(facts) for _ in range(40)] for _ in range(5)]
                assert set(clients.map(running.send, batches)) == {200}
            running.kill_and_start()
        metrics.status = 200
        metrics.wait_until(lambda: metrics.total("usage.requests") >= 600)
        assert metrics.by("usage.requests", *DIVISIONS) == {("acme", "/v1/items/{id}", "ok"): 600}
        assert metrics.total("usage.request.errors") == 600
        assert metrics.total("usage.response.bytes") == 600 * KILOBYTES
        assert metrics.total("usage.request.duration") == 600 * 0.25
        # Of five metrics, one each: a start begins none anew.
        assert len({point.series for point in metrics.points}) == 5


def test_ten_thousand_customers_and_routes_make_no_more_series_than_it_may(tmp_path: Path) -> None:
    with gateway(tmp_path, USAGE_METRIC_CUSTOMERS="acme|customer-7", USAGE_METRIC_ROUTES="/v1/orders") as running:
        metrics = running.metrics
        for first in range(0, 10_000, 1000):
            many = [
                request(Request(f"customer-{n}", route="/v1/orders", reason="ok")) for n in range(first, first + 1000)
            ]
            many += [request(Request("acme", route=f"/v1/{n}", reason=f"own_{n}")) for n in range(first, first + 1000)]
            many += [request(Request("acme", n * 10, "/v1/orders", bytes_in=7)) for n in range(first, first + 1000)]
            assert running.send(many) == 200
        metrics.wait_until(lambda: metrics.total("usage.requests") >= 30_000)
        assert metrics.total("usage.requests") == 30_000
        assert metrics.total("usage.request.bytes") == 70_000
        assert metrics.by("usage.requests", "usage.customer.id")[("customer-7",)] == 1
        found = {key: values(metrics, key) for key in (*DIVISIONS, "usage.tier")}
        assert {"acme", "customer-7"} <= found["usage.customer.id"]
        assert len(found["usage.customer.id"]) == CELLS + 2  # 10,000 fill them all
        assert len(found["usage.route"]) == CELLS + 1
        assert found["usage.reason"] == {"ok", "_OTHER"}
        assert found["usage.tier"] == {None, *range(0, 100, 10), 1}


def test_values_that_no_sum_can_take_are_left_out_and_end_nothing(tmp_path: Path) -> None:
    sizes = ("1000", 12.5, True, -5, 2**62, 2**63 - 1)
    with gateway(tmp_path) as running:
        metrics = running.metrics
        strange = [request(Request(more={"http.request.body.size": size})) for size in sizes]
        backwards = request(Request(bytes_in=3, seconds=-20.0))
        # In both orders: what comes first decides of which kind a series is.
        for spans in (strange, [*reversed(strange)], [backwards]):
            assert running.send(spans) == 200
        metrics.wait_until(lambda: metrics.total("usage.requests") >= 13)
        assert metrics.total("usage.requests") == 13
        assert metrics.total("usage.request.bytes") == 3
        assert metrics.total("usage.request.duration") == 12 * 0.25


def test_no_dimension_has_a_value_outside_the_schema(tmp_path: Path) -> None:
    secret = "sk_live_" + "4eC39HqLyjWDarjtT1zdp7dc"
    hostile = (
        {"usage.customer.id": f"acme\n{secret}", "usage.reason": "a reason, in a sentence"},
        {"usage.customer.id": "x" * 10_000, "http.route": "/v1/orders?token=" + secret},
        {"usage.customer.id": 7, "usage.tier": "gold", "http.route": 3.5, "usage.reason": True},
        {"usage.customer.id": secret, "usage.reason": secret, "usage.route": secret, "password": secret},
    )
    with gateway(tmp_path, USAGE_METRIC_CUSTOMERS=".*", USAGE_METRIC_REASONS=".*") as running:
        metrics = running.metrics
        spans = [request(Request(more=attributes)) for attributes in hostile]
        assert running.send(spans, **{"service.name": "shop", "host.name": secret}) == 200
        metrics.wait_until(lambda: metrics.total("usage.requests") >= len(spans))
        for point in metrics.points:
            assert point.attributes.keys() <= {"usage.customer.id", "usage.tier", "usage.route", "usage.reason"}
            assert point.resource.keys() == {"service.name", "signal_to_metrics.service.instance.id"}
            for key, value in point.attributes.items():
                assert "****" in str(value) or BY_KEY[key].accept(value) == value, (key, value)
        assert secret not in repr(metrics.points)


def test_every_reason_of_the_schema_is_counted_by_name(tmp_path: Path) -> None:
    with gateway(tmp_path, USAGE_METRIC_REASONS="own_words|of_ours") as running:
        metrics = running.metrics
        known = (*REASONS, "own_words", "of_ours")
        assert running.send([request(Request(reason=reason)) for reason in (*known, "nobodys")]) == 200
        metrics.wait_until(lambda: metrics.total("usage.requests") > len(known))
        assert values(metrics, "usage.reason") == {*known, "_OTHER"}


def assert_durations(metrics: MetricsSink, usage: AxiomStub) -> None:
    """The durations of each customer's requests add up to those of the spans that came out."""
    seconds: Counter[tuple[object, ...]] = Counter()
    for span in usage.unique_spans:
        if span.kind == "server":
            seconds[(span.attributes["usage.customer.id"],)] += span.duration / 1e9  # type: ignore[assignment]
    observed = metrics.by("usage.request.duration", "usage.customer.id")
    assert observed.keys() == seconds.keys()
    assert all(math.isclose(observed[customer], seconds[customer], rel_tol=1e-9) for customer in seconds)
    points = [point for point in metrics.points if point.metric == "usage.request.duration"]
    assert sum(point.count for point in points) == metrics.total("usage.requests")


def requests(stub: AxiomStub) -> int:
    return sum(span.kind == "server" for span in stub.unique_spans)


def values(metrics: MetricsSink, key: str) -> set[object]:
    return {point.attributes.get(key) for point in metrics.points}
