"""What our encoder writes is what OpenTelemetry's own writes, whatever it is given; and no span costs another."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable, Sequence
from enum import Enum, IntEnum, StrEnum
from typing import Any, NamedTuple

import pytest
from google.protobuf.internal.encoder import _VarintBytes
from google.protobuf.unknown_fields import UnknownFieldSet
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, TraceFlags, TraceState

from otel_usage import distinct
from otel_usage.config import UsageConfig
from otel_usage.exporters import span_writer, wire
from otel_usage.exporters.encoder import SLICE, Encoder
from otel_usage.exporters.outcome import Accepted, ForeignExporter
from otel_usage.exporters.redacting import Redactor
from otel_usage.exporters.span_writer import COUNTED, OWN
from otel_usage.facts import Facts, ModelFacts, RequestFacts, UpstreamFacts, WorkFacts
from otel_usage.forms import IDENTIFIER
from otel_usage.guard import internal_errors
from otel_usage.identity import UsageIdentity
from otel_usage.ledger import DropCounter
from otel_usage.maker import SpanMaker
from otel_usage.payload import EncodedPayload
from otel_usage.readable import Recorded, T, UsageReadableSpan
from otel_usage.redaction import redact
from otel_usage.schema import (
    ATTRIBUTES,
    AUTH_KINDS,
    CACHE_STATUSES,
    HTTP_METHODS,
    ORIGIN_KINDS,
    PROVENANCES,
    REASONS,
    SCHEMA_URL,
    RecordKind,
    UsageEvent,
    ValueType,
    allowed_on,
)
from otel_usage.status import EncoderHealth
from tests.property.test_allowlist import BAGS, EVENTS, RESOURCES, SECRETS, STATUSES, TEXT, contexts

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
RESOURCE = Resource({"service.name": "gateway", "service.version": "1"}, SCHEMA_URL)
CONFIG = UsageConfig(providers={"*.bank.example": "bank"})


# -- what was written, as something that can be compared ---------------------------------------------------------------


def told(message: Any) -> Any:
    """A message as plain values. Attributes are a mapping, which has no order (OpenTelemetry specification,
    "Attribute Collections"), of keys that are there once; a value is its bytes, in which NaN is equal to itself.
    """
    assert len(UnknownFieldSet(message)) == 0
    found: dict[str, Any] = {}
    for field, value in message.ListFields():
        if field.name == "attributes":
            pairs = {pair.key: pair.value.SerializeToString() for pair in value}
            assert len(pairs) == len(value), "a key is there twice"
            found[field.name] = pairs
        elif field.message_type is None:
            found[field.name] = value
        else:
            repeated = not hasattr(value, "ListFields")
            found[field.name] = [told(one) for one in value] if repeated else told(value)
    return found


def by_id(request: ExportTraceServiceRequest) -> dict[bytes, Any]:
    """Each span, with the resource and scope that it stands under. How many share a message is nobody's business."""
    found = {}
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            around = told(resource.resource), resource.schema_url, told(scope.scope), scope.schema_url
            for span in scope.spans:
                assert span.span_id not in found
                found[span.span_id] = (*around, told(span))
    return found


def ours(encoder: Encoder, spans: Sequence[ReadableSpan | Recorded]) -> dict[bytes, Any]:
    before = internal_errors()
    prepared = encoder(spans)
    if prepared.payload is None:
        assert prepared.unencodable == len(spans)
        return {}
    assert isinstance(prepared.payload, EncodedPayload)
    found = by_id(ExportTraceServiceRequest.FromString(prepared.payload.request))
    assert len(found) == prepared.payload.count == len(spans) - prepared.unencodable
    assert internal_errors().keys() - before.keys() <= {"exporters.encoder.redacted", "readable.finished"}
    return found


def theirs(redactor: Redactor, spans: Iterable[ReadableSpan]) -> dict[bytes, Any]:
    """Those that the official encoder can write, each by itself."""
    found: dict[bytes, Any] = {}
    for span in spans:
        try:
            body = encode_spans([redactor.span(span)]).SerializeToString()
        except Exception:
            continue
        found |= by_id(ExportTraceServiceRequest.FromString(body))
    return found


