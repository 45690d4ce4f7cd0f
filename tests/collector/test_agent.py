"""Through the agent: usage of this package arrives whole and once, whatever the destination does, and costs the service
nothing where there is no Collector.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

import otel_usage as usage
from otel_usage.local.http_server import HttpServer
from otel_usage.testing import AxiomStub, RateLimited, Refuse, Status
from tests.needs import needed_collector
from tests.outside import outside
from tests.servers import serve_asgi
from tests.wire import Wire

from .collectors import CONFIGS, PATIENCE, Collector, collector
from .otlp import REQUEST, export, key, pairs, post, requests, span

AGENT = CONFIGS / "agent.yaml"


@pytest.fixture
def agent(stub: AxiomStub, tmp_path: Path) -> Iterator[Collector]:
    with collector(AGENT, tmp_path, AXIOM_URL=stub.url) as running:
        yield running


@pytest.fixture
def shop() -> Iterator[str]:
    """A service whose requests have children and events of every kind."""
    app = FastAPI()

    @app.get("/v1/items/{number}")
    def item(number: int) -> dict[str, int]:
        usage.identify(customer_id=f"customer-{number % 3}", tier=1, auth_kind="user_api_key", provenance="verified")
        with usage.upstream("warehouse", "stock"):
            pass
        usage.record_cache("prices", "quote", status="fresh")
        usage.meter("items", 2, unit="item")
        usage.record_limit("per_minute", "allow")
        usage.record_llm("openai", "gpt-5", input_tokens=8, output_tokens=2, stage="text")
        with usage.usage_span("render the item", quantity=3, unit="page"):
            return {"number": number}

    with serve_asgi(app) as url:
        yield url


def arrived(stub: AxiomStub, count: int) -> list[Any]:
    """The spans at the sink, of which there are as many, once each."""
    found = stub.wait_for(count, PATIENCE)
    assert max(Counter(span.key for span in found).values()) == 1
    assert len(found) == count
    return found


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_usage_arrives_whole_and_once(
    protocol: str, agent: Collector, stub: AxiomStub, shop: str, switch_on: Callable[..., None]
) -> None:
    port = agent.grpc if protocol == "grpc" else agent.http
    # With patience: what is not answered in time is sent a second time.
    switch_on(
        otlp_endpoint=f"http://127.0.0.1:{port}", otlp_protocol=protocol, axiom_token=None, export_timeout=PATIENCE
    )
    assert {answer.status_code for answer in outside(shop, *(f"/v1/items/{n}" for n in range(50)))} == {200}
    until(lambda: usage.health().ledger.produced == 200)  # the last answer is at its client before its span is made
    report = usage.flush(timeout=PATIENCE)
    assert (report.accepted, report.rejected, report.dropped) == (200, 0, 0)

    spans = arrived(stub, 200)
    assert Counter(span.attributes["usage.kind"] for span in spans) == dict.fromkeys(
        ("request", "upstream", "llm", "custom"), 50
    )
    names = {"GET /v1/items/{number}", "warehouse stock", "openai gpt-5", "render the item"}
    assert {span.name for span in spans} == names
    assert all(len({span.trace_id for span in spans if span.parent_span_id == one.span_id}) == 1
               for one in spans if one.kind == "server")  # fmt: skip
    events = [[event.name for event in span.events] for span in spans if span.kind == "server"]
    assert events == [["usage.cache", "usage.meter", "usage.limit"]] * 50


def test_the_agent_changes_nothing_of_a_usage_span(tmp_path: Path, shop: str, switch_on: Callable[..., None]) -> None:
    before, after = Wire(), Wire()
    with closing(HttpServer(before)) as near, closing(HttpServer(after)) as far:
        near.start()
        far.start()
        switch_on(otlp_endpoint=near.url)
        outside(shop, "/v1/items/1", "/v1/items/2", "/v1/items/nothing", "/nowhere")
        until(lambda: usage.health().ledger.produced == 10)
        usage.uninstrument()
        with collector(AGENT, tmp_path, AXIOM_URL=far.url) as agent:
            for body in before.bodies:
                assert post(agent.http, ExportTraceServiceRequest.FromString(body)) == 200
            until(lambda: after.spans >= before.spans)
    assert before.spans == 10
    assert {span.key: span for span in after.received} == {span.key: span for span in before.received}


def until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < deadline, "it has not come about"
        time.sleep(0.02)


@pytest.mark.parametrize(
    "fault", [RateLimited(), Status(429), Status(503), Status(503, {"Retry-After": "1"})], ids=repr
)
def test_what_axiom_refuses_for_a_time_is_sent_again(fault: Any, agent: Collector, stub: AxiomStub) -> None:
    stub.fail_with(fault, times=2)
    sent = requests(30)
    assert post(agent.http, export(sent)) == 200
    assert {span.key for span in arrived(stub, 30)} == {key(span) for span in sent}
    assert [request.status for request in stub.requests] == [fault.code if isinstance(fault, Status) else 429] * 2 + [
        200
    ]


@pytest.mark.parametrize("status", [400, 413])
def test_what_axiom_refuses_for_good_holds_up_nothing_behind_it(status: int, agent: Collector, stub: AxiomStub) -> None:
    stub.fail_with(Status(status), times=1)
    assert post(agent.http, export(requests(3))) == 200
    stub.wait_for_requests(1, PATIENCE)
    sent = requests(5)
    assert post(agent.http, export(sent)) == 200
    assert {span.key for span in arrived(stub, 5)} == {key(span) for span in sent}
    until(lambda: "Exporting failed. Dropping data." in agent.said())


def test_whoever_sends_all_that_may_pass_costs_others_nothing(agent: Collector, stub: AxiomStub) -> None:
    stub.fail_with(Refuse())
    for _ in range(8):  # of which each is a batch of its own, until nobody is left to send another
        assert post(agent.http, export(requests(1))) == 200
        time.sleep(0.5)
    cache = {"usage.provider": "p" * 256, "usage.operation": "o" * 256, "usage.cache.status": "miss"}
    event = Span.Event(name="usage.cache", attributes=pairs(cache))
    for spans in (requests(100), [span("GET", REQUEST, events=[event] * 128) for _ in range(240)], requests(100)):
        assert post(agent.http, export(spans)) == 200
    stub.heal()
    arrived(stub, 448)
    assert "Dropping data" not in agent.said()


def test_no_batch_has_more_spans_than_axiom_takes(agent: Collector, stub: AxiomStub) -> None:
    count = 25_000
    shortest = [
        Span(trace_id=n.to_bytes(16), span_id=n.to_bytes(8), name="llm", attributes=pairs({"usage.kind": "llm"}))
        for n in range(1, count + 1)
    ]
    assert post(agent.http, export(shortest)) == 200
    arrived(stub, count)
    assert max(request.spans for request in stub.requests) < 10_000


def test_a_kill_in_an_outage_loses_nothing_that_was_acknowledged(agent: Collector, stub: AxiomStub) -> None:
    sent: set[tuple[str, str]] = set()

    def acknowledged(exports: int) -> None:
        for _ in range(exports):
            spans = requests(100)
            assert post(agent.http, export(spans)) == 200
            sent.update(map(key, spans))

    acknowledged(3)
    stub.wait_for(300, PATIENCE)
    stub.fail_with(Refuse())
    acknowledged(30)
    agent.kill()  # with batches that it is sending in vain, and others that wait
    agent.start()
    acknowledged(10)
    agent.kill()
    stub.heal()
    agent.start()
    until(lambda: len(stub.unique_spans) >= len(sent))
    assert {span.key for span in stub.unique_spans} == sent


def test_an_orderly_stop_in_an_outage_loses_nothing_either(agent: Collector, stub: AxiomStub) -> None:
    stub.fail_with(Status(503))
    sent = requests(50)
    assert post(agent.http, export(sent)) == 200
    stub.wait_for_requests(1, PATIENCE)
    agent.stop()
    stub.heal()
    agent.start()
    until(lambda: len(stub.unique_spans) >= len(sent))
    assert {span.key for span in stub.unique_spans} == set(map(key, sent))


def test_a_collector_that_is_down_costs_the_service_nothing(
    stub: AxiomStub, tmp_path: Path, shop: str, switch_on: Callable[..., None]
) -> None:
    with collector(AGENT, tmp_path, AXIOM_URL=stub.url) as agent:
        switch_on(otlp_endpoint=agent.url, axiom_token=None, spool=tmp_path / "spool", export_timeout=PATIENCE)
        outside(shop, "/v1/items/0")
        arrived(stub, 4)
        agent.kill()
        assert {answer.status_code for answer in outside(shop, *(f"/v1/items/{n}" for n in range(20)))} == {200}
        until(lambda: usage.health().ledger.spooled == 80)
        assert {answer.status_code for answer in outside(shop, *(f"/v1/items/{n}" for n in range(20)))} == {200}
        agent.start()
        until(lambda: len(stub.unique_spans) >= 164)
        report = usage.flush(timeout=PATIENCE)
        assert (len(stub.unique_spans), report.dropped, report.spooled) == (164, 0, 0)


def test_what_a_full_queue_has_no_room_for_stays_with_the_service(
    stub: AxiomStub, tmp_path: Path, shop: str, switch_on: Callable[..., None]
) -> None:
    small = tmp_path / "small.yaml"
    small.write_text("exporters: {otlp_http: {sending_queue: {queue_size: 50000, batch: {min_size: 20000}}}}\n")
    with collector(AGENT, tmp_path, overlay=small, AXIOM_URL=stub.url) as agent:
        stub.fail_with(Refuse())
        switch_on(otlp_endpoint=agent.url, axiom_token=None, spool=tmp_path / "spool", batch_size=16)
        assert {answer.status_code for answer in outside(shop, *(f"/v1/items/{n}" for n in range(100)))} == {200}
        until(lambda: usage.health().ledger.spooled > 0)
        assert usage.health().ledger.accepted > 0
        stub.heal()
        until(lambda: len(stub.unique_spans) >= 400)
        until(lambda: usage.health().ledger.accepted == 400)
        assert (len(stub.unique_spans), sum(usage.health().ledger.dropped.values())) == (400, 0)


def test_without_a_token_it_does_not_start(tmp_path: Path) -> None:
    tokenless = Collector(needed_collector(), AGENT, tmp_path, AXIOM_API_TOKEN="")
    tokenless.launch()
    assert tokenless.process is not None
    assert tokenless.process.wait(PATIENCE) == 1
    assert "no bearer token provided" in tokenless.said()


def test_it_starts_and_works_without_a_warning(agent: Collector, stub: AxiomStub) -> None:
    post(agent.http, export(requests(3)))
    arrived(stub, 3)
    agent.stop()
    assert agent.levels == {"info"}
    assert "deprecat" not in agent.said().lower()
