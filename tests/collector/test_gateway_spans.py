"""Usage comes out of the gateway once, by its tier, cut down to the schema; other traces are sampled beside it."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from otel_usage import flush
from otel_usage.schema import ATTRIBUTES, RESOURCE, ValueType, allowed_on
from tests.conftest import TOKEN
from tests.needs import needed_collector

from . import traffic
from .collectors import CONFIGS, PATIENCE, Collector
from .facts import Request, lasting, request
from .gateways import AGENTS_TOKEN, by_dataset, gateway, times, wait_until
from .otlp import export, key, pairs, post, post_body, span

TRACES = 2000
MARK = "~~"
SECRET = "sk_live_" + "4eC39HqLyjWDarjtT1zdp7dc"
REQUIRED = {"OTELCOL_TOKEN": "token", "AXIOM_API_TOKEN": "token", "TRACES_TOKEN": "token", "TRACES_URL": "endpoint"}


def ordinary(**facts: object) -> Span:
    """A span of the user's own tracing."""
    return span("SELECT", {"db.statement": "select 1", **facts})


def test_usage_comes_out_whole_beside_ordinary_traces_that_are_sampled(
    tmp_path: Path, switch_on: Callable[..., None]
) -> None:
    with gateway(tmp_path, TRACES_PERCENT="20") as running:
        usage, traces = running.usage, running.traces
        switch_on(otlp_endpoint=running.collector.url, axiom_token=AGENTS_TOKEN)
        sent = [ordinary() for _ in range(TRACES)]
        failed = ordinary()
        failed.status.code = Status.STATUS_CODE_ERROR
        slow = lasting(2.0, "SELECT", {})
        for first in range(0, TRACES, 200):
            assert running.send(sent[first : first + 200], "sqlalchemy") == 200
            traffic.serve(traffic.calls(60))
        assert running.send([failed, slow], "sqlalchemy") == 200
        assert flush(PATIENCE).complete
        # Of 60 calls, each makes a request, 60 upstream calls are made in all, and 48 call a model.
        wait_until(lambda: len(times(usage)) >= 1680, lambda: len(times(usage)))
        wait_until(lambda: {key(failed), key(slow)} <= times(traces).keys(), lambda: times(traces))
        wait_until(lambda: len(times(traces)) > 0.1 * TRACES, lambda: len(times(traces)))
        running.collector.stop()  # what waits for a decision is decided, and what is queued stays where it is
        assert len(times(usage)) == 1680
        assert set(times(usage).values()) == set(times(traces).values()) == {1}
        assert len(times(traces)) < 0.3 * TRACES
        assert {found.scope_name for found in usage.spans} == {"otel_usage"}
        assert {found.scope_name for found in traces.spans} == {"sqlalchemy"}
        assert traces.spans[0].attributes["db.statement"] == "select 1"  # whole, as it was


def test_it_starts_and_works_without_a_warning(tmp_path: Path) -> None:
    with gateway(tmp_path) as running:
        assert running.send([request(Request())]) == 200
        wait_until(lambda: len(times(running.usage)) == 1, running.collector.said)
        running.collector.stop()
        assert running.collector.levels == {"info"}
        assert "deprecat" not in running.collector.said().lower()


def test_a_tier_goes_to_the_dataset_that_it_should(tmp_path: Path) -> None:
    tiers = (None, -1, 0, 1, 2, 3, 9)
    with gateway(tmp_path, AXIOM_PREMIUM_DATASET="premium", USAGE_PREMIUM_TIER="3") as running:
        usage = running.usage
        sent = [request(Request(tier=tier, more={"usage.upstream.count": 1})) for tier in tiers for _ in range(20)]
        sent += [upstream(tier) for tier in tiers for _ in range(20)]
        sent.append(request(Request(tier=None, more={"usage.tier": "9"})))  # no number is no tier
        assert running.send(sent) == 200
        wait_until(lambda: len(times(usage)) == len(sent), lambda: len(times(usage)))
        found = by_dataset(usage)
        assert {span.attributes.get("usage.tier") for span in found["premium"]} == {3, 9}
        assert {span.attributes.get("usage.tier") for span in found["api_usage"]} == {None, -1, 0, 1, 2}
        assert (len(found["premium"]), len(found["api_usage"])) == (2 * 40, 5 * 40 + 1)
        assert {sent.headers["authorization"] for sent in usage.requests} == {f"Bearer {TOKEN}"}


def upstream(tier: int | None) -> Span:
    said = {"usage.kind": "upstream", "usage.customer.id": "acme", "usage.provider": "warehouse"}
    return span("warehouse", said if tier is None else {**said, "usage.tier": tier})


