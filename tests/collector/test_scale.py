"""Services → gateways → Kafka → consumers → Axiom: what was acknowledged comes out, whatever is killed on the way.

Delivery is at least once. What is sent twice, and when, is said by the test that makes it so.
"""

from __future__ import annotations

import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_usage.testing import AxiomStub, Hang, Refuse, Status
from tests.conftest import TOKEN
from tests.needs import needed_collector
from tests.servers import free_port

from .broker import Broker
from .collectors import CONFIGS
from .names import name_server
from .scale import PARTITIONS, PATIENCE, Chain, all_of, arrived, named, served, spans_by, within

pytestmark = [pytest.mark.timeout(400), pytest.mark.xdist_group("scale")]
N = 60


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with Broker(tmp_path_factory.mktemp("broker")) as running:
        yield running


@pytest.fixture
def chain_on(stub: AxiomStub, tmp_path: Path) -> Callable[[Broker], Chain]:
    def make(broker: Broker) -> Chain:
        topic = f"usage-{secrets.token_hex(4)}"
        broker.make_topic(topic, PARTITIONS)
        return Chain(broker, topic, stub, tmp_path)

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


def test_every_span_comes_out_once_and_is_what_it_was(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "gateway-api")
    customers = named("acme", N)
    with (
        chain.gateway() as gateway,
        chain.agent(f"127.0.0.1:{gateway.grpc}") as agent,
        chain.consumer("one"),
        chain.consumer("other"),
    ):
        served(customers, agent.url)
        chain.sink.wait_for(2 * N, PATIENCE)
        within(lambda: chain.committed() == chain.held(), "not all is committed")
    assert arrived(chain.sink) == all_of(customers)
    assert len(chain.sink.spans) == 2 * N, "nothing was killed, and so nothing is sent twice"
    for span in chain.sink.spans:
        assert span.trace_id in {other.trace_id for other in chain.sink.spans if other.span_id != span.span_id}
        assert span.resource_attributes["service.name"] == "gateway-api"


def test_an_agent_takes_turns_with_the_gateways_behind_a_name(chain: Chain) -> None:
    port = str(free_port())
    with (
        chain.gateway("one", OTELCOL_GRPC_PORT=port) as one,
        chain.gateway("other", OTELCOL_GRPC_PORT=port, OTELCOL_LISTEN="127.0.0.2") as other,
        name_server(["127.0.0.1", "127.0.0.2"]) as names,
        chain.agent(f"dns://{names}/usage-gateway.test:{port}") as agent,
        chain.consumer(),
    ):
        rounds = [named(f"acme-{n}", 5) for n in range(6)]
        for customers in rounds:  # each is an export of its own
            served(customers, agent.url)
        chain.sink.wait_for(2 * 30, PATIENCE)
        assert spans_by(one) + spans_by(other) == 2 * 30
        assert spans_by(one)
        assert spans_by(other)
    assert arrived(chain.sink) == set.union(*map(all_of, rounds))


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


@pytest.mark.parametrize("trusting", ["scale-gateway", "scale-consumer"])
def test_what_the_schema_does_not_name_passes_neither_a_gateway_nor_a_consumer(
    chain: Chain, tmp_path: Path, trusting: str
) -> None:
    config = (CONFIGS / f"{trusting}.yaml").read_text()
    lax = tmp_path / "lax.yaml"
    lax.write_text(config.replace("processors: [memory_limiter, redaction/usage]", "processors: [memory_limiter]"))
    assert lax.read_text() != config
    chosen = {"config": lax}
    with (
        chain.gateway(**(chosen if trusting == "scale-gateway" else {})) as gateway,
        chain.consumer(**(chosen if trusting == "scale-consumer" else {})),
    ):
        said = {
            "http.url": "https://x.example/?k=1",
            "http.route": "/",
            "usage.plan": "xaat-00000000-0000-0000-0000-00",
        }
        post(gateway.url, exported((secrets.token_bytes(16), "GET /"), **said))
        (span,) = chain.sink.wait_for(1, PATIENCE)
    assert span.attributes == {"usage.kind": "request", "http.route": "/", "usage.plan": "****"}


def test_a_consumer_killed_in_an_outage_of_axiom_has_committed_nothing_and_loses_nothing(chain: Chain) -> None:
    customers = named("acme", N)
    chain.sink.fail_with(Status(503))
    with chain.gateway() as gateway:
        with chain.consumer() as consumer:
            served(customers, gateway.url)
            chain.sink.wait_for_requests(1, PATIENCE)
            time.sleep(3)  # it commits each second, and would have what it held to be done
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
            within(lambda: "paused until rebalance" in refused.said(), "it goes on as if nothing were")
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
        within(lambda: "Exporting failed. Will retry" in consumer.said(), "it was not tried")
        chain.sink.heal()
        chain.sink.wait_for(2 * N, PATIENCE)
    assert arrived(chain.sink) == all_of(customers)


def test_what_axiom_took_without_saying_so_is_sent_again_after_a_kill_and_not_more_often(chain: Chain) -> None:
    customers = named("acme", N)
    chain.sink.fail_with(Hang(seconds=600, accepted=True))
    with chain.gateway() as gateway:
        with chain.consumer() as consumer:
            served(customers, gateway.url)
            chain.sink.wait_for(2 * N, PATIENCE)
            consumer.kill()
        assert chain.committed() == 0
        chain.sink.heal()
        with chain.consumer("next"):
            chain.sink.wait_for(4 * N, PATIENCE)
            within(lambda: chain.committed() == chain.held(), "not all is committed")
    assert arrived(chain.sink) == all_of(customers)
    assert len(chain.sink.spans) == 4 * N, "each twice, with the ids that tell"
    assert len(chain.sink.unique_spans) == 2 * N


def test_the_files_that_were_not_run_say_so_first() -> None:
    for name in ("scale-clickhouse", "scale-load-balancing"):
        assert (CONFIGS / f"{name}.yaml").read_text().startswith("# Not run")


def test_a_collector_takes_the_file_for_clickhouse_for_valid(tmp_path: Path) -> None:
    settings = dict.fromkeys(("AXIOM_API_TOKEN", "KAFKA_BROKERS", "CLICKHOUSE_USER", "CLICKHOUSE_PASSWORD"), "any")
    command = [needed_collector("builder-kafka.yaml"), "validate"]
    for name in ("scale-consumer", "scale-clickhouse"):
        command += ["--config", str(CONFIGS / f"{name}.yaml")]
    for endpoint, taken in (("clickhouse://db.example:9440?secure=true", True), ("", False)):
        environment = {**settings, "CLICKHOUSE_ENDPOINT": endpoint}
        done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True, timeout=60)
        assert (done.returncode == 0) is taken, done.stderr
