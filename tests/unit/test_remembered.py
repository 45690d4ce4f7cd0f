"""What is remembered of callers and of facts is bounded, and whether it is remembered changes nothing that is sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource

import otel_usage as usage
from otel_usage import distinct, said
from otel_usage.config import UsageConfig
from otel_usage.distinct import OTHER
from otel_usage.exporters import span_writer
from otel_usage.exporters.encoder import Encoder
from otel_usage.exporters.redacting import Redactor
from otel_usage.facts import RequestFacts
from otel_usage.identity import UsageIdentity
from otel_usage.ledger import DropCounter
from otel_usage.maker import SpanMaker
from otel_usage.payload import EncodedPayload
from otel_usage.readable import UsageReadableSpan
from otel_usage.runtime import active
from otel_usage.schema import SCHEMA_URL
from otel_usage.status import EncoderHealth
from tests.conftest import PEPPER

GET = RequestFacts(
    "GET", "/v1/items", True, False, 200, True, False, None, False, None, "api.example.com", None, None, (), ()
)


def customer(name: str, **facts: Any) -> UsageIdentity:
    return UsageIdentity(name, **{"auth_kind": "user_api_key", "provenance": "verified", **facts})


class Worker:
    """An encoder, and what it sends."""

    def __init__(self) -> None:
        self.drops = DropCounter()
        self.maker = SpanMaker(UsageConfig(), Resource({}, SCHEMA_URL), self.drops)
        self.encoder = Encoder(Redactor(self.drops))

    def send(self, facts: RequestFacts = GET, identity: UsageIdentity | None = None) -> dict[str, Any]:
        """One span's attributes, as they were sent."""
        whose = identity if identity is not None else customer("acme")
        span = UsageReadableSpan(self.maker, facts, whose, {}, b"t" * 16, b"s" * 8, b"", 1, 2)
        payload = self.encoder([span]).payload
        assert isinstance(payload, EncodedPayload)
        (sent,) = ExportTraceServiceRequest.FromString(payload.request).resource_spans[0].scope_spans[0].spans
        return {pair.key: getattr(pair.value, pair.value.WhichOneof("value") or "") for pair in sent.attributes}

    @property
    def misses(self) -> int:
        return self.encoder.health.misses

    @property
    def remembered(self) -> int:
        return self.encoder.health.remembered


@pytest.fixture
def worker() -> Worker:
    return Worker()


def test_what_comes_again_is_remembered(worker: Worker) -> None:
    first = worker.send()
    assert worker.encoder.health == EncoderHealth(written=1, misses=2, remembered=2)
    assert worker.send() == first
    assert worker.encoder.health == EncoderHealth(written=2, misses=2, remembered=2)


def test_customers_of_one_standing_share_what_is_known_of_facts(worker: Worker) -> None:
    worker.send()
    assert worker.send(identity=customer("globex"))["usage.customer.id"] == "globex"
    assert worker.misses == 3
    assert worker.send(identity=customer("globex", auth_kind="mcp_oauth"))["usage.origin.kind"] == "mcp"
    assert worker.misses == 5, "another kind of credential is another standing"