# -- usage spans -------------------------------------------------------------------------------------------------------


class Draft(NamedTuple):
    """A usage span without its maker: it is made twice."""

    facts: Facts
    identity: UsageIdentity
    own: dict[str, Any]
    trace_id: bytes
    parent_id: bytes
    started: int
    ended: int
    made_id: str | None
    recorded: tuple[tuple[int, str, dict[str, Any]], ...]
    link: Link | None
    remote: bool

    def span(self, maker: SpanMaker, number: int) -> UsageReadableSpan:
        return UsageReadableSpan(
            maker, self.facts, self.identity, dict(self.own), self.trace_id, (number + 1).to_bytes(8), self.parent_id,
            self.started, self.ended, self.made_id, self.recorded, self.link, self.remote and bool(self.parent_id),
        )  # fmt: skip


class Colour(Enum):
    RED = "red"


class Word(str, Enum):  # noqa: UP042  # what applications had before StrEnum, which is not one
    ACME = "acme"


class Plan(StrEnum):
    PRO = "pro"


class Level(IntEnum):
    ONE = 1


SECRET = st.sampled_from([*SECRETS.values(), "jane.doe@example.com"])
WORDS = TEXT | SECRET | st.sampled_from(["acme", "quote", "ümlaut", "日本", "a\tb", "x" * 128, "x" * 16_400, "\u202e"])
OPTIONAL = st.none() | WORDS
FLAGS = st.booleans()
ROUTES = st.none() | st.sampled_from(["/", "/v1/items/{id}", "/api/v2/é", "/x?token=abc", "x" * 300]) | WORDS
HOSTS = st.none() | st.sampled_from(["api.bank.example", "LOCALHOST:80", "[::1]:8000", "a" * 300, "a b"]) | WORDS
STATUS = st.none() | st.sampled_from([200, 304, 404, 499, 500, 599, 0, -1, (1 << 63) - 1, 1 << 63])
ERRORS = st.none() | st.sampled_from(["ValueError", "shop.load.<locals>.Missing", "no class"]) | WORDS


def pairs(keys: Iterable[str], values: st.SearchStrategy[str]) -> st.SearchStrategy[tuple[tuple[str, str], ...]]:
    return st.dictionaries(st.sampled_from(sorted(keys)), values, max_size=3).map(lambda found: tuple(found.items()))


PLACES = pairs(
    {"geo.country.iso_code", "geo.region.iso_code", "geo.locality.name", "cloud.region", "usage.execution.plane"},
    WORDS | st.sampled_from(["DE", "DE-BE", "fra1"]),
)
ANNOTATIONS = pairs(
    {"usage.cache.tier", "usage.origin.kind", "usage.domain"}, WORDS | st.sampled_from(["fast", *ORIGIN_KINDS])
)
REQUESTS = st.builds(
    RequestFacts,
    st.sampled_from([*HTTP_METHODS, "_OTHER"]) | WORDS,
    ROUTES, FLAGS, FLAGS, STATUS, FLAGS, FLAGS, ERRORS, FLAGS,
    st.none() | st.sampled_from(REASONS) | WORDS,
    HOSTS,
    st.none() | st.sampled_from(["https://api.bank.example", "null"]) | WORDS,
    st.none() | st.sampled_from(["no-store", "public, s-maxage=60", "max-age=abc"]) | WORDS,
    PLACES, ANNOTATIONS,
)  # fmt: skip
UPSTREAM = st.builds(
    UpstreamFacts,
    st.none() | st.sampled_from(["GET", "get", "BREW"]) | WORDS,
    HOSTS, OPTIONAL, OPTIONAL, st.none() | st.sampled_from(CACHE_STATUSES) | WORDS, STATUS, FLAGS, ERRORS,
    st.integers(0, (1 << 63) - 1), ROUTES,
)  # fmt: skip
MODELS = st.builds(ModelFacts, OPTIONAL, OPTIONAL, OPTIONAL, st.none() | st.sampled_from(REASONS) | WORDS, ROUTES)
WORK: st.SearchStrategy[Any] = st.builds(
    WorkFacts, WORDS | st.sampled_from([None, 7, b"bytes", ["list"]]), FLAGS, ROUTES
)

