"""Whatever goes in, on any field of a span, nothing but the schema's attributes comes out, and no secret does."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from enum import IntEnum, StrEnum
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

import otel_usage as usage
from otel_usage.allowlist import NAME_CAP
from otel_usage.config import UsageConfig
from otel_usage.exporters.encoder import Encoder
from otel_usage.exporters.otlp_http import OtlpHttpExporter
from otel_usage.exporters.redacting import Redactor
from otel_usage.guard import internal_errors
from otel_usage.ledger import DropCounter
from otel_usage.local.http_server import HttpServer
from otel_usage.local.messages import Request, Response
from otel_usage.local.otlp import decompress
from otel_usage.local.receiver import Receiver
from otel_usage.payload import EncodedPayload
from otel_usage.processors.allowlist import AllowlistSpanProcessor
from otel_usage.processors.circuit_breaking import CircuitBreakingSpanProcessor
from otel_usage.readable import finished
from otel_usage.recorder import Recorder
from otel_usage.redaction import REDACTED, redact
from otel_usage.request import UsageRequest
from otel_usage.runtime import activate, active
from otel_usage.schema import (
    ATTRIBUTES,
    BY_KEY,
    CURRENT_KEY,
    PERSONAL_KEYS,
    RESOURCE,
    SCHEMA_URL,
    RecordKind,
    UsageEvent,
    allowed_on,
)
from otel_usage.testing import AxiomStub
from tests.conftest import TOKEN

# Put together here, so that no scanner of this repository takes them for real ones.
SECRETS = {
    "axiom": "xaat-" + "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9",
    "bearer": "Bearer " + "abcdefgh12345678",
    "basic": "authorization: basic " + "dXNlcjpwYXNzd29yZA==",
    "jwt": "eyJ" + "hbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
    "stripe": "sk_" + "live_51H8xTestKeyTestKey",
    "openai": "sk-" + "proj-abcdefghijklmnop",
    "openai service": "sk-" + "svcacct-abcdefghijklmnop",
    "anthropic": "sk-" + "ant-api03-abcdefghijklmnop",
    "webhook": "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "aws": "AKIA" + "IOSFODNN7EXAMPLE",
    "github": "ghp_" + "abcdefghijklmnopqrstuvwxyz0123456789",
    "github fine": "github_pat_" + "11ABCDEFG0abcdefghijkl_mnopqrstuv",
    "gitlab": "glpat-" + "abcdefghij0123456789",
    "slack": "xoxb-" + "123456789012-abcdefghijkl",
    "google": "AIza" + "SyA1234567890abcdefghijklmnopqrstuv",
    "pem": "-----BEGIN RSA PRIVATE" + " KEY-----\nMIIEpAIBAAKCAQEA",
    "url": "https://user:" + "hunter2@db.example.com/x",
    "url without user": "redis://:" + "hunter2@cache:6379/0",
    "url with token": "https://" + "0123456789abcdef@sentry.example.com/1",
}
"""One of each shape that is known."""

MARK = "zq7-nobodys-business"
"""Free text that no pattern knows for a secret: it may only leave in an attribute that the schema allows."""


class Animal(StrEnum):
    CAT = "c"


class Number(IntEnum):
    ONE = 1


TEXT = st.text(st.characters(exclude_categories=()), max_size=20) | st.sampled_from(
    ["", "\0", "a\0b", "\ud800", "x\udfff", "é" * 300, "x" * 257, "x" * 513, "x" * 100_000]
)
KEYS = st.sampled_from([*BY_KEY, *CURRENT_KEY, "http.target", "http.url", "net.peer.ip", "db.statement"]) | TEXT
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([1 << 63, -(1 << 63), (1 << 63) - 1, 10**400])
    | st.floats()
    | TEXT
    | st.binary(max_size=8)
    | st.sampled_from([Animal.CAT, Number.ONE, object(), 1j])
)
VALUES = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(TEXT, SCALARS, max_size=2)
BAGS = st.dictionaries(KEYS, VALUES, max_size=12)
FITTING = st.fixed_dictionaries({}, optional={a.key: st.just(a.example) for a in ATTRIBUTES})
TRACESTATES = st.sampled_from(
    [None, TraceState(), TraceState([("vendor", MARK)]), TraceState([("a", "b"), ("c", "d")])]
)
IDS = st.integers(1, (1 << 64) - 1)


@st.composite
def contexts(draw: st.DrawFn, valid: bool = True) -> SpanContext:
    low = 1 if valid else 0
    return SpanContext(
        draw(st.integers(low, (1 << 128) - 1)),
        draw(st.integers(low, (1 << 64) - 1)),
        draw(st.booleans()),
        TraceFlags(draw(st.integers(0, 255))),
        draw(TRACESTATES),
    )


EVENTS = st.builds(
    Event,
    TEXT | st.sampled_from([*UsageEvent, "exception"]),
    BAGS | FITTING,
    st.integers(0, (1 << 63) - 1),
)
RESOURCES = BAGS.map(lambda bag: Resource({k: v for k, v in bag.items() if isinstance(v, str | bool | int | float)}))
STATUSES = st.sampled_from(
    [Status(), Status(StatusCode.OK), Status(StatusCode.ERROR), Status(StatusCode.ERROR, f"went wrong: {MARK}")]
)


@st.composite
def raw_spans(draw: st.DrawFn) -> ReadableSpan:
    return ReadableSpan(
        draw(TEXT),
        context=draw(contexts()),
        parent=draw(st.none() | contexts(valid=False)),
        resource=draw(RESOURCES),
        attributes={**draw(FITTING), **draw(BAGS)},
        events=draw(st.lists(EVENTS, max_size=3)),
        links=[Link(context, {MARK: MARK}) for context in draw(st.lists(contexts(valid=False), max_size=2))],
        kind=draw(st.sampled_from(SpanKind)),
        status=draw(STATUSES),
        start_time=draw(st.integers(0, (1 << 63) - 1)),
        end_time=draw(st.integers(0, (1 << 63) - 1)),
        instrumentation_scope=draw(
            st.none() | st.just(InstrumentationScope(MARK, MARK, f"https://{MARK}", {MARK: MARK}))
        ),
    )


class Taken(SpanProcessor):
    """The stage behind the allowlist: keeps what it is handed."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.spans.append(span)


