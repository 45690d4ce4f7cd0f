"""The ledger as OpenTelemetry metrics, read by the SDK's own reader."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from opentelemetry import metrics as api
from opentelemetry.metrics import _internal as api_state
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.util._once import Once

import otel_usage as usage
from otel_usage import metrics
from otel_usage.testing import AxiomStub, Status

Points = dict[tuple[str, str], float]


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemoryMetricReader]:
    """A MeterProvider of the application's, for the length of a test: the API takes one for a process's life."""
    monkeypatch.setattr(api_state, "_METER_PROVIDER", None)
    monkeypatch.setattr(api_state, "_METER_PROVIDER_SET_ONCE", Once())
    monkeypatch.setattr(metrics, "_made", False)
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    api.set_meter_provider(provider)
    yield reader
    provider.shutdown()


def points(reader: InMemoryMetricReader) -> Points:
    """Each value, by its name without the prefix and by the value of its one attribute, if any."""
    data = reader.get_metrics_data()
    found: Points = {}
    for resource in data.resource_metrics if data else ():
        for scope in resource.scope_metrics:
            assert scope.scope.name == "otel_usage"
            for metric in scope.metrics:
                assert metric.name.startswith("otel_usage.")
                for point in metric.data.data_points:
                    (attribute,) = (point.attributes or {"": ""}).values()
                    found[metric.name.removeprefix("otel_usage."), str(attribute)] = point.value  # type: ignore[union-attr]
    return found


def test_every_column_of_the_ledger_is_measured(
    reader: InMemoryMetricReader, switch_on: Callable[..., None], stub: AxiomStub
) -> None:
    switch_on(schedule_delay=3600.0, queue_size=5)
    for _ in range(3):
        with usage.usage_span("work") as span:
            span.set_attribute("secret.key", "value")
    assert usage.flush(5.0).accepted == 3
    stub.fail_with(Status(503))
    for _ in range(7):
        with usage.usage_span("work"):
            pass
    usage.flush(5.0)
    with usage.usage_span("work"):
        pass
    found = points(reader)
    assert found == {
        ("span.produced", ""): 11,
        ("span.adopted", ""): 0,
        ("span.handed_over", ""): 0,
        ("processor.span.processed", ""): 3,
        ("processor.span.processed", "queue_full"): 2,
        ("exporter.span.exported", ""): 3,
        ("exporter.span.exported", "rejected"): 0,
        ("allowlist.attribute.dropped", "secret.key"): 3,
        ("encoder.span.written", ""): 0,
        ("encoder.miss", ""): 0,
        ("encoder.span.official", ""): 0,
        ("encoder.remembered", ""): 0,
        ("processor.span.queue.size", ""): 1,
        ("processor.span.queue.capacity", ""): 5,
        ("exporter.span.inflight", ""): 0,
        ("spool.span.count", ""): 5,
        ("spool.size", ""): usage.health().spool_size,
        ("breaker.state", "closed"): 1,
        ("breaker.state", "open"): 0,
        ("breaker.state", "half_open"): 0,
    }
    assert found["spool.size", ""] > 100


def test_when_usage_is_off_nothing_is_measured(reader: InMemoryMetricReader, switch_on: Callable[..., None]) -> None:
    switch_on()
    usage.uninstrument()
    assert points(reader) == {}


def test_switched_on_again_it_is_measured_again_and_each_once(
    reader: InMemoryMetricReader, switch_on: Callable[..., None]
) -> None:
    switch_on()
    usage.uninstrument()
    switch_on()
    with usage.usage_span("work"):
        pass
    usage.flush(5.0)
    assert points(reader)["span.produced", ""] == 1


def test_every_metric_is_in_the_docs() -> None:
    page = (Path(__file__).parent.parent.parent / "docs" / "reliability.md").read_text()
    made = {f"otel_usage.{name}" for name, *_ in (*metrics._COUNTERS, *metrics._LEVELS)}
    assert made == set(re.findall(r"`(otel_usage\.[a-z_.]+)`", page)) - {"otel_usage.attribute.key"}
