"""What may stand on a usage span: recorded facts become a name and attributes that the schema allows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple, TypedDict

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode

from .allowlist import filter_attributes
from .config import UsageConfig
from .distinct import CHOSEN_BY_CLIENTS, NAMING, DistinctValues
from .facts import Attributes, Facts
from .identity import UsageIdentity
from .ledger import Drops
from .readable import SCOPE, UsageReadableSpan, span_context
from .schema import RecordKind, UsageEvent

SPAN_KINDS: Final[Mapping[RecordKind, SpanKind]] = {
    RecordKind.REQUEST: SpanKind.SERVER,
    RecordKind.UPSTREAM: SpanKind.CLIENT,
    RecordKind.LLM: SpanKind.CLIENT,
    RecordKind.CUSTOM: SpanKind.INTERNAL,
}

_UNSET, _ERROR = Status(StatusCode.UNSET), Status(StatusCode.ERROR)
_EVENTS: Final = frozenset(event.value for event in UsageEvent)


class Shared(NamedTuple):
    """What facts amount to, as the schema allows it."""

    name: str
    attributes: Attributes
    failed: bool
    lasting: bool
    """Whether it will be so for every later span of a caller of the same standing."""


class Parts(TypedDict):
    """The arguments of the SDK's ``ReadableSpan``."""

    name: str
    context: SpanContext
    parent: SpanContext | None
    resource: Resource
    attributes: Attributes
    events: list[Event]
    links: list[Link]
    kind: SpanKind
    status: Status
    start_time: int
    end_time: int
    instrumentation_scope: InstrumentationScope


class SpanMaker:
    """Applies the schema, and the bounds on different values, to what was recorded.

    A span is valid by construction: whatever stands on it has passed here.
    """

    def __init__(self, config: UsageConfig, resource: Resource, drops: Drops) -> None:
        """``resource`` must be allowlisted already. ``drops`` counts what does not leave, by key."""
        self.resource: Final = resource
        self.scope: Final = SCOPE
        self.drops: Final = drops
        self._config = config
        self._distinct = DistinctValues()

    def shared(self, facts: Facts, identity: UsageIdentity, drops: Drops) -> Shared:
        """What ``facts`` amount to on a span of such a caller."""
        kind = facts.kind.value
        meaning = facts.meaning(self._config, identity.verified_kind)
        allowed = filter_attributes(kind, {"usage.kind": kind, **meaning.attributes}, drops)
        folded = self._distinct.fold(kind, allowed, drops, _verified_customer(identity))
        name = kind if folded & NAMING[kind] else self._distinct.name(meaning.name, kind)
        # There is room for a host as long as the caller has not used up a share: another caller's may be left.
        return Shared(name, allowed, meaning.failed, lasting=not folded & CHOSEN_BY_CLIENTS)

    def caller(self, identity: UsageIdentity, drops: Drops) -> Attributes:
        """The attributes that say who is calling: on each kind of span the same."""
        place = RecordKind.REQUEST.value
        allowed = filter_attributes(place, identity.attributes(), drops)
        self._distinct.fold(place, allowed, drops, _verified_customer(identity))
        if identity.provenance == "unverified":
            self._distinct.fold_claims(allowed, drops)
        return allowed

    def event(self, name: str, attributes: Mapping[str, Any], drops: Drops) -> Attributes | None:
        """An event's attributes. None: the schema has no such event, whose name is free text and is not counted."""
        if name not in _EVENTS:
            drops.add("event:unknown")
            return None
        allowed = filter_attributes(name, attributes, drops)
        self._distinct.fold(name, allowed, drops)
        return allowed

    def parts(self, span: UsageReadableSpan) -> Parts:
        """What the SDK's span is made of."""
        kind, shared = span.facts.kind, self.shared(span.facts, span.identity, self.drops)
        return Parts(
            name=shared.name,
            context=span_context(span.trace_id, span.span_id),
            parent=span_context(span.trace_id, span.parent_id, span.remote_parent) if span.parent_id else None,
            resource=self.resource,
            attributes={**shared.attributes, **self.caller(span.identity, self.drops), **self._own(span)},
            events=[
                Event(name, allowed, time)
                for time, name, attributes in span.recorded
                if (allowed := self.event(name, attributes, self.drops)) is not None
            ],
            links=[span.link] if span.link is not None else [],
            kind=SPAN_KINDS[kind],
            status=_ERROR if shared.failed else _UNSET,
            start_time=span.started,
            end_time=span.ended,
            instrumentation_scope=self.scope,
        )

    def _own(self, span: UsageReadableSpan) -> Attributes:
        kind = span.facts.kind.value
        made = {} if span.made_id is None else {"usage.request.id": span.made_id}
        allowed = filter_attributes(kind, {**made, **span.own}, self.drops)
        allowed.pop("usage.kind", None)  # of which a span has one
        self._distinct.fold(kind, allowed, self.drops, _verified_customer(span.identity))
        # What an application names itself may also say whom it is for, in the place of what the scope knows.
        if allowed.get("usage.identity.provenance", span.identity.provenance) == "unverified":
            self._distinct.fold_claims(allowed, self.drops)
        return allowed


def _verified_customer(identity: UsageIdentity) -> str | None:
    return identity.customer_id if identity.provenance == "verified" else None