def let_out(*spans: ReadableSpan, **settings: Any) -> tuple[list[ReadableSpan], dict[str, int]]:
    """What the allowlist hands on, and what it counted as dropped. No error of its own happened."""
    before = internal_errors()
    taken, drops = Taken(), DropCounter()
    allowlist = AllowlistSpanProcessor(taken, drops=drops, **settings)
    for span in spans:
        allowlist.on_end(span)
    assert internal_errors() == before
    return taken.spans, drops.counts()


def on_the_wire(spans: Sequence[ReadableSpan]) -> bytes:
    """The bytes of the official encoder, once it is certain that the schema allows everything in them."""
    body: bytes = encode_spans(spans).SerializeToString()
    request = ExportTraceServiceRequest.FromString(body)
    count = 0
    for resource_spans in request.resource_spans:
        assert_allowed(RESOURCE, resource_spans.resource.attributes)
        assert resource_spans.schema_url == SCHEMA_URL
        for scope_spans in resource_spans.scope_spans:
            assert scope_spans.scope.name == "otel_usage"
            assert not scope_spans.scope.attributes
            assert scope_spans.schema_url == SCHEMA_URL
            for span in scope_spans.spans:
                count += 1
                assert_span_allowed(span)
    assert count == len(spans)
    assert MARK.encode() not in body
    return body