FACTS = REQUESTS | UPSTREAM | MODELS | WORK
IDENTITIES = st.just(UsageIdentity()) | st.builds(
    UsageIdentity,
    customer_id=OPTIONAL | st.sampled_from(["acme", Word.ACME, Plan.PRO, 1, True, 1.0, ["unhashable"]]),
    tier=st.sampled_from([None, 0, 2, "3", -1, True, Level.ONE, 10**9, 2.5, "gold"]),
    plan=OPTIONAL | st.sampled_from([Word.ACME, Plan.PRO, 7]),
    auth_kind=st.none() | st.sampled_from([*AUTH_KINDS, "partner_key", Plan.PRO]) | WORDS,
    principal_id=OPTIONAL | st.just("k1:" + "0f" * 16),
    provenance=st.sampled_from([*PROVENANCES, "certain", 7]),
)

INTEGERS = st.sampled_from([0, 1, 127, 128, 4095, 4096, (1 << 31) - 1, 1 << 32, (1 << 63) - 1, 1 << 63, -1, -(1 << 63)])
DOUBLES = st.floats() | st.sampled_from([math.nan, math.inf, -math.inf, 0.0, -0.0, 1e308, 5e-324])
VALUES = (
    INTEGERS | DOUBLES | WORDS | st.integers(0, (1 << 63) - 1)
    | st.sampled_from([None, True, False, Plan.PRO, Word.ACME, Level.ONE, Colour.RED, b"bytes", [1], {"a": 1}, 1j])
)  # fmt: skip
FOREIGN = st.sampled_from(["secret.key", "http.route", "usage.customer.id", "usage.kind", "", "ключ"])
TIMES = st.integers(0, (1 << 64) - 1) | st.just(1_700_000_000_000_000_000)
IDS = st.binary(min_size=8, max_size=8)


def fitting(place: str, keys: Iterable[str]) -> st.SearchStrategy[dict[str, Any]]:
    """Attributes of these keys, with what the schema's example is, and with anything; what is counted here, and said by
    nobody, with any number of its type.
    """
    of, numbers = allowed_on(place), {ValueType.INT: INTEGERS, ValueType.DOUBLE: DOUBLES}
    values = {key: numbers[of[key].type] if key in COUNTED else VALUES for key in keys}
    return st.fixed_dictionaries({}, optional={key: st.just(of[key].example) | values[key] for key in sorted(keys)})


def own_of(kind: RecordKind) -> st.SearchStrategy[dict[str, Any]]:
    keys = allowed_on(kind).keys() if kind is RecordKind.CUSTOM else allowed_on(kind).keys() & OWN
    rarely = st.just({}) | st.just({}) | st.just({}) | st.dictionaries(FOREIGN, VALUES, max_size=2)
    return st.tuples(fitting(kind, keys), rarely).map(lambda both: both[0] | both[1])


OWN_OF = {kind: own_of(kind) for kind in RecordKind}
RECORDED = st.tuples(
    TIMES | st.just(1 << 64),
    st.sampled_from([*UsageEvent, "exception"]) | WORDS,
    st.one_of(*(fitting(event, allowed_on(event).keys()) for event in UsageEvent)) | st.dictionaries(FOREIGN, VALUES),
)
LINKS = st.none() | st.builds(
    lambda trace, span, remote, state: Link(SpanContext(trace, span, remote, TraceFlags(1), state)),
    st.integers(1, (1 << 128) - 1),
    st.integers(1, (1 << 64) - 1),
    FLAGS,
    st.sampled_from([None, None, None, TraceState([("vendor", "x")])]),
)