def test_what_a_hostile_client_plants_is_gone(tmp_path: Path) -> None:
    with gateway(tmp_path) as running:
        usage, traces, metrics = running.usage, running.traces, running.metrics
        planted = {"password": SECRET, "usage.secret": SECRET, "usage.plan": f"pro {SECRET}", "db.statement": SECRET}
        hostile = request(Request(more=planted))
        hostile.name, hostile.status.message, hostile.trace_state = f"GET /{SECRET}", SECRET, f"v={SECRET}"
        hostile.events.add(name="exception", attributes=pairs({"exception.message": SECRET}))
        hostile.links.add(trace_id=b"l" * 16, span_id=b"l" * 8, attributes=pairs({"note": SECRET}))
        disguised = span(f"SELECT {SECRET}", {"usage.kind": "custom", "db.statement": SECRET, "usage.tier": 9})
        resource = {"service.name": "shop", "process.command_line": SECRET}
        assert running.send([hostile, disguised], **resource) == 200
        # Neither the scope nor the kind alone makes usage: such spans are sampled as all others are.
        unkind = lasting(2.0, "SELECT", {"usage.kind": SECRET})
        unscoped = request(Request(seconds=2.0))
        assert running.send([unkind]) == running.send([unscoped], "sqlalchemy") == 200
        wait_until(lambda: len(usage.spans) >= 2 and len(traces.spans) >= 2, lambda: (usage.spans, traces.spans))
        assert set(times(usage)) == {key(hostile), key(disguised)}
        assert set(times(traces)) == {key(unkind), key(unscoped)}
        metrics.wait_until(lambda: metrics.total("usage.requests") == 1)
        assert SECRET not in repr(usage.spans)
        assert SECRET not in repr(metrics.points)
        for found in usage.spans:
            kind = str(found.attributes["usage.kind"])
            assert found.attributes.keys() <= allowed_on(kind).keys()
            assert found.resource_attributes.keys() <= allowed_on(RESOURCE).keys()


@pytest.mark.parametrize("token", [None, "another-token"])
def test_nobody_sends_without_the_token(tmp_path: Path, token: str | None) -> None:
    with gateway(tmp_path) as running:
        assert post(running.collector.http, export([request()]), token) == 401
        assert running.send([request()]) == 200
        wait_until(lambda: running.usage.spans, lambda: running.usage.requests)
        assert len(running.usage.spans) == 1


@pytest.mark.parametrize("missing", REQUIRED)
def test_it_does_not_start_without_what_it_needs(tmp_path: Path, missing: str) -> None:
    needed = {"OTELCOL_TOKEN": "a", "TRACES_TOKEN": "b", "TRACES_URL": "http://127.0.0.1:1", missing: ""}
    started = Collector(needed_collector(), CONFIGS / "gateway.yaml", tmp_path, **needed)
    started.launch()
    try:
        assert started.process is not None
        assert started.process.wait(PATIENCE) != 0
        assert REQUIRED[missing] in started.said()
    finally:
        started.kill()


def test_usage_goes_on_where_the_backend_of_other_traces_is_away(tmp_path: Path) -> None:
    with gateway(tmp_path, TRACES_PERCENT="100") as running:
        usage = running.usage
        running.traces.close()
        for _ in range(20):
            assert running.send([ordinary() for _ in range(100)], "sqlalchemy") == 200
            assert running.send([request() for _ in range(10)]) == 200
        wait_until(lambda: len(times(usage)) == 200, lambda: len(times(usage)))


def test_what_is_no_utf8_costs_nobody_a_span(tmp_path: Path) -> None:
    # A reader of protobuf refuses all of an export in which one string is no UTF-8, and with it what others sent.
    texts = [a for a in ATTRIBUTES if a.type is ValueType.STRING and a.key != "usage.kind"]
    spans = [request(Request(more={a.key: f"{str(a.example)[:-2]}{MARK}"})) for a in texts if "request" in a.on]
    spans += [span(f"work {MARK}", {"usage.kind": "custom"}), span(f"POST {MARK}", {"usage.kind": "upstream"})]
    spans += [span("work", {"usage.kind": "custom", a.key: MARK}) for a in texts if "custom" in a.on]
    spans.append(span("work", {"usage.kind": "custom", MARK: "value"}))
    meter = request()
    meter.events.add(name="usage.meter", attributes=pairs({"usage.unit": MARK}))
    meter.events.add(name=MARK)
    spans.append(meter)
    with gateway(tmp_path) as running:
        body = export(spans, **{"service.name": MARK, "service.version": MARK}).SerializeToString()
        assert post_body(running.collector.http, body.replace(MARK.encode(), b"\xff\xfe"), AGENTS_TOKEN) == 200
        wait_until(lambda: len(times(running.usage)) == len(spans), lambda: running.usage.requests)
        assert {request.status for request in running.usage.requests} == {200}


@pytest.mark.parametrize("kind", [{"a": math.nan}, [math.inf]], ids=str)
def test_a_kind_that_cannot_be_read_has_nothing_refused_that_came_with_it(kind: object, tmp_path: Path) -> None:
    with gateway(tmp_path) as running:
        odd = span("GET", {})
        odd.attributes.extend(pairs({"usage.kind": kind}))
        assert running.send([odd, request()]) == 200
        wait_until(lambda: len(times(running.usage)) == 1, running.collector.said)


def test_the_package_sends_to_it_by_grpc_too(tmp_path: Path, switch_on: Callable[..., None]) -> None:
    with gateway(tmp_path) as running:
        grpc = f"http://127.0.0.1:{running.collector.grpc}"
        switch_on(otlp_endpoint=grpc, otlp_protocol="grpc", axiom_token=AGENTS_TOKEN)
        traffic.serve(traffic.calls(60))
        assert flush(PATIENCE).complete
        wait_until(lambda: len(times(running.usage)) == 168, lambda: len(times(running.usage)))