def is_usage(kind: SpanKind, attributes: Mapping[str, Any]) -> bool:
    return kind in (SpanKind.SERVER, SpanKind.CLIENT) or attributes.get("usage.kind") in list(RecordKind)


def assert_span_allowed(span: Any) -> None:
    kind = next(pair.value.string_value for pair in span.attributes if pair.key == "usage.kind")
    attributes = assert_allowed(RecordKind(kind), span.attributes)
    assert span.name in made_names(attributes)
    assert span.trace_state == ""
    assert span.status.message == ""
    for event in span.events:
        assert_allowed(UsageEvent(event.name), event.attributes)
    for link in span.links:
        assert any(link.trace_id)
        assert any(link.span_id)
        assert link.trace_state == ""
        assert not link.attributes


def made_names(attributes: Mapping[str, Any]) -> set[str]:
    parts = [attributes.get("http.request.method"), attributes.get("http.route") or attributes.get("server.address")]
    return {" ".join(part for part in parts if part) or attributes["usage.kind"]}


def assert_allowed(place: str, pairs: Sequence[KeyValue]) -> dict[str, Any]:
    found = {}
    for pair in pairs:
        attribute = allowed_on(place)[pair.key]
        value = getattr(pair.value, pair.value.WhichOneof("value"))
        assert pair.value.WhichOneof("value") == {"boolean": "bool_value"}.get(
            attribute.type, f"{attribute.type}_value"
        )
        if not (isinstance(value, str) and REDACTED in value):
            assert attribute.accept(value) == value or (isinstance(value, float) and math.isnan(value))
        found[pair.key] = value
    return found


# -- spans of others ---------------------------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.lists(raw_spans(), max_size=3))
def test_whatever_goes_in_nothing_outside_the_schema_comes_out(spans: list[ReadableSpan]) -> None:
    out, dropped = let_out(*spans)
    on_the_wire(out)
    assert not {pair for span in out for pair in span.attributes or {}} & PERSONAL_KEYS
    usage_spans = [span for span in spans if is_usage(span.kind, span.attributes or {})]
    assert dropped.get("span:not_usage", 0) >= len(spans) - len(usage_spans)
    assert [(span.context.trace_id, span.context.span_id) for span in out] == [
        (span.context.trace_id, span.context.span_id) for span in usage_spans
    ]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(
    bag=BAGS,
    event=st.dictionaries(st.text(min_size=1, max_size=10), st.text(max_size=10), max_size=3),
    kind=st.sampled_from(SpanKind),
    name=st.text(max_size=30),
)
@pytest.mark.filterwarnings("ignore")
def test_the_same_holds_for_spans_that_a_provider_made(
    bag: dict[str, Any], event: dict[str, Any], kind: SpanKind, name: str
) -> None:
    taken = Taken()
    provider = TracerProvider(resource=Resource({"service.name": "gateway", MARK: MARK}), shutdown_on_exit=False)
    provider.add_span_processor(AllowlistSpanProcessor(taken))
    tracer = provider.get_tracer(MARK, MARK, attributes={MARK: MARK})
    link = Link(SpanContext(1, 2, True, TraceFlags(1), TraceState([("vendor", MARK)])), {MARK: MARK})
    plain = {key: value for key, value in bag.items() if isinstance(value, str | bool | int | float)}
    with suppress(ValueError), tracer.start_as_current_span(name + MARK, kind=kind, links=[link]) as span:
        for key, value in plain.items():
            span.set_attribute(key, value)
        span.add_event(MARK, event)
        span.add_event(UsageEvent.METER, {"usage.quantity": 3, MARK: MARK})
        raise ValueError(MARK)  # recorded as an event, with its message and a stack trace
    assert len(taken.spans) == is_usage(kind, plain)
    on_the_wire(taken.spans)
    for out in taken.spans:
        assert [one.name for one in out.events] == [UsageEvent.METER]
        assert out.status.status_code is StatusCode.ERROR
    provider.shutdown()


