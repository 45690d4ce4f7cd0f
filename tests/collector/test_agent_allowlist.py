"""What the agent lets out is what the schema names: whoever sends, wherever it stands, and however often it is said."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, EntityRef, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from otel_usage.collector import Choices, pipeline
from otel_usage.local.http_server import HttpServer
from otel_usage.local.otlp import ReceivedSpan
from otel_usage.schema import (
    ATTRIBUTES,
    BY_KEY,
    PERSONAL_KEYS,
    RESOURCE,
    SCHEMA_URL,
    RecordKind,
    UsageEvent,
    ValueType,
    allowed_on,
)
from otel_usage.scope import EVENT_LIMIT
from otel_usage.testing import AxiomStub
from tests.property.test_redaction import EMAILS, FAMILIES, HARMLESS
from tests.unit.test_forms import FITTING, UNFITTING
from tests.wire import Wire

from .collectors import CONFIGS, PATIENCE, Collector, collector
from .otlp import REQUEST, export, key, pairs, post, requests, span, value

CANARY: Final = "canary-7f3a"


@pytest.fixture(scope="module")
def far() -> Iterator[tuple[Wire, str]]:
    wire = Wire()
    with closing(HttpServer(wire)) as server:
        server.start()
        yield wire, server.url


@pytest.fixture(scope="module")
def agent(far: tuple[Wire, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    with collector(CONFIGS / "agent.yaml", tmp_path_factory.mktemp("agent"), AXIOM_URL=far[1]) as running:
        yield running


class Passage:
    """What is sent through the agent comes out at the other end."""

    def __init__(self, agent: Collector, wire: Wire) -> None:
        self.agent, self.wire = agent, wire

    def of(self, request: ExportTraceServiceRequest) -> dict[tuple[str, str], ReceivedSpan]:
        """What became of the spans of an export. One more is sent behind them, so what is not there will not come."""
        self.wire.bodies.clear()
        self.wire.received.clear()
        last = span("GET", {"usage.kind": "request", "http.request.method": "GET"})
        for whole in (request, export([last])):
            assert post(self.agent.http, whole) == 200
        deadline = time.monotonic() + PATIENCE
        while key(last) not in (found := {one.key: one for one in list(self.wire.received)}):
            assert time.monotonic() < deadline, self.agent.said()
            time.sleep(0.02)
        del found[key(last)]
        return found

    def one(self, sent: Span, **resource: Any) -> ReceivedSpan:
        """The same for one span, which comes out."""
        return self.of(export([sent], **resource))[key(sent)]

    def values(self, attribute: str, values: Sequence[Any]) -> list[Any]:
        """What becomes of values of an attribute of request spans. None: it was left out."""
        sent = [span("GET", {**REQUEST, attribute: of}) for of in values]
        found = self.of(export(sent))
        return [found[key(one)].attributes.get(attribute) for one in sent]


@pytest.fixture
def passage(agent: Collector, far: tuple[Wire, str]) -> Passage:
    return Passage(agent, far[0])


def of_any_type() -> list[AnyValue]:
    """The canary as a value of each type that can hold it, and within others."""
    return [value(of) for of in (CANARY, CANARY.encode(), [CANARY, {CANARY: [CANARY]}], {"a": {CANARY: CANARY}})]


def planted() -> list[KeyValue]:
    """The canary under keys that the schema has not, and under all that it has in a form that it has not."""
    foreign = [KeyValue(key=f"app.{n}", value=of) for n, of in enumerate(of_any_type())]
    foreign += [KeyValue(key=CANARY, value=value(1)), KeyValue(key="exception.message", value=value(CANARY))]
    listed = [KeyValue(key=a.key, value=of) for a in ATTRIBUTES for of in of_any_type()[1:]]
    lines = [KeyValue(key=a.key, value=value(f"{CANARY}\n{CANARY}" + "x" * 999)) for a in ATTRIBUTES]
    return [*foreign, *listed, *lines]


def hostile(kind: str) -> Span:
    """A usage span that is one in nothing but its kind."""
    made = span(
        f"{CANARY}\n", {"usage.kind": kind, "usage.customer.id": "acme"}, trace_state=f"vendor={CANARY}",
        status=Status(code=Status.STATUS_CODE_ERROR, message=CANARY),
    )  # fmt: skip
    made.attributes.extend(planted())
    for name in (*UsageEvent, CANARY, "exception"):
        made.events.add(name=name, time_unix_nano=made.end_time_unix_nano, attributes=planted())
    made.links.add(trace_id=b"1" * 16, span_id=b"2" * 8, trace_state=f"v={CANARY}", attributes=pairs({"a": CANARY}))
    return made


def hostile_export() -> ExportTraceServiceRequest:
    spans = [hostile(kind) for kind in RecordKind]
    foreign = [hostile("other"), hostile(CANARY), span(CANARY, {"http.route": CANARY}), span(CANARY, {"usage.kind": 1})]
    made = export([*spans, *foreign])
    resource = made.resource_spans[0]
    resource.schema_url = f"https://{CANARY}.example/1"
    resource.resource.attributes.extend(planted())
    scope = resource.scope_spans[0]
    scope.schema_url = f"https://{CANARY}.example/2"
    scope.scope.name, scope.scope.version = CANARY, f"1 {CANARY}"
    scope.scope.attributes.extend(planted())
    return made


def test_nothing_that_a_hostile_client_plants_comes_out(passage: Passage) -> None:
    sent = hostile_export()
    found = passage.of(sent)
    assert {one.attributes["usage.kind"] for one in found.values()} == set(RecordKind)
    assert len(found) == len(RecordKind)
    for body in passage.wire.bodies:
        assert CANARY.encode() not in body
    for one in found.values():
        assert one.name == one.attributes["usage.kind"]
        assert dict(one.attributes) == {"usage.kind": one.name, "usage.customer.id": "acme"}
        assert [(event.name, dict(event.attributes)) for event in one.events] == [(name, {}) for name in UsageEvent]
        assert (one.links, one.trace_state, one.status_message, one.status_code) == ((), "", "", "error")
        assert (one.scope_name, one.scope_version, one.schema_url) == ("otel_usage", "", SCHEMA_URL)
        assert dict(one.resource_attributes) == {"service.name": "shop"}


def test_a_reference_to_an_entity_does_not_come_out(passage: Passage) -> None:
    sent = export([span("GET", REQUEST)])
    entity = EntityRef(schema_url=CANARY, type=CANARY, id_keys=[CANARY], description_keys=[CANARY])
    sent.resource_spans[0].resource.entity_refs.append(entity)
    passage.of(sent)
    for body in passage.wire.bodies:
        assert CANARY.encode() not in body


@pytest.mark.parametrize("missing", ["trace_id", "span_id"])
def test_a_span_without_an_id_has_nothing_refused_that_came_with_it(missing: str, tmp_path: Path) -> None:
    others = requests(3)
    with AxiomStub(token=None) as strict, collector(CONFIGS / "agent.yaml", tmp_path, AXIOM_URL=strict.url) as agent:
        assert post(agent.http, export([span("GET", REQUEST, **{missing: b""}), *others])) == 200
        assert {one.key for one in strict.wait_for(3, PATIENCE)} == set(map(key, others))


@pytest.mark.parametrize("more", [0, 1])
def test_a_span_has_as_many_events_as_the_package_adds_at_most(more: int, passage: Passage) -> None:
    sent = span("GET", REQUEST)
    for _ in range(EVENT_LIMIT + more):
        sent.events.add(name="usage.meter", time_unix_nano=1, attributes=pairs({"usage.unit": "page"}))
    assert len(passage.one(sent).events) == (0 if more else EVENT_LIMIT)


def test_a_key_that_comes_twice_is_taken_once(passage: Passage) -> None:
    sent = span("GET", REQUEST)
    sent.attributes.extend(pairs({"usage.customer.id": "globex", "usage.plan": "pro"}))
    sent.attributes.extend(pairs({"usage.plan": {CANARY: CANARY}}))
    found = passage.one(sent)
    assert (found.attributes["usage.customer.id"], found.attributes["usage.plan"]) == ("acme", "pro")
    assert b"globex" not in passage.wire.bodies[0]
    assert CANARY.encode() not in passage.wire.bodies[0]


EXAMPLES: Final = {a.key: float(a.example) if a.type is ValueType.DOUBLE else a.example for a in ATTRIBUTES}


@pytest.mark.parametrize("kind", RecordKind)
def test_all_that_the_schema_names_comes_out_where_it_may_stand(kind: RecordKind, passage: Passage) -> None:
    sent = span("anything", {**EXAMPLES, "usage.kind": kind.value})
    for name in UsageEvent:
        sent.events.add(name=name, time_unix_nano=sent.end_time_unix_nano, attributes=pairs(EXAMPLES))
    found = passage.one(sent, **EXAMPLES)

    def expected(place: str) -> dict[str, Any]:
        return {key: EXAMPLES[key] for key in allowed_on(place) if key not in PERSONAL_KEYS}

    assert dict(found.attributes) == {**expected(kind), "usage.kind": kind.value}
    assert {event.name: dict(event.attributes) for event in found.events} == {e: expected(e) for e in UsageEvent}
    assert dict(found.resource_attributes) == expected(RESOURCE)


def test_what_is_chosen_comes_out_too(far: tuple[Wire, str], tmp_path: Path) -> None:
    chosen = tmp_path / "chosen.yaml"
    chosen.write_text(pipeline("agent", Choices(frozenset({"client.address", "usage.referer"}), email_addresses=True)))
    with collector(chosen, tmp_path, AXIOM_URL=far[1]) as agent:
        passage = Passage(agent, far[0])
        found = passage.one(span("GET", {**EXAMPLES, "usage.kind": "request", "usage.customer.id": "ann@example.com"}))
    assert found.attributes["usage.customer.id"] == "ann@example.com"
    assert {key for key in PERSONAL_KEYS if key in found.attributes} == {"client.address", "usage.referer"}


def test_a_number_is_one_of_the_attributes_type(passage: Passage) -> None:
    assert passage.values("usage.tier", [2, 2.0, True, "2"]) == [2, None, None, None]
    found = passage.values("usage.upstream.duration", [0.5, 3, True, "3"])
    assert found == [0.5, 3.0, None, None]
    assert isinstance(found[1], float)
    assert passage.values("usage.aborted", [True, False, 1, "true"]) == [True, False, None, None]


CAP: Final = BY_KEY["usage.customer.id"].cap


def test_a_text_is_as_long_as_its_cap_in_characters(passage: Passage) -> None:
    fitting = ["x" * CAP, "ü" * CAP, "株" * CAP]
    assert passage.values("usage.customer.id", [*fitting, "x" * (CAP + 1), "ü" * (CAP + 1)]) == [*fitting, None, None]


FORMED: Final = [
    key for key in {**FITTING, **UNFITTING}
    if key not in PERSONAL_KEYS and "request" in BY_KEY[key].on and not BY_KEY[key].closed
]  # fmt: skip


@pytest.mark.parametrize("attribute", FORMED)
def test_a_value_has_the_form_that_the_schema_says(attribute: str, passage: Passage) -> None:
    fitting, unfitting = FITTING.get(attribute, []), UNFITTING.get(attribute, [])
    assert passage.values(attribute, fitting) == fitting
    redacted = [of if "[redacted]" in of else None for of in unfitting]  # which the service may have made of one
    assert passage.values(attribute, unfitting) == redacted


@pytest.mark.parametrize("attribute", [a.key for a in ATTRIBUTES if a.closed and "request" in a.on])
def test_a_value_of_a_list_is_on_it(attribute: str, passage: Passage) -> None:
    listed = [] if attribute == "usage.kind" else [str(of) for of in BY_KEY[attribute].values]
    assert passage.values(attribute, listed) == listed
    if attribute != "usage.kind":
        assert passage.values(attribute, ["other", "", f"{listed[0]}\n", listed[0] + listed[1]]) == [None] * 4


# -- secrets -----------------------------------------------------------------------------------------------------------


def drawn(pattern: str, count: int = 12) -> list[str]:
    """Some texts that match, always the same."""
    found: list[str] = []

    @settings(max_examples=count, deadline=None, database=None, derandomize=True,
              suppress_health_check=[HealthCheck.too_slow])  # fmt: skip
    @given(st.from_regex(re.compile(pattern, re.ASCII), fullmatch=True))
    def draw(text: str) -> None:
        found.append(text)

    draw()
    return found


def around(secret: str) -> list[str]:
    return [secret, f"see {secret} there", f"/v1/{secret}/items", f"key_{secret}", f"x={secret}&y=1"]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_secret_is_masked_wherever_it_stands(family: str, passage: Passage) -> None:
    secrets = drawn(FAMILIES[family])
    texts = [(secret, text) for secret in secrets for text in around(secret) if len(text) <= CAP]
    for (secret, _), found in zip(texts, passage.values("usage.customer.id", [text for _, text in texts]), strict=True):
        essence = max(re.split(r"[ :=@/\"+]", secret), key=len)
        assert essence not in (found or "")
        assert found is None or "****" in found

    sent = [span(text, {"usage.kind": "custom"}) for _, text in texts]
    named = passage.of(export(sent))
    for (secret, _), one in zip(texts, sent, strict=True):
        assert max(re.split(r"[ :=@/\"+]", secret), key=len) not in named[key(one)].name


@pytest.mark.parametrize("address", EMAILS)
def test_an_address_is_masked_in_whatever_form(address: str, passage: Passage) -> None:
    ats = ("@", "%40", "%2540", "\\u0040", "&#64;", "&#x40;", "&commat;", "\uff20")
    texts = [text.replace("@", at) for at in ats for text in (address, f"to <{address}>", f"/users/{address}/orders")]
    for found in passage.values("usage.customer.id", texts):
        assert address.partition("@")[0] not in found
        assert "****" in found


def test_what_is_ordinary_is_left_alone(passage: Passage) -> None:
    known = {"password=[redacted]"}  # which has been redacted already
    ordinary = [text for text in HARMLESS if text not in known]
    assert passage.values("usage.customer.id", ordinary) == ordinary


def test_an_event_and_a_resource_are_searched_too(passage: Passage) -> None:
    secret = "sk_" + "live_0123456789abcdef"
    sent = span("GET", REQUEST)
    sent.events.add(name="usage.meter", time_unix_nano=1, attributes=pairs({"usage.meter.name": secret}))
    found = passage.one(sent, **{"service.name": secret, "service.instance.id": f"pod {quote(secret)}"})
    assert dict(found.events[0].attributes) == {"usage.meter.name": "****"}
    assert dict(found.resource_attributes) == {"service.name": "****", "service.instance.id": "pod****"}