@st.composite
def drafts(draw: st.DrawFn) -> Draft:
    said = draw(FACTS)
    made = draw(st.none() | st.binary(min_size=16, max_size=16))
    own = draw(OWN_OF[said.kind])
    if made is not None:  # an id that was made here is not among the attributes
        own.pop("usage.request.id", None)
    return Draft(
        said,
        draw(IDENTITIES),
        own,
        draw(st.binary(min_size=16, max_size=16)),
        draw(st.just(b"") | IDS),
        draw(TIMES),
        draw(TIMES | st.sampled_from([-1, 1 << 64, None, 1.5])),
        None if made is None else made.hex(),
        tuple(draw(st.lists(RECORDED, max_size=2))),
        draw(LINKS),
        draw(FLAGS),
    )


class Side:
    """One of two equal worlds: a maker whose bounds on different values begin empty, and a count of what is dropped."""

    def __init__(self, email_addresses: bool = False) -> None:
        self.drops = DropCounter()
        self.maker = SpanMaker(CONFIG, RESOURCE, self.drops)
        self.redactor = Redactor(self.drops, email_addresses=email_addresses)

    def spans(self, made_of: Sequence[Draft]) -> list[UsageReadableSpan]:
        return [draft.span(self.maker, number) for number, draft in enumerate(made_of)]


class Both:
    """The same spans, written by both encoders, batch after batch."""

    def __init__(self, email_addresses: bool = False) -> None:
        self.one, self.other = Side(email_addresses), Side(email_addresses)
        self.encoder = Encoder(self.one.redactor)

    def write(self, made_of: Sequence[Draft]) -> None:
        assert ours(self.encoder, self.one.spans(made_of)) == theirs(self.other.redactor, self.other.spans(made_of))
        assert self.one.drops.counts() == self.other.drops.counts()


PLAIN = RequestFacts(
    "GET", "/v1/items/{id}", True, False, 200, True, False, None, False, None, "api.example.com", None, None, (), ()
)
ASKED = ModelFacts("openai", "gpt-5", None, "ok", "/v1/items/{id}")
ACME = UsageIdentity("acme", 2, "pro", "user_api_key", "k1:" + "0f" * 16, "verified")


def draft(facts: Facts = PLAIN, identity: UsageIdentity = ACME, **parts: Any) -> Draft:
    defaults = Draft(facts, identity, {}, b"t" * 16, b"", 1, 2, "0f" * 16, (), None, False)
    return defaults._replace(**parts)


@settings(max_examples=400, deadline=None, suppress_health_check=SLOW)
@given(made_of=st.lists(drafts(), min_size=1, max_size=5), email_addresses=FLAGS)
@example(made_of=[draft(identity=UsageIdentity(Word.ACME, provenance="verified"))] * 2, email_addresses=False)
@example(made_of=[draft(own={"usage.customer.id": "globex", "usage.kind": "llm"})], email_addresses=False)
@example(
    made_of=[draft(ASKED, own={"gen_ai.usage.input_tokens": value}) for value in (1, True, 1.0)], email_addresses=False
)
@example(made_of=[draft(own={"usage.client.request_id": "a@b.example", "x": 1})], email_addresses=False)
def test_every_usage_span_is_written_as_the_official_encoder_writes_it_also_from_what_is_remembered(
    made_of: list[Draft], email_addresses: bool
) -> None:
    both = Both(email_addresses)
    both.write(made_of)
    both.write(made_of)
    both.write(made_of[::-1])


few_facts = st.builds(
    lambda route, host, status, long: PLAIN._replace(
        template=f"/r{route}", host=f"h{host}" if host else None, status=status, origin="o" * 90 if long else None
    ),
    st.integers(0, 4), st.integers(0, 6), st.sampled_from([200, 404]), st.integers(0, 9).map(lambda n: not n),
) | st.builds(
    lambda name, host, way: UpstreamFacts("GET", f"h{host}", f"p{name}", None, None, 200, True, None, 0, f"/r{way}"),
    st.integers(0, 4), st.integers(0, 4), st.integers(0, 4),
) | st.builds(
    lambda model, route: ModelFacts("openai", f"m{model}", None, "ok", f"/r{route}"),
    st.integers(0, 4), st.integers(0, 4),
)  # fmt: skip
few_callers = st.builds(
    lambda customer, kind, provenance, long: UsageIdentity(
        f"c{customer}" if customer else None, 1, "p" * 90 if long else None, kind, provenance=provenance
    ),
    st.integers(0, 5),
    st.sampled_from([None, "jwt", "user_api_key", "partner_a", "partner_b", "anon"]),
    st.sampled_from(PROVENANCES),
    st.integers(0, 9).map(lambda n: not n),
)