def planted(secret: str) -> ReadableSpan:
    """A span with the secret in every field that can hold one."""
    everywhere = {a.key: f"x {secret}" for a in ATTRIBUTES} | dict.fromkeys(CURRENT_KEY, secret)
    everywhere |= {"authorization": secret, secret: secret, "http.url": secret}
    bag = {**everywhere, "usage.kind": "request"}
    context = SpanContext(1, 2, False, TraceFlags(1), TraceState([("vendor", "s3cret-in-tracestate")]))
    return ReadableSpan(
        secret,
        context=context,
        parent=context,
        resource=Resource(everywhere, secret),
        attributes=bag,
        events=[Event(secret, everywhere, 1), *(Event(name, everywhere, 1) for name in UsageEvent)],
        links=[Link(context, everywhere)],
        kind=SpanKind.SERVER,
        status=Status(StatusCode.ERROR, secret),
        start_time=1,
        end_time=2,
        instrumentation_scope=InstrumentationScope(secret, secret, secret, {secret: secret}),
    )


def visible(secret: str) -> list[bytes]:
    """What would give the secret away: itself, and the part of it that is the password or the key."""
    return [part.encode() for part in {secret, secret.rpartition(" ")[2], "hunter2", "0123456789abcdef@"}]


@pytest.mark.parametrize("shape", SECRETS)
@pytest.mark.parametrize("around", ["{}", "key={}", "my_{}", '{{"k":"{}"}}', "a {} b"])
def test_a_secret_in_any_field_of_a_span_is_in_no_byte_on_the_wire(shape: str, around: str) -> None:
    secret = around.format(SECRETS[shape])
    out, dropped = let_out(planted(secret), personal=PERSONAL_KEYS)
    body = on_the_wire(out)
    assert all(part not in body for part in visible(SECRETS[shape]))
    assert b"s3cret-in-tracestate" not in body
    if "\n" in secret:  # which no attribute may hold
        assert dropped["usage.customer.id"] > 1
        return
    assert b"usage.customer.id" in body  # it was looked at, and what it held was redacted
    assert REDACTED.encode() in body
    assert dropped["redacted:usage.customer.id"] == 1


@pytest.mark.parametrize("shape", SECRETS)
def test_what_looks_like_a_secret_is_taken_out_and_the_rest_is_left(shape: str) -> None:
    redacted = redact(f"before {SECRETS[shape]}")
    assert redacted.startswith("before ")
    assert REDACTED in redacted


@pytest.mark.parametrize(
    "text",
    [
        "/v1/items/{id}", "api.example.com", "acme", "k1:3f2a9c7711aa00ff3f2a9c7711aa00ff", "order-17-retry-2",
        "8f14e45fceea167a5a36dedd4bea2543", "gpt-5", "https://example.com/docs?page=2", "task-list",
        "Mozilla/5.0 (X11; Linux x86_64)", "basic plan", "risk-assessment-of-the-portfolio",
    ],
)  # fmt: skip
def test_what_is_no_secret_is_left_alone(text: str) -> None:
    assert redact(text) is text


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=100) | st.sampled_from(sorted(SECRETS.values())))
def test_redacting_twice_is_redacting_once(text: str) -> None:
    assert redact(redact(text)) == redact(text)


OLD_KEYS = {"http.method": "GET", "http.status_code": 200, "net.peer.name": "api.example.com"}
NEW_KEYS = {"http.request.method": "GET", "http.response.status_code": 200, "server.address": "api.example.com"}


def span_of(kind: SpanKind, attributes: Mapping[str, Any], **fields: Any) -> ReadableSpan:
    return ReadableSpan(
        "name", context=SpanContext(1, 2, False), kind=kind, attributes=attributes, start_time=1, end_time=2, **fields
    )