def test_callers_are_bounded_and_those_who_are_forgotten_are_learned_again(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(span_writer, "CALLERS_LIMIT", 3)
    first = [worker.send(identity=customer(f"c{n}")) for n in range(10)]
    assert worker.remembered <= 3 + 1
    assert [worker.send(identity=customer(f"c{n}")) for n in range(10)] == first
    assert worker.remembered <= 3 + 1
    assert worker.misses > 20


def test_facts_are_bounded_over_all_standings_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(span_writer, "FACTS_LIMIT", 4)
    worker = Worker()
    callers = [customer("acme"), customer("acme", auth_kind="jwt"), customer("acme", provenance="unverified")]
    asked = [(GET._replace(template=f"/r{n}"), whose) for n in range(5) for whose in callers]
    first = [worker.send(*one) for one in asked]
    assert worker.remembered <= 4 + len(callers)
    assert [worker.send(*one) for one in asked] == first
    assert worker.remembered <= 4 + len(callers)


def test_standings_are_bounded(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(span_writer, "STANDINGS_LIMIT", 3)
    first = [worker.send(identity=customer("acme", auth_kind=f"kind_{n}")) for n in range(10)]
    assert worker.remembered <= 3 + 3
    assert [worker.send(identity=customer("acme", auth_kind=f"kind_{n}")) for n in range(10)] == first
    writer = worker.encoder._writer
    assert writer is not None
    assert len(writer._known) <= 3


@pytest.mark.parametrize(
    "long",
    [
        {"host": "h" * 1025},
        {"origin": "https://" + "o" * 1025},
        {"cache_control": "max-age=1," * 110},
        {"annotations": (("usage.domain", "d" * 1025),)},
        {"place": (("geo.locality.name", "l" * 1025),)},
    ],
)
def test_long_facts_are_written_and_not_remembered(worker: Worker, long: dict[str, Any]) -> None:
    facts = GET._replace(**long)
    assert worker.send(facts) == worker.send(facts)
    assert worker.remembered == 1, "the caller"
    assert worker.misses == 3


@pytest.mark.parametrize("long", [{"customer_id": "c" * 1025}, {"plan": "p" * 1025}, {"auth_kind": "k" * 1025}])
def test_a_caller_who_says_much_is_written_and_not_remembered(worker: Worker, long: dict[str, Any]) -> None:
    whose = UsageIdentity(**{"customer_id": "acme", "auth_kind": "jwt", "provenance": "unverified", **long})
    assert worker.send(identity=whose) == worker.send(identity=whose)
    assert worker.remembered == 0


def test_a_customer_without_room_for_hosts_is_answered_for_itself_and_so_are_the_others(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distinct, "SHARE", 2)

    def host(name: str, whose: str) -> Any:
        return worker.send(GET._replace(host=name), customer(whose))["server.address"]

    assert [host(f"h{n}", "acme") for n in range(4)] == ["h0", "h1", OTHER, OTHER]
    assert host("h3", "globex") == "h3", "what one has no more room for is not remembered for the others"
    assert host("h2", "acme") == OTHER
    assert host("h3", "acme") == "h3", "nobody has to have room for what is known already"
    assert worker.drops.counts() == {"distinct:server.address": 3}


@pytest.mark.parametrize("kind", [None, "jwt"])
def test_names_that_strangers_have_used_up_are_there_for_a_customer_who_is_verified(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, kind: str | None
) -> None:
    monkeypatch.setattr(distinct, "_LIMITS", {"request": (("http.route", 2),)})
    stranger, verified = customer("acme", auth_kind=kind, provenance="unavailable"), customer("acme", auth_kind=kind)
    asked = [GET._replace(template=f"/r{n}") for n in range(4)]
    assert [worker.send(facts, stranger)["http.route"] for facts in asked] == ["/r0", "/r1", OTHER, OTHER]
    assert [worker.send(facts, verified)["http.route"] for facts in asked[::-1]] == ["/r3", "/r2", OTHER, OTHER]


def test_what_was_dropped_is_counted_for_each_span_also_where_it_is_remembered(worker: Worker) -> None:
    for times in (1, 2, 3):
        worker.send(GET._replace(said="no reason of ours, and too long" * 9), customer("acme", plan="p\n"))
        assert worker.drops.counts() == {"usage.reason": times, "usage.plan": times}


def test_what_is_counted_begins_anew_in_a_forked_child(worker: Worker) -> None:
    worker.send()
    worker.encoder.after_fork()
    assert worker.encoder.health == EncoderHealth(remembered=2)
    worker.send()
    assert worker.encoder.health == EncoderHealth(written=1, remembered=2)


# -- what identify() has made of words ---------------------------------------------------------------------------------


def test_identities_are_bounded_and_made_again(
    switch_on: Callable[..., None], monkeypatch: pytest.MonkeyPatch, stub: Any
) -> None:
    monkeypatch.setattr(said, "CALLERS_LIMIT", 3)
    switch_on()
    recorder = active()
    assert recorder is not None
    for _ in range(2):
        for number in range(10):
            with usage.usage_span("work"):
                usage.identify(customer_id=f"c{number}", tier=number, plan="pro", auth_kind="jwt")
            assert len(recorder.callers._known) <= 3
    assert usage.flush(5.0).accepted == 20
    sent = [(one.attributes["usage.customer.id"], one.attributes["usage.tier"]) for one in stub.spans]
    assert sent == [(f"c{number}", number) for number in range(10)] * 2


def test_long_words_are_not_remembered(usage_on: None) -> None:
    recorder = active()
    assert recorder is not None
    for words in ({"customer_id": "c" * 2000}, {"customer_id": "c", "plan": "p" * 2000}):
        with usage.usage_span("work"):
            usage.identify(**words, provenance="unverified")
    assert recorder.callers._known == {}


@pytest.mark.parametrize(("pepper", "kept"), [(None, False), (PEPPER, True)])
def test_a_credential_is_remembered_only_where_it_is_hashed(
    switch_on: Callable[..., None], pepper: str | None, kept: bool
) -> None:
    switch_on(key_pepper=pepper)
    recorder = active()
    assert recorder is not None
    for _ in range(2):
        with usage.usage_span("work"):
            usage.identify(customer_id="acme", auth_kind="jwt", principal="a raw key")
    assert [("a raw key" in words) for words in recorder.callers._known] == [kept]


@pytest.mark.parametrize("another", [True, 1.0])
def test_tiers_that_are_equal_and_of_other_types_are_read_for_themselves(
    usage_on: None, stub: Any, another: Any
) -> None:
    for tier in (1, another):
        with usage.usage_span("work"):
            usage.identify(customer_id="acme", tier=tier)
    assert usage.flush(5.0).accepted == 2
    assert [one.attributes.get("usage.tier") for one in stub.spans] == [1, None]
    assert usage.health().attributes_dropped == {"usage.tier": 1}