def shrink(patch: pytest.MonkeyPatch) -> None:
    """Bounds that a few spans go beyond."""
    patch.setattr(distinct, "_LIMITS", {place: [(key, 3) for key, _ in old] for place, old in distinct._LIMITS.items()})
    for name, limit in {"SHARE": 2, "CLAIMED_LIMIT": 2, "NAMES_LIMIT": 5}.items():
        patch.setattr(distinct, name, limit)
    for name, limit in {"CALLERS_LIMIT": 4, "FACTS_LIMIT": 5, "LONGEST_FACTS": 80, "STANDINGS_LIMIT": 3}.items():
        patch.setattr(span_writer, name, limit)


@settings(max_examples=250, deadline=None, suppress_health_check=SLOW)
@given(batches=st.lists(st.lists(st.tuples(few_facts, few_callers), min_size=1, max_size=20), min_size=1, max_size=4))
def test_so_it_is_when_every_bound_is_reached_and_whatever_was_remembered_is_forgotten(
    batches: list[list[tuple[Facts, UsageIdentity]]],
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch)
        both = Both()
        for batch in batches:
            both.write([draft(facts, identity) for facts, identity in batch])
            writer = both.encoder._writer
            assert writer is not None
            facts = [known for standing in writer._known.values() for known in standing]
            assert len(writer._callers) <= 4
            assert len(writer._known) <= 3
            assert len(facts) <= 5
            assert writer.remembered == len(facts) + len(writer._callers)
            assert both.encoder.health.official == 0


# -- spans of others ---------------------------------------------------------------------------------------------------


SCOPES = [
    None,
    InstrumentationScope("shop"),
    InstrumentationScope("shop", "1.0"),
    InstrumentationScope("shop", "1.0", "https://example.com/schema", {"a": 1, "b": True, "c": "ü", "d": 0.5}),
    InstrumentationScope("listing", attributes={"several": ["a", "b"]}),
    InstrumentationScope(SECRETS["stripe"], SECRETS["jwt"], None, {"x": SECRETS["aws"]}),
    InstrumentationScope("\ud800"),
]
SOME_RESOURCES = [None, Resource({"service.name": "a"}), Resource({"n": 1}), Resource({"n": True}, "https://x.example")]


def bounded(bag: dict[str, Any]) -> BoundedAttributes:
    return BoundedAttributes(1, {key: value for key, value in bag.items() if key}, immutable=False)


@st.composite
def foreign_spans(draw: st.DrawFn) -> ReadableSpan:
    bag = draw(BAGS | st.dictionaries(WORDS, VALUES, max_size=4))
    times = st.integers(0, (1 << 63) - 1) | st.sampled_from([None, -1, 1 << 64])
    link = draw(st.sampled_from([None, None, {}, {"a": 1}, {SECRETS["aws"]: "x"}]))
    return ReadableSpan(
        draw(WORDS),
        context=draw(contexts() | st.none()),
        parent=draw(st.none() | contexts(valid=False)),
        resource=draw(st.sampled_from(SOME_RESOURCES) | RESOURCES),
        attributes=bounded(bag) if draw(st.integers(0, 3)) == 0 else bag,
        events=draw(st.lists(EVENTS | st.builds(Event, WORDS, BAGS.map(bounded), st.integers(0, 1 << 64)), max_size=2)),
        links=[] if link is None else [Link(draw(contexts(valid=False)), link)],
        kind=draw(st.sampled_from(SpanKind)),
        status=draw(STATUSES),
        start_time=draw(times),
        end_time=draw(times),
        instrumentation_scope=draw(st.sampled_from(SCOPES)),
    )