def test_keys_of_older_conventions_are_mapped_to_the_current_ones() -> None:
    ((out,), dropped) = let_out(span_of(SpanKind.CLIENT, OLD_KEYS))
    assert out.attributes == {"usage.kind": "upstream", **NEW_KEYS}
    assert dropped == {}


def test_a_current_key_goes_before_its_former_one_in_any_order() -> None:
    for attributes in (
        {**OLD_KEYS, **NEW_KEYS},
        {**NEW_KEYS, **OLD_KEYS, "net.peer.name": "old", "http.method": "PUT"},
    ):
        ((out,), _) = let_out(span_of(SpanKind.CLIENT, attributes))
        assert out.attributes == {"usage.kind": "upstream", **NEW_KEYS}


@pytest.mark.parametrize("order", [1, -1])
def test_of_several_former_keys_the_schemas_first_is_taken(order: int) -> None:
    former = [("net.peer.name", "peer"), ("net.host.name", "host"), ("http.server_name", "server"), ("http.host", "h")]
    ((out,), _) = let_out(span_of(SpanKind.CLIENT, dict(former[::order])))
    assert (out.attributes or {})["server.address"] == "peer"


def test_on_a_servers_span_the_peers_name_is_the_clients_and_does_not_leave() -> None:
    ((out,), _) = let_out(span_of(SpanKind.SERVER, {"net.peer.name": "laptop-of-jane.example.com"}))
    assert out.attributes == {"usage.kind": "request"}
    named = {"net.peer.name": "laptop-of-jane.example.com", "http.host": "API.example.com:8443"}
    ((out,), _) = let_out(span_of(SpanKind.SERVER, named))
    assert (out.attributes or {})["server.address"] == "api.example.com"


def test_personal_attributes_leave_only_where_they_were_named() -> None:
    person = {key: BY_KEY[key].example for key in PERSONAL_KEYS}
    ((out,), dropped) = let_out(span_of(SpanKind.SERVER, person))
    assert out.attributes == {"usage.kind": "request"}
    assert dropped == dict.fromkeys(PERSONAL_KEYS, 1)
    ((out,), dropped) = let_out(span_of(SpanKind.SERVER, person), personal=frozenset({"client.address"}))
    assert out.attributes == {"usage.kind": "request", "client.address": person["client.address"]}
    assert dropped == dict.fromkeys(PERSONAL_KEYS - {"client.address"}, 1)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("http.response.status_code", True),
        ("http.response.status_code", "200"),
        ("http.response.status_code", 1 << 63),
        ("usage.aborted", 1),
        ("usage.quantity", False),
        ("usage.tier", 2.0),
        ("http.route", "x" * 257),
        ("http.route", b"/v1"),
        ("http.route", ["/v1"]),
        ("http.route", "\ud800"),
        ("db.statement", MARK),
        ("_unknown", MARK),
    ],
)
def test_what_is_dropped_is_counted_by_its_key_and_never_by_its_value(key: str, value: object) -> None:
    ((out,), dropped) = let_out(span_of(SpanKind.SERVER, {key: value}))
    assert out.attributes == {"usage.kind": "request"}
    assert dropped == {key: 1}


FREE_TEXT = {
    "http.route": f"/users/4711/{MARK}?token=abc",
    "server.address": f"https://h.example.com/users/{MARK}",
    "error.type": f"could not find user {MARK} in /home/ann",
    "usage.reason": f"free text about {MARK}",
    "usage.auth.kind": f"free text {MARK}",
    "usage.identity.provenance": MARK,
    "usage.principal.id": MARK,
    "usage.cache.tier": MARK,
    "usage.user_agent.hash": MARK,
}
"""What a key takes by its type and length alone, and what nobody means by it."""


@pytest.mark.parametrize("key", FREE_TEXT)
def test_free_text_in_the_place_of_a_fact_is_dropped_and_counted(key: str) -> None:
    ((out,), dropped) = let_out(span_of(SpanKind.SERVER, {key: FREE_TEXT[key]}))
    assert out.attributes == {"usage.kind": "request"}
    assert out.name == "request"
    assert dropped == {key: 1}
    on_the_wire([out])


