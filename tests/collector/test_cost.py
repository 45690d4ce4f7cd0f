"""``python -m benchmarks.collector`` measures what it says."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from benchmarks.collector.__main__ import PIPELINES, table
from benchmarks.collector.bodies import Body, joined, recorded
from benchmarks.collector.measuring import Round, added_up, chosen, measure
from tests.needs import needed_collector

from .otlp import export, requests

SAID = """# TYPE otelcol_exporter_sent_spans counter
otelcol_exporter_sent_spans{exporter="otlp_http/premium",service_name="otelcol"} 4000
otelcol_exporter_sent_spans{exporter="otlp_http/others",service_name="otelcol"} 1.5e+06
otelcol_exporter_sent_metric_points{exporter="otlp_http/metrics"} 7
otelcol_receiver_accepted_spans{receiver="otlp"} 9
"""


@pytest.fixture(scope="module")
def bodies() -> list[Body]:
    return recorded(100)


def body(spans: int) -> Body:
    return Body(gzip.compress(export(requests(spans)).SerializeToString()), spans)


def test_what_is_recorded_is_usage_of_every_kind(bodies: list[Body]) -> None:
    # Of 100 calls, each makes a request, 99 upstream calls are made in all, and 80 call a model.
    assert sum(body.spans for body in bodies) == 279


def test_exports_are_joined_whole() -> None:
    made = joined([body(30), body(40), body(50), body(20)], 60)
    assert [each.spans for each in made] == [70, 70]
    decoded = ExportTraceServiceRequest.FromString(gzip.decompress(made[0].wire))
    assert [len(each.scope_spans[0].spans) for each in decoded.resource_spans] == [30, 40]


def test_bodies_are_sent_again_where_they_do_not_suffice() -> None:
    assert [each.spans for each in chosen([body(3), body(2)], 9)] == [3, 2, 3, 2]


def test_what_was_sent_is_added_up_over_exporters() -> None:
    assert added_up(SAID, "sent_spans") == 1_504_000
    assert added_up(SAID, "sent_metric_points") == 7


def test_the_table_has_the_median() -> None:
    rounds = [Round(1000, 2.0, seconds, 2**20, 5000, 3000, 0) for seconds in (0.1, 0.3, 0.2)]
    assert "| agent | 200 (100 to 300) | 5,000 (3,333 to 10,000) | 500 (500 to 500) | 1 (1 to 1) | 5 " in table(
        {"agent": rounds}
    )


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_a_round_is_measured_to_its_end(pipeline: str, bodies: list[Body], tmp_path: Path) -> None:
    took = measure(needed_collector(), pipeline, PIPELINES[pipeline](bodies), 1000, tmp_path)
    assert took.spans >= 1000
    assert took.cpu_seconds > 0
    assert took.seconds > 0
    assert took.peak_bytes > 2**20
    assert took.wire_bytes > 0
    assert (took.points > 0) == (pipeline == "gateway")