def numbered(spans: Sequence[ReadableSpan]) -> None:
    for number, span in enumerate(spans):
        if span.context is not None:
            given = span.context
            span._context = SpanContext(
                given.trace_id, number + 1, given.is_remote, given.trace_flags, given.trace_state
            )


def writable(write: Callable[[], object]) -> bool:
    try:
        write()
    except Exception:
        return False
    return True


@settings(max_examples=250, deadline=None, suppress_health_check=SLOW)
@given(spans=st.lists(foreign_spans(), max_size=5))
def test_the_span_of_any_provider_is_written_as_the_official_encoder_writes_it_or_left_to_it_alone(
    spans: list[ReadableSpan],
) -> None:
    numbered(spans)
    drops, other_drops, redactor = DropCounter(), DropCounter(), Redactor()
    encoder = Encoder(Redactor(drops))
    assert ours(encoder, spans) == theirs(Redactor(other_drops), spans)
    assert drops.counts() == other_drops.counts()
    clean = [redactor.span(span) for span in spans if span is not None]
    left = [
        span for span in clean
        if not writable(lambda span=span: wire.span(span))
        or not writable(lambda span=span: wire.request(span.resource, span.instrumentation_scope, ()))
    ]  # fmt: skip
    assert encoder.health.official == len(left)


@settings(max_examples=120, deadline=None, suppress_health_check=SLOW)
@given(foreign=st.lists(foreign_spans(), max_size=2), made_of=st.lists(drafts(), max_size=3), data=st.data())
def test_spans_of_all_kinds_stand_in_one_batch(
    foreign: list[ReadableSpan], made_of: list[Draft], data: st.DataObject
) -> None:
    both = Both()
    order = data.draw(st.permutations(range(len(foreign) + len(made_of))))
    one, other = ([*side.spans(made_of), *foreign] for side in (both.one, both.other))
    for number, span in enumerate(foreign, len(made_of)):
        if span.context is not None:
            span._context = SpanContext(span.context.trace_id, number + 1, span.context.is_remote)
    assert ours(both.encoder, [one[n] for n in order]) == theirs(both.other.redactor, [other[n] for n in order])
    if not foreign:  # a scope that is redacted is counted where it is met, which depends on who is beside it
        assert both.one.drops.counts() == both.other.drops.counts()


@given(st.from_regex(span_writer.PLAIN_ID, fullmatch=True))
@settings(max_examples=1000)
@example("deadbeef-dead-beef-dead-beefdeadbeef")
@example("fc-0123456789abcdef0123456789abcdef")
def test_an_id_that_is_plain_is_nothing_that_is_left_out_or_redacted(text: str) -> None:
    assert redact(text) == text
    assert all(attribute.accept(text) == text for attribute in ATTRIBUTES if attribute.form is IDENTIFIER)


# -- what costs nobody anything ----------------------------------------------------------------------------------------


class Broken(Recorded):
    def finished(self, make: Callable[..., T]) -> T:
        raise RuntimeError("it cannot be made")


class Loose(Recorded):
    """What is finished only when it is asked."""

    def __init__(self, span: UsageReadableSpan) -> None:
        self.span = span

    def finished(self, make: Callable[..., T]) -> T:
        return self.span.finished(make)


def test_what_cannot_be_finished_is_counted_as_unencodable_and_costs_no_other() -> None:
    side = Side()
    encoder = Encoder(side.redactor)
    good = side.spans([draft()] * (2 * SLICE))
    batch: list[Any] = [Broken(), *map(Loose, good[:SLICE]), None, object(), *good[SLICE:], Broken()]
    prepared = encoder(batch)
    assert prepared.unencodable == 4
    assert isinstance(prepared.payload, EncodedPayload)
    assert len(by_id(ExportTraceServiceRequest.FromString(prepared.payload.request))) == 2 * SLICE
    assert encoder.health == EncoderHealth(written=2 * SLICE, misses=2, remembered=2)
    assert internal_errors() == {"readable.finished": 4}