@pytest.mark.parametrize("key", ["http.request.method", "http.method"])
@pytest.mark.parametrize(("sent", "kept"), [("get", "GET"), ("POST", "POST"), ("SECRETWORD", "_OTHER"), ("", "_OTHER")])
def test_a_method_is_a_known_one_or_other(key: str, sent: str, kept: str) -> None:
    ((out,), dropped) = let_out(span_of(SpanKind.SERVER, {key: sent}))
    assert out.attributes == {"usage.kind": "request", "http.request.method": kept}
    assert dropped == {}


@pytest.mark.parametrize("key", ["server.address", "http.host", "net.host.name"])
@pytest.mark.parametrize(
    ("said", "kept"),
    [("127.0.0.1:8000", "127.0.0.1"), ("API.example.com:8443", "api.example.com"), ("[::1]:80", "::1"), ("::1", "::1")],
)
def test_a_host_leaves_without_its_port(key: str, said: str, kept: str) -> None:
    ((out,), dropped) = let_out(span_of(SpanKind.SERVER, {key: said}))
    assert out.attributes == {"usage.kind": "request", "server.address": kept}
    assert dropped == {}


def test_a_hostile_number_of_keys_fills_no_memory() -> None:
    bags: list[dict[str, Any]] = [{f"{n}-{m}" * 50: 1 for m in range(100)} for n in range(20)]
    _, dropped = let_out(*(span_of(SpanKind.SERVER, bag) for bag in bags))
    assert sum(dropped.values()) == 2000
    assert len(dropped) <= DropCounter.LIMIT + 1
    assert max(map(len, dropped)) <= 64


def test_a_span_without_ids_goes_no_further_and_is_counted() -> None:
    for context in (None, SpanContext(0, 0, False), SpanContext(1, 0, False), SpanContext(1 << 128, 1, False)):
        out, dropped = let_out(ReadableSpan("name", context=context, kind=SpanKind.SERVER))
        assert out == []
        assert dropped == {"span:without_ids": 1}


