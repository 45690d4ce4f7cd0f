"""What `make bench` makes of its measurements. Nothing is timed here: the one gate on speed is `make bench-quick`."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import sys
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from benchmarks import gate, stated, table
from benchmarks.application import CUSTOMERS, KEYS
from benchmarks.configurations import ALL, BARE, BY_NAME, OURS, STOCK
from benchmarks.environments import differences, pinned
from benchmarks.figures import CPU, THREAD, Figures, Measurement, Spread
from benchmarks.observed import Call
from benchmarks.pair import Differences
from benchmarks.pairing import pairs
from benchmarks.profiler import ThreadProfile
from benchmarks.results import Results
from benchmarks.rounds import order
from benchmarks.sink_server import stats
from benchmarks.wire import encode

ROOT = Path(__file__).parents[2]


def measurement(number: int, variant: str, name: str, cpu: float, thread: float = 0.0) -> Measurement:
    return Measurement(number, variant, name, cpu, thread or cpu, records=1, wire_bytes=100.0)


def a_round(number: int, *, bare: float, ours: float, stock: float, variants: str = "AB") -> list[Measurement]:
    costs = ((BARE, bare), (OURS, bare + ours), (BARE, bare), (STOCK, bare + stock), (BARE, bare * 5), (BARE, bare))
    return [measurement(number, variant, name, cpu) for variant in variants for name, cpu in costs]


def results(measurements: list[Measurement]) -> Results:
    return Results.made_here(
        measurements, requests=7, versions={"main": {"fastapi": "0.165.0"}}, skipped={"moesif": "no such package"}
    )


class TestFigures:
    def test_what_is_added_is_the_cost_less_the_median_of_the_bare_runs_of_that_round(self) -> None:
        figures = Figures([*a_round(0, bare=100, ours=30, stock=60), *a_round(1, bare=200, ours=32, stock=70)], "A")
        assert figures.added(OURS, CPU) == Spread(31, 30, 32)

    def test_a_ratio_is_that_of_the_same_round(self) -> None:
        rounds = [(100, 30, 60), (300, 90, 100), (50, 14, 20)]
        found = [
            each
            for number, (bare, ours, stock) in enumerate(rounds)
            for each in a_round(number, bare=bare, ours=ours, stock=stock)
        ]
        ratio = Figures(found, "B").ratio(OURS, THREAD)
        assert (ratio.median, ratio.least, ratio.most) == pytest.approx((0.7, 0.5, 0.9))

    def test_variants_are_kept_apart(self) -> None:
        found = a_round(0, bare=1, ours=2, stock=4, variants="A") + a_round(0, bare=1, ours=3, stock=4, variants="B")
        assert Figures(found, "A").ratio(OURS, CPU).median == 0.5
        assert Figures(found, "B").ratio(OURS, CPU).median == 0.75

    def test_a_spread_is_shown_with_the_least_and_the_most(self) -> None:
        assert Spread.of([3.0, 1.0, 2.26]).shown(1) == "2.3 [1.0, 3.0]"


@pytest.mark.parametrize("count", [0, 1, 2, 3, 10])
def test_a_round_has_everything_once_and_the_bare_application_four_times_first_and_last(count: int) -> None:
    others = [each for each in ALL if each.name != BARE][:count]
    found = order(BY_NAME[BARE], others, random.Random(1))
    assert found[0] is found[-1] is BY_NAME[BARE]
    assert [each.name for each in found].count(BARE) == 4
    assert {each.name for each in found} - {BARE} == {each.name for each in others}
    assert len(found) == count + 4


class TestTheGate:
    def test_what_is_stated_holds_up_to_the_tolerance(self) -> None:
        limit = min(each.ratio for each in stated.STATED) * stated.TOLERANCE
        within = a_round(0, bare=100, ours=100 * limit - 0.01, stock=100)
        assert all(verdict.holds for verdict in gate.judge(within))

    def test_each_stated_ratio_is_held_by_itself(self) -> None:
        for each in stated.STATED:
            beyond = a_round(0, bare=100, ours=100 * each.ratio * stated.TOLERANCE + 1, stock=100)
            (verdict,) = [found for found in gate.judge(beyond) if found.stated == each]
            assert not verdict.holds

    def test_one_round_that_is_off_fails_nothing(self) -> None:
        costs = [10, 500, 10]
        found = [each for n, ours in enumerate(costs) for each in a_round(n, bare=100, ours=ours, stock=100)]
        assert all(verdict.holds for verdict in gate.judge(found))

    @pytest.mark.parametrize(("second", "passed"), [(10, True), (500, False)])
    def test_a_failure_is_measured_once_more_with_more_rounds(self, second: int, passed: bool) -> None:
        asked: list[range] = []

        def measure(rounds: range) -> list[Measurement]:
            asked.append(rounds)
            ours = 500 if len(asked) == 1 else second
            return [each for n in rounds for each in a_round(n, bare=100, ours=ours, stock=100)]

        assert gate.passes(measure, 2, 5) is passed
        assert asked == [range(2), range(2, 7)]

    def test_what_holds_is_measured_once(self) -> None:
        asked: list[range] = []

        def measure(rounds: range) -> list[Measurement]:
            asked.append(rounds)
            return [each for n in rounds for each in a_round(n, bare=100, ours=10, stock=100)]

        assert gate.passes(measure, 2, 5)
        assert asked == [range(2)]


class TestResults:
    def test_what_is_written_is_read_again(self, tmp_path: Path) -> None:
        found = results(a_round(0, bare=100, ours=30, stock=60))
        found.write(tmp_path / "new" / "bench.json")
        assert Results.read(tmp_path / "new" / "bench.json") == found

    def test_the_file_has_the_documented_shape(self, tmp_path: Path) -> None:
        results(a_round(0, bare=100, ours=30, stock=60)).write(tmp_path / "bench.json")
        written = json.loads((tmp_path / "bench.json").read_text())
        assert list(written) == [
            "format", "date", "python", "processor", "cores", "system", "requests", "warm_up", "rounds", "versions",
            "skipped", "measurements",
        ]  # fmt: skip
        assert written["format"] == 1
        assert written["rounds"] == 1
        assert written["measurements"][1] == {
            "round": 0,
            "variant": "A",
            "configuration": OURS,
            "cpu_us": 130,
            "request_thread_us": 130,
            "records": 1,
            "wire_bytes": 100.0,
        }

    def test_another_format_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "bench.json").write_text('{"format": 2, "measurements": []}')
        with pytest.raises(ValueError, match="not of format 1"):
            Results.read(tmp_path / "bench.json")


def test_the_table_names_the_cheapest_first_and_says_what_was_not_measured() -> None:
    text = table.markdown(results(a_round(0, bare=100, ours=30, stock=60)), "make bench")
    lines = text.splitlines()
    assert lines[2].startswith("| **otel_usage** | **0.50 [0.50, 0.50]** |")
    assert lines[3].startswith("| stock OTel")
    assert "- Not measured: moesif (moesifasgi): no such package" in lines
    assert "- Command: `make bench`" in lines


def test_without_stock_otel_there_are_no_ratios() -> None:
    found = [each for each in a_round(0, bare=100, ours=30, stock=60) if each.configuration != STOCK]
    assert "| **-** | **-** | **30 [30, 30]** |" in table.markdown(results(found), "")


def test_the_page_quotes_what_is_stated() -> None:
    page = (ROOT / "docs" / "performance.md").read_text()
    quoted = page.partition("<!-- stated -->\n")[2].partition("<!-- /stated -->")[0]
    assert quoted.strip() == stated.markdown()
    assert f"more than {stated.TOLERANCE} times what is stated" in page


class TestEnvironments:
    def test_all_of_opentelemetry_and_the_framework_are_pinned(self) -> None:
        versions = {"fastapi": "1", "opentelemetry-sdk": "2", "pytest": "3"}
        assert pinned(versions) == {"fastapi": "1", "opentelemetry-sdk": "2"}

    def test_a_difference_is_named_with_who_has_what(self) -> None:
        found = differences(
            {
                "main": {"fastapi": "1", "pytest": "1"},
                "logfire": {"fastapi": "2", "pytest": "2"},
                "moesif": {"fastapi": "1"},
                "apitally": {},
            }
        )
        assert found == ["fastapi: 1 in main, moesif; 2 in logfire"]


def test_every_configuration_says_what_a_request_of_each_variant_records() -> None:
    assert {name for name, each in BY_NAME.items() if set(each.records) != {"A", "B"}} == set()
    assert (BY_NAME[OURS].records["A"], BY_NAME[OURS].records["B"]) == (1, 2)


def test_each_key_is_a_customers() -> None:
    assert len(set(KEYS)) == 37
    assert list(CUSTOMERS) == list(KEYS)


def test_the_floor_writes_what_the_official_messages_read() -> None:
    call = Call(1_700_000_000_000_000_123, "upstream.example", "GET", 503, 1.25)
    start, took, size = 1_700_000_000_000_000_000, 1_234_567, 1 << 20
    record = (start, took, "GET", "/v1/items/{id}", 200, size, "customer-3", "ab" * 16, [call])
    request = ExportTraceServiceRequest.FromString(encode([record, record]))
    (resource,) = request.resource_spans
    assert resource.resource.attributes[0].value.string_value == "bench"
    first, second = resource.scope_spans[0].spans
    assert first.span_id != second.span_id
    assert (len(first.trace_id), first.name, first.kind) == (16, "GET /v1/items/{id}", 2)
    assert (first.start_time_unix_nano, first.end_time_unix_nano) == (start, start + took)
    attributes = {each.key: each.value for each in first.attributes}
    assert attributes["usage.customer.id"].string_value == "customer-3"
    assert attributes["http.response.body.size"].int_value == size
    (event,) = first.events
    assert (event.name, event.time_unix_nano) == ("upstream", call.ended_ns)
    described = {each.key: each.value for each in event.attributes}
    assert described["usage.upstream.duration_ms"].double_value == 1.25
    assert described["http.response.status_code"].int_value == 503


def test_the_sink_counts_what_it_kept() -> None:
    body = encode([(1, 1, "GET", "/", 200, 1, "customer-0", "00", [])])
    posts = [
        ("/v1/traces", "", body),
        ("/v1/traces", "gzip", gzip.compress(body) + gzip.compress(body)),
        ("/v1/events/batch", "", b"[{}, {}, {}]"),
        ("/v1/metrics", "", b"\x00"),
    ]
    assert {name: stats(posts)[name] for name in ("posts", "spans", "events")} == {"posts": 4, "spans": 3, "events": 3}


class TestPairs:
    def test_whoever_is_first_in_one_pair_is_second_in_the_next(self) -> None:
        served: list[str] = []

        async def one() -> float:
            served.append("one")
            return 3.0

        async def other() -> float:
            served.append("other")
            return 1.0

        assert asyncio.run(pairs(one, other, 2, lambda: None)) == [(3.0, 1.0), (3.0, 1.0)]
        assert served == ["one", "other", "other", "one"]

    def test_the_figure_is_the_median_of_the_differences(self) -> None:
        found = Differences.of([(11.0, 10.0), (13.0, 10.0), (99.0, 10.0)])
        assert found.median == 3.0
        assert found.against == 10.0


class TestProfile:
    def test_time_of_c_counts_for_the_package_that_calls_it(self) -> None:
        profile = ThreadProfile()

        def work() -> None:
            sorted(range(1000))

        before = sys.getprofile()
        sys.setprofile(profile)
        try:
            work()
        finally:
            sys.setprofile(before)
        assert profile.calls["builtins:sorted"] == 1
        (name,) = [each for each in profile.calls if each.endswith("work")]
        assert name == f"{__name__}:TestProfile.test_time_of_c_counts_for_the_package_that_calls_it.<locals>.work"
        assert profile.own["builtins:sorted"] > 0
        assert profile.by_package[__name__.partition(".")[0]] >= profile.own["builtins:sorted"]


def test_a_plot_is_a_png_and_an_svg_that_is_the_same_each_time(tmp_path: Path) -> None:
    from benchmarks.plot import draw

    found = results(a_round(0, bare=100, ours=30, stock=60))
    png, svg = draw(found, tmp_path)
    assert png.read_bytes().startswith(b"\x89PNG")
    first = svg.read_bytes()
    draw(found, tmp_path)
    assert svg.read_bytes() == first
    assert b"<dc:date>" not in first