def test_an_exporter_that_takes_spans_as_they_are_is_given_finished_ones() -> None:
    memory, (span,) = InMemorySpanExporter(), Side().spans([draft()])
    exporter = ForeignExporter(memory)
    prepared = exporter.prepare([Loose(span), Broken()])
    assert prepared.unencodable == 1
    assert prepared.payload is not None
    assert isinstance(exporter.deliver(prepared.payload), Accepted)
    (given,) = memory.get_finished_spans()
    assert (type(given), given.to_json()) == (UsageReadableSpan, span.to_json())
    assert exporter.encoder_health is None


@pytest.mark.parametrize(
    "odd",
    [
        draft(PLAIN._replace(place=[("geo.country.iso_code", "DE")])),
        draft(PLAIN._replace(annotations=[["usage.domain", "items"]])),
        draft(identity=UsageIdentity(customer_id=["a"], plan={})),  # type: ignore[arg-type]
        draft(own={"unknown": SECRETS["jwt"], "usage.client.request_id": SECRETS["aws"]}),
        draft(link=Link(SpanContext(1, 2, False, TraceFlags(1), TraceState([("a", "b")])))),
    ],
    ids=["a list", "pairs that are lists", "an identity", "unknown attributes", "a link's tracestate"],
)
def test_what_cannot_be_remembered_or_is_against_the_rules_is_written_in_another_way(odd: Draft) -> None:
    both = Both()
    both.write([draft(), odd, draft()])
    health = both.encoder.health
    assert (health.written, health.official) == (2, 0)


@pytest.mark.parametrize(
    "odd",
    [
        draft(started=-1), draft(ended=1 << 64), draft(ended=None), draft(PLAIN._replace(place=7)), draft(own=7),
        draft(WorkFacts("x", 1, None), own=7), draft(recorded=((-1, "usage.meter", {"usage.quantity": 1.0}),)),
        draft(recorded=((1, "usage.meter", None),)), draft(PLAIN._replace(host=7)), draft(link="no link"),
    ],
)  # fmt: skip
def test_what_nobody_can_write_costs_no_neighbour_and_nothing_is_counted_twice(odd: Draft) -> None:
    both = Both()
    leaky = draft(own={"usage.client.request_id": "key=" + SECRETS["stripe"]})
    secret = draft(WorkFacts(SECRETS["stripe"], False, None), own={"unknown": 1})
    one = both.one.spans([leaky, secret, odd._replace(own={}) if odd.own == 7 else odd, draft(), secret])
    if odd.own == 7:
        one[2].own = 7  # type: ignore[assignment]
    prepared = both.encoder(one)
    assert prepared.unencodable in (0, 1)
    assert prepared.payload is not None
    assert prepared.payload.count == 5 - prepared.unencodable
    assert both.encoder.health.official <= 1
    counts = both.one.drops.counts()
    assert counts["redacted:_unknown"] == counts["unknown"] == 2
    assert sum(count for name, count in counts.items() if "request_id" in name) == 1


def test_one_that_our_writer_does_not_know_is_all_that_the_official_encoder_is_asked_for() -> None:
    side = Side()
    encoder = Encoder(side.redactor)
    listing = ReadableSpan("x", context=SpanContext(1, 99, False), attributes={"a": [1]}, start_time=1, end_time=2)
    plain = ReadableSpan("x", context=SpanContext(1, 98, False), attributes={"one": 1}, start_time=1, end_time=2)
    found = ours(encoder, [*side.spans([draft()] * 5), listing, plain])
    assert len(found) == 7
    assert (encoder.health.written, encoder.health.official) == (5, 1)


def test_spans_of_two_makers_stand_under_their_own_resources() -> None:
    drops = DropCounter()
    makers = [SpanMaker(CONFIG, Resource({"service.name": name}, SCHEMA_URL), drops) for name in ("one", "two")]
    spans = [draft().span(makers[number % 2], number) for number in range(6)]
    assert ours(Encoder(Redactor(drops)), spans) == theirs(Redactor(drops), spans)