def test_a_downstream_that_raises_does_not_reach_the_application() -> None:
    class Broken(SpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            raise RuntimeError("not the application's business")

    AllowlistSpanProcessor(Broken()).on_end(span_of(SpanKind.SERVER, {}))
    assert internal_errors()["processors.allowlist.AllowlistSpanProcessor.on_end"] >= 1


# -- spans of our own --------------------------------------------------------------------------------------------------


class Wire:
    """What leaves: the bytes that the encoder makes, and the spans in them."""

    def __init__(self, made: Sequence[ReadableSpan], drops: DropCounter) -> None:
        prepared = Encoder(Redactor(drops))(made)
        assert prepared.unencodable == 0
        assert isinstance(prepared.payload, EncodedPayload)
        assert prepared.payload.count == len(made)
        self.body = prepared.payload.request
        self.request = ExportTraceServiceRequest.FromString(self.body)

    @property
    def names(self) -> list[str]:
        return [
            span.name
            for resource in self.request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


@contextmanager
def recording() -> Iterator[list[ReadableSpan]]:
    """Records without a pipeline: the spans that the recorder made."""
    made: list[ReadableSpan] = []
    config = UsageConfig(key_pepper="k1:0123456789abcdef0123456789abcdef")
    resource = Resource({"service.name": "gateway"}, SCHEMA_URL)
    drops = DropCounter()
    activate(
        Recorder(
            config,
            resource,
            lambda recorded: made.append(finished(recorded)),  # type: ignore[arg-type]  # it can become one
            drops=drops,
            status=lambda: "ok",
            start=int,
            flush=int,
            deliver=int,
            waiting=bool,
        )
    )
    try:
        yield made
    finally:
        activate(None)


def sent(made: Sequence[ReadableSpan]) -> Wire:
    wire = Wire(made, DropCounter())
    for resource_spans in wire.request.resource_spans:
        assert_allowed(RESOURCE, resource_spans.resource.attributes)
        for span in resource_spans.scope_spans[0].spans:
            kind = next(pair.value.string_value for pair in span.attributes if pair.key == "usage.kind")
            assert_allowed(RecordKind(kind), span.attributes)
            for event in span.events:
                assert_allowed(UsageEvent(event.name), event.attributes)
            assert (span.trace_state, span.status.message, len(span.links)) == ("", "", 0)
            assert len(span.name) <= NAME_CAP
    return wire


WORDS = TEXT | st.none() | st.integers() | st.sampled_from(["anon", "jwt", "verified", "unavailable", "fast"])


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(name=TEXT, bag=BAGS, events=st.lists(st.tuples(st.sampled_from(UsageEvent), BAGS), max_size=3), data=st.data())
def test_whatever_is_recorded_by_hand_nothing_outside_the_schema_leaves(
    name: str, bag: dict[str, Any], events: list[tuple[str, dict[str, Any]]], data: st.DataObject
) -> None:
    bag.pop("usage.kind", None)
    before = internal_errors()
    with recording() as made:
        with usage.usage_span(name, quantity=3, unit="page") as span:
            usage.identify(customer_id=data.draw(TEXT), tier=data.draw(st.integers()), principal=data.draw(TEXT))
            span.set_attributes(bag)
            for event, facts in events:
                span.add_event(event, facts)
            span.set_status(StatusCode.ERROR, MARK)
            span.record_exception(ValueError(MARK))
            usage.meter(data.draw(TEXT), 3, unit=data.draw(TEXT))
            usage.annotate(cache_tier=data.draw(TEXT), domain=data.draw(TEXT))
            usage.record_llm(data.draw(TEXT), data.draw(TEXT), input_tokens=data.draw(st.integers()))
        assert len(made) == 2
        assert internal_errors() == before
        wire = sent(made)
    assert len(wire.names) == 2
    assert MARK.encode() not in wire.body


@pytest.mark.parametrize("shape", SECRETS)
@pytest.mark.parametrize("around", ["{}", "my_{}", "a {} b"])
def test_a_secret_that_is_recorded_by_hand_is_in_no_byte_on_the_wire(shape: str, around: str) -> None:
    secret = around.format(SECRETS[shape])
    with recording() as made:
        with usage.usage_span(secret, unit=secret) as span:
            usage.identify(customer_id=secret, plan=secret, auth_kind=secret, principal=secret)
            span.set_attributes({**{a.key: secret for a in ATTRIBUTES}, secret: secret, "usage.kind": "custom"})
            span.update_name(f"again {secret}")
            span.set_status(Status(StatusCode.ERROR, secret))
            span.record_exception(ValueError(secret), {"x": secret})
            span.add_link(SpanContext(1, 2, True, TraceFlags(1), TraceState([("v", "s3cret")])), {"x": secret})
            for event in UsageEvent:
                span.add_event(event, {a.key: secret for a in ATTRIBUTES})
            usage.record_cache(secret, secret, status="fresh")
            usage.record_limit(secret, "deny")
            usage.record_llm(secret, secret, stage=secret)
        wire = sent(made)
    assert all(part not in wire.body for part in visible(SECRETS[shape]))
    assert (REDACTED.encode() in wire.body) is ("\n" not in secret)  # a line feed is in no attribute
    assert b"s3cret" not in wire.body


@pytest.mark.parametrize("key", FREE_TEXT)
def test_free_text_that_is_recorded_by_hand_is_dropped_and_counted(key: str) -> None:
    with recording() as made:
        with usage.usage_span("work") as span:
            span.set_attribute(key, FREE_TEXT[key])
        assert MARK.encode() not in sent(made).body


def test_a_raw_credential_in_the_place_of_its_hash_does_not_leave() -> None:
    with recording() as made:
        with usage.usage_span("work"):
            usage.identify(usage.UsageIdentity(customer_id="acme", auth_kind="user_api_key", principal_id=MARK))
        attributes = made[0].attributes or {}
        assert attributes["usage.customer.id"] == "acme"
        assert "usage.principal.id" not in attributes
        assert MARK.encode() not in sent(made).body


def test_what_does_not_leave_as_a_route_is_not_in_the_requests_name_either() -> None:
    with recording() as made:
        recorder = active()
        assert recorder is not None
        request = UsageRequest(recorder, "GET", {}, None, {})
        request.matched(f"/{MARK}?token=abc")
        request.response_started(200, None)
        request.complete = True
        request.close()
        assert made[0].name == "GET"
        assert MARK.encode() not in sent(made).body


def test_an_event_of_our_own_span_that_the_schema_does_not_know_is_dropped() -> None:
    with recording() as made:
        with usage.usage_span("work") as span:
            span.add_event(f"user said {MARK}", {MARK: MARK})
            span.add_event(UsageEvent.METER, {"usage.quantity": 1.0})
        assert [event.name for event in made[0].events] == [UsageEvent.METER]


def test_a_span_of_our_own_cannot_pass_for_another_kind() -> None:
    with recording() as made:
        with usage.usage_span("work") as span:
            span.set_attribute("usage.kind", "request")
        assert (made[0].attributes or {})["usage.kind"] == "custom"


@pytest.mark.parametrize("name", ["x" * (NAME_CAP + 1), "\ud800", None, 7, b"bytes"])
def test_a_name_that_cannot_leave_is_replaced_by_the_kind_and_the_span_is_not_lost(name: Any) -> None:
    drops = DropCounter()
    with recording() as made:
        with usage.usage_span(name):
            pass
        wire = Wire(made, drops)
    assert wire.names == ["custom"]
    assert drops.counts() == {"span:name": 1}


# -- over a socket -----------------------------------------------------------------------------------------------------


class Bodies:
    """A receiver on a real socket that also keeps the bytes it was sent, without their compression."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self._receiver = Receiver()
        self._lock = threading.Lock()

    def __call__(self, request: Request) -> Response:
        with self._lock:
            self.received.append(decompress(request.body or b"", request.header("Content-Encoding"), 1 << 24))
        return self._receiver.handle(request).response


def test_no_secret_is_in_the_bytes_that_cross_the_socket() -> None:
    bodies = Bodies()
    with HttpServer(bodies) as server:
        delivery = CircuitBreakingSpanProcessor(
            OtlpHttpExporter(f"{server.url}/v1/traces", {}, 5.0), schedule_delay=3600.0
        )
        allowlist = AllowlistSpanProcessor(delivery, personal=PERSONAL_KEYS)
        for secret in SECRETS.values():
            allowlist.on_end(planted(secret))
        assert allowlist.force_flush(5000)
        assert delivery.ledger().accepted == len(SECRETS)
        allowlist.shutdown()
    body = b"".join(bodies.received)
    assert REDACTED.encode() in body
    for secret in SECRETS.values():
        assert all(part not in body for part in visible(secret))


def test_no_secret_reaches_the_sink_through_the_whole_pipeline(stub: AxiomStub, switch_on: Any) -> None:
    switch_on()
    for secret in SECRETS.values():
        with usage.usage_span(secret, unit=secret) as span:
            usage.identify(customer_id=secret, plan=secret, principal=secret)
            span.set_attribute("usage.provider", secret)
    assert usage.flush(5.0).accepted == len(SECRETS)
    everything = repr(stub.spans).encode() + TOKEN.encode()
    for secret in SECRETS.values():
        assert all(part not in everything for part in visible(secret))
    assert usage.health().attributes_dropped["usage.provider"] == len(SECRETS)
