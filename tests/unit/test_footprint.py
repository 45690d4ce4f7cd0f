"""The pure parts of the footprint's measurements. Nothing here is timed."""

from __future__ import annotations

import gzip
import itertools
import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from benchmarks.footprint import soak
from benchmarks.footprint.children import environment
from benchmarks.footprint.figures import arrivals, quantile, slope, spread
from benchmarks.footprint.finding import Finding, at_most, markdown
from benchmarks.footprint.held import holders
from benchmarks.footprint.traffic import ROUTES, orders
from benchmarks.footprint.wire import incompressible, spans_of, without_ids

# -- figures -----------------------------------------------------------------------------------------------------------


def test_a_quantile_is_one_of_the_values() -> None:
    values = [float(n) for n in range(1000, 0, -1)]
    assert quantile(values, 0.5) == 501.0
    assert quantile(values, 0.999) == 1000.0
    assert quantile([7.0], 0.999) == 7.0
    assert math.isnan(quantile([], 0.5))


def test_spread_is_from_the_least_to_the_greatest() -> None:
    assert spread([3.0, 1.0, 2.0]) == 2.0


def test_a_straight_line_has_a_slope_without_doubt() -> None:
    rise, noise = slope(range(10), [5.0 + 3.0 * n for n in range(10)])
    assert rise == pytest.approx(3.0)
    assert noise == pytest.approx(0.0, abs=1e-9)


def test_what_goes_up_and_down_has_a_slope_within_its_noise() -> None:
    rise, noise = slope(range(10), [100.0 + (-1) ** n for n in range(10)])
    assert abs(rise) < noise


def test_the_interval_of_a_slope_is_that_of_textbooks() -> None:
    # Four points, two degrees of freedom: residuals 0.1, -0.3, 0.3, -0.1 around 1 + 2 x, hence s² = 0.1 and t = 4.30.
    rise, noise = slope([0, 1, 2, 3], [1.1, 2.7, 5.3, 6.9])
    assert rise == pytest.approx(2.0)
    assert noise == pytest.approx(4.30 * math.sqrt(0.1 / 5))


def test_who_comes_while_another_waits_waits_for_the_rest() -> None:
    assert arrivals([0.0, 0.1], gap=1.0) == [0.0, 0.1]
    assert arrivals([3.5], gap=1.0) == [3.5, 2.5, 1.5, 0.5]


# -- the table ---------------------------------------------------------------------------------------------------------


def test_a_bound_holds_up_to_itself() -> None:
    assert at_most("x", 100.0, 100.0, "bytes").holds
    assert not at_most("x", 100.1, 100.0, "bytes").holds


def test_the_table_says_what_holds() -> None:
    lines = markdown(
        [at_most("wire", 98.24, 100, "bytes", digits=1, more="(a|b)"), at_most("memory", 3000, 2048, "bytes"),
         Finding("flat", "1.0")],
        facts=["Date: today", "Versions: all"],
    ).splitlines()  # fmt: skip
    assert lines == [
        "| what | measured | bound |  |",
        "| --- | --- | --- | --- |",
        r"| wire | 98.2 bytes (a\|b) | ≤ 100 bytes | holds |",
        "| memory | 3,000 bytes | ≤ 2,048 bytes | **does not hold** |",
        "| flat | 1.0 | - | - |",
        "",
        "- Date: today",
        "- Versions: all",
    ]


# -- traffic -----------------------------------------------------------------------------------------------------------


def test_the_same_seed_makes_the_same_requests() -> None:
    once, again = (list(itertools.islice(orders(1), 50)) for _ in range(2))
    assert once == again
    assert once != list(itertools.islice(orders(2), 50))


def test_traffic_is_skewed_and_has_all_kinds_of_outcome() -> None:
    some = list(itertools.islice(orders(1, slow=True), 5000))
    customers, statuses = Counter(each.customer for each in some), Counter(each.status for each in some)
    assert customers.keys() == set(range(40))
    assert customers[0] > 10 * customers[39]
    assert statuses.keys() == {200, 304, 401, 404, 429, 500}
    assert 0.8 < statuses[200] / len(some) < 0.92
    assert 0.37 < sum(each.upstream is not None for each in some) / len(some) < 0.43
    assert max(each.sent for each in some) > 50 * quantile([each.sent for each in some], 0.5)
    assert all(each.seconds > 0 for each in some)


def test_no_request_calls_anybody_where_none_is_to() -> None:
    assert not any(each.upstream for each in itertools.islice(orders(1, upstream=0.0), 1000))


def test_the_soak_has_many_customers_and_agents() -> None:
    some = list(itertools.islice(soak._traffic(), 5000))
    assert len({each.customer for each in some}) > 2000
    assert len({each.agent for each in some}) > 3000


def test_there_are_twenty_routes() -> None:
    assert len({(method, template) for method, template, _ in ROUTES}) == 20


# -- the wire ----------------------------------------------------------------------------------------------------------


def test_random_ids_count_once_and_can_be_taken_out() -> None:
    request = ExportTraceServiceRequest()
    spans = request.resource_spans.add().scope_spans.add().spans
    root = spans.add(trace_id=b"t" * 16, span_id=b"s" * 8, name="GET /")
    root.attributes.append(KeyValue(key="usage.request.id", value=AnyValue(string_value="0a" * 16)))
    spans.add(trace_id=b"t" * 16, span_id=b"u" * 8, parent_span_id=b"s" * 8, name="GET")
    assert incompressible(spans) == 16 + 8 + 16 + 8

    bare = spans_of(gzip.decompress(without_ids(gzip.compress(request.SerializeToString()))))
    assert [span.name for span in bare] == ["GET /", "GET"]
    assert {span.trace_id for span in bare} == {bytes(16)}
    assert {span.span_id for span in bare} == {bytes(8)}
    assert bare[0].attributes[0].value.string_value == "\0" * 32


# -- what is held ------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Holder:
    what: Any


def marked() -> str:
    """As a value made at run time: a constant would be held by the code."""
    return "-".join(("held", "by", "somebody"))


def test_what_is_held_is_found_however_deep() -> None:
    held = [
        marked().encode(),
        bytearray(marked().encode()),
        f"prefix {marked()}",
        {"key": {"inner": marked() + "!"}},  # dicts of strings are not tracked
        ((marked() + "!",),),
        [Holder(marked() + "!")],
    ]
    assert sum(holders(marked()).values()) == len(held)
    held.clear()
    assert not holders(marked())


# -- processes ---------------------------------------------------------------------------------------------------------


def test_a_measurement_inherits_no_telemetry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USAGE_TELEMETRY", "1")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "mine")
    found = environment(FOOTPRINT_SINK="here")
    assert "USAGE_TELEMETRY" not in found
    assert "OTEL_SERVICE_NAME" not in found
    assert found["FOOTPRINT_SINK"] == "here"
    assert "PATH" in found
