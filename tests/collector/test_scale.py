"""Services → gateways → Kafka → consumers → Axiom: what was acknowledged comes out, whatever is killed on the way.

Delivery is at least once. What is sent twice, and when, is said by the test that makes it so.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_usage.testing import AxiomStub, Refuse, Status
from tests.conftest import TOKEN

from .broker import Broker
from .scale import CONFIGS, PARTITIONS, PATIENCE, Chain, all_of, arrived, named, served, within

pytestmark = [pytest.mark.timeout(400), pytest.mark.xdist_group("scale")]
N = 60


@pytest.fixture(scope="session")
def otelcol_kafka() -> str:
    import os

    return os.environ["OTELCOL_KAFKA"]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with Broker(tmp_path_factory.mktemp("broker")) as running:
        yield running


@pytest.fixture
def chain_on(otelcol_kafka: str, stub: AxiomStub, tmp_path: Path) -> Callable[[Broker], Chain]:
    def make(broker: Broker) -> Chain:
        topic = f"usage-{secrets.token_hex(4)}"
        broker.make_topic(topic, PARTITIONS)
        return Chain(otelcol_kafka, broker, topic, stub, tmp_path)

    return make


@pytest.fixture
def chain(chain_on: Callable[[Broker], Chain], broker: Broker) -> Chain:
    return chain_on(broker)


@pytest.fixture
def frail(chain_on: Callable[[Broker], Chain], tmp_path: Path) -> Iterator[Chain]:
    """With a broker of its own, for a test that ends it."""
    with Broker(tmp_path) as own:
        yield chain_on(own)


def exported(*spans: tuple[bytes, str], **attributes: str) -> bytes:
    """What a client that is none of ours sends: spans of traces, with attributes of its own."""
    body = ExportTraceServiceRequest()
    made = body.resource_spans.add()
    for trace_id, name in spans:
        span = made.scope_spans.add().spans.add(trace_id=trace_id, span_id=secrets.token_bytes(8), name=name)
        for key, value in {"usage.kind": "request", **attributes}.items():
            span.attributes.add(key=key).value.string_value = value
    return body.SerializeToString()


def post(url: str, body: bytes) -> None:
    headers = {"content-type": "application/x-protobuf"}
    assert httpx.post(f"{url}/v1/traces", content=body, headers=headers).status_code == 200


def test_every_span_comes_out_once_through_two_gateways_and_two_consumers(chain: Chain) -> None:
    customers = named("acme", N)
    with chain.gateway("gateway-a") as one, chain.gateway("gateway-b") as other:
        with chain.consumer("consumer-a"), chain.consumer("consumer-b"):
            served(customers[: N // 2], one.url)
            served(customers[N // 2 :], other.url)
            chain.sink.wait_for(2 * N, PATIENCE)
            within(lambda: chain.committed() == chain.held(), "not all is committed")
    assert arrived(chain.sink) == all_of(customers)
    assert len(chain.sink.spans) == 2 * N, "nothing was killed, and so nothing is sent twice"


def test_a_trace_is_in_one_partition_whichever_gateways_its_spans_came_by(chain: Chain) -> None:
    traces = [secrets.token_bytes(16) for _ in range(24)]
    with chain.gateway("gateway-a") as one, chain.gateway("gateway-b") as other:
        for gateway in (one, other):
            post(gateway.url, exported(*((trace, "GET /") for trace in traces)))
        within(lambda: chain.held() == 2 * len(traces), "a record for each trace and gateway")
    places = chain.broker.partitions(chain.topic, 2 * len(traces))
    assert len(places) == len(traces)
    assert all(len(partitions) == 1 for partitions in places.values()), places
    assert len(set.union(*places.values())) > 1, "all of them in one would be no spreading"


def test_what_the_schema_does_not_name_gets_neither_into_the_topic_nor_past_it(chain: Chain, tmp_path: Path) -> None:
    hostile = exported((secrets.token_bytes(16), "GET /"), **{"http.url": "https://x.example/?k=1", "http.route": "/"})
    lax = tmp_path / "lax.yaml"
    config = (CONFIGS / "scale-gateway.yaml").read_text()
    lax.write_text(config.replace("processors: [memory_limiter, redaction/usage]", "processors: [memory_limiter]"))
    assert lax.read_text() != config
    with chain.consumer():
        with chain.gateway() as gateway:
            post(gateway.url, hostile)
        with chain.gateway("lax", lax) as somebody_else:
            post(somebody_else.url, hostile)
        chain.sink.wait_for(2, PATIENCE)
    for span in chain.sink.spans:
        assert span.attributes == {"usage.kind": "request", "http.route": "/"}
    in_kafka = b"".join(path.read_bytes() for path in chain.broker.data.glob(f"{chain.topic}-*/*.log"))
    assert in_kafka


def test_a_consumer_killed_in_an_outage_of_axiom_has_committed_nothing_and_loses_nothing(chain: Chain) -> None:
    customers = named("acme", N)
    chain.sink.fail_with(Status(503))
    with chain.gateway() as gateway:
        with chain.consumer() as consumer:
            served(customers, gateway.url)
            chain.sink.wait_for_requests(1, PATIENCE)
            consumer.kill()
        assert chain.committed() == 0
        chain.sink.heal()
        with chain.consumer("next"):
            chain.sink.wait_for(2 * N, PATIENCE)
            within(lambda: chain.committed() == chain.held(), "not all is committed")
    assert arrived(chain.sink) == all_of(customers)


def test_a_consumer_whose_token_is_refused_waits_for_another_and_loses_nothing(chain: Chain) -> None:
    customers = named("acme", N)
    with chain.gateway() as gateway:
        served(customers, gateway.url)
        with chain.consumer("refused", token="xaat-not-this-one") as refused:
            chain.sink.wait_for_requests(1, PATIENCE)
            within(lambda: "paused until rebalance" in refused.log.read_text(), "it goes on as if nothing were")
        assert chain.committed() == 0
        with chain.consumer(token=TOKEN):
            chain.sink.wait_for(2 * N, PATIENCE)
    assert arrived(chain.sink) == all_of(customers)


def test_a_gateway_killed_while_the_broker_is_down_has_what_it_acknowledged(frail: Chain) -> None:
    customers = named("acme", N)
    frail.broker.stop()
    with frail.gateway() as gateway:
        served(customers, gateway.url)
        gateway.kill()
    frail.broker.start()
    with frail.gateway(), frail.consumer():
        frail.sink.wait_for(2 * N, PATIENCE)
    assert arrived(frail.sink) == all_of(customers)


def test_a_broker_killed_while_services_send_loses_nothing(frail: Chain) -> None:
    before, meanwhile, after = named("before", N), named("meanwhile", N), named("after", N)
    with frail.gateway() as gateway, frail.consumer():
        served(before, gateway.url)
        within(frail.held, "nothing is in the topic")
        frail.broker.kill()
        served(meanwhile, gateway.url)
        frail.broker.start()
        served(after, gateway.url)
        everybody = all_of(before) | all_of(meanwhile) | all_of(after)
        within(lambda: arrived(frail.sink) == everybody, "spans are missing")


def test_a_sink_that_refuses_connections_is_waited_for(chain: Chain) -> None:
    customers = named("acme", N)
    chain.sink.fail_with(Refuse())
    with chain.gateway() as gateway, chain.consumer() as consumer:
        served(customers, gateway.url)
        within(lambda: "Exporting failed. Will retry" in consumer.log.read_text(), "it was not tried")
        chain.sink.heal()
        chain.sink.wait_for(2 * N, PATIENCE)
    assert arrived(chain.sink) == all_of(customers)