def test_a_resource_that_our_writer_does_not_know_costs_no_span() -> None:
    drops = DropCounter()
    maker = SpanMaker(CONFIG, Resource({"service.name": "one", "several": ["a", "b"]}, SCHEMA_URL), drops)
    spans = [draft().span(maker, number) for number in range(3)]
    encoder = Encoder(Redactor(drops))
    assert ours(encoder, spans) == theirs(Redactor(drops), spans)
    assert (encoder.health.written, encoder.health.official) == (0, 3)


def test_the_official_encoder_writes_everything_where_it_is_told_to() -> None:
    both = Both()
    both.encoder = Encoder(both.one.redactor, official=True)
    both.write([draft(), draft(WorkFacts("work", False, None)), draft(own={"usage.upstream.count": 3})])
    assert both.encoder.health == EncoderHealth(official=3)


# -- the wire format ---------------------------------------------------------------------------------------------------


EDGES = sorted({max(0, (1 << shift) + step) for shift in (0, 7, 14, 21, 28, 32, 63, 64) for step in (-2, -1, 0, 1)})


@pytest.mark.parametrize("number", EDGES)
def test_a_varint_is_protobufs(number: int) -> None:
    if number < 1 << 64:  # where protobuf's own ends
        assert wire.varint(number) == _VarintBytes(number)


@pytest.mark.parametrize("size", [0, 1, 126, 127, 128, 129, 16_383, 16_384, 2_097_151, 2_097_152])
def test_a_field_is_protobufs(size: int) -> None:
    assert wire.field(b"\x2a", b"x" * size) == Span(name="x" * size).SerializeToString() or size == 0
    assert wire.field(b"\x2a", b"x" * size) == b"\x2a" + _VarintBytes(size) + b"x" * size


def official(key: str, value: AnyValue) -> bytes:
    return Span(attributes=[KeyValue(key=key, value=value)]).SerializeToString()


NUMBERS = [sign * edge for edge in EDGES for sign in (1, -1) if -(1 << 63) <= sign * edge < 1 << 63]


@pytest.mark.parametrize("number", NUMBERS)
def test_an_integer_is_protobufs(number: int) -> None:
    assert wire.attribute(wire.SPAN_ATTRIBUTE, "k", number) == official("k", AnyValue(int_value=number))


@pytest.mark.parametrize("number", [1 << 63, -(1 << 63) - 1, None, b"x", [1], {}, 1j, Level.ONE, "\ud800", "a\udfff"])
def test_what_is_not_ours_to_write_is_said_to_be_so(number: object) -> None:
    with pytest.raises(wire.UnwritableError):
        wire.attribute(wire.SPAN_ATTRIBUTE, "k", number)


@given(DOUBLES)
def test_a_double_is_protobufs(number: float) -> None:
    written = wire.attribute(wire.SPAN_ATTRIBUTE, "k", number)
    assert written[:-8] == official("k", AnyValue(double_value=1.5))[:-8]
    assert written[-8:] == struct.pack("<d", number)


@pytest.mark.parametrize("value", [True, False])
def test_a_boolean_is_protobufs(value: bool) -> None:
    assert wire.attribute(wire.SPAN_ATTRIBUTE, "k", value) == official("k", AnyValue(bool_value=value))


@pytest.mark.parametrize(
    "key", ["k", "usage.upstream.response.size", "k" * 120, "k" * 127, "k" * 128, "é" * 64, "日" * 6000]
)
@pytest.mark.parametrize("letter", ["a", "é", "日", "😀"])
def test_a_text_is_protobufs_at_every_length_around_a_boundary(key: str, letter: str) -> None:
    write = wire.text_attribute(wire.SPAN_ATTRIBUTE, key)
    for size in (*range(140), *range(16_360, 16_390, 3), 16_383, 16_384):
        text = letter * (size // len(letter.encode())) + "x" * (size % len(letter.encode()))
        expected = official(key, AnyValue(string_value=text))
        assert write(text) == wire.attribute(wire.SPAN_ATTRIBUTE, key, text) == expected
