"""Lets out what the schema names, on every field of a span, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeGuard

from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import Link, SpanContext, SpanKind, Status

from ..allowlist import filter_attributes, span_name
from ..distinct import DistinctValues
from ..exporters.redacting import Redactor, bare
from ..guard import guarded
from ..ledger import DropCounter
from ..readable import SCOPE
from ..request_facts import host_of, method_of
from ..schema import CURRENT_KEY, PERSONAL_KEYS, RESOURCE, SCHEMA_URL, RecordKind, UsageEvent

_KIND_OF: Final[Mapping[SpanKind, RecordKind]] = {
    SpanKind.SERVER: RecordKind.REQUEST,
    SpanKind.CLIENT: RecordKind.UPSTREAM,
}
_RECORD_KINDS: Final = frozenset(RecordKind)
_EVENTS: Final = frozenset(UsageEvent)


class AllowlistSpanProcessor(SpanProcessor):
    """Rebuilds each span from what the schema allows and hands it to ``downstream``, which sees nothing else.

    It wraps its downstream because processors of a provider are siblings that share one frozen span. A span that is not
    usage (neither SERVER nor CLIENT, and without ``usage.kind``), or that has no valid ids, goes no further. Names are
    made anew from allowed attributes; status descriptions, tracestate, attributes of links, the instrumentation scope
    and unknown events do not leave. Values that look like secrets or e-mail addresses are redacted. Keys
    of older semantic conventions are taken for their current ones.

    A method that is not known becomes ``_OTHER``, as the conventions have it.
    """

    def __init__(
        self,
        downstream: SpanProcessor,
        *,
        personal: frozenset[str] = frozenset(),
        email_addresses: bool = False,
        drops: DropCounter | None = None,
    ) -> None:
        """``personal``: the personal attributes that may leave; none by default. ``email_addresses``: whether values
        may hold any; they are redacted by default. ``drops`` counts what was dropped or redacted.
        """
        self.downstream: Final = downstream
        self.drops: Final = drops if drops is not None else DropCounter()
        self._redactor = Redactor(self.drops, email_addresses=email_addresses)
        self._withheld = PERSONAL_KEYS - personal
        self._distinct = DistinctValues()
        self._last_resource: tuple[Resource, Resource] | None = None

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Nothing: a span is looked at once, when it has ended."""

    @guarded(None)
    def on_end(self, span: ReadableSpan) -> None:
        allowed = self._rebuilt(span)
        if allowed is not None:
            self.downstream.on_end(allowed)

    def shutdown(self) -> None:
        self.downstream.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self.downstream.force_flush(timeout_millis)

    def _rebuilt(self, span: ReadableSpan) -> ReadableSpan | None:
        kind = _record_kind(span)
        if kind is None:
            self.drops.add("span:not_usage")
            return None
        if not _valid(span.context):
            self.drops.add("span:without_ids")
            return None
        attributes = self._filter(kind, span.attributes or {})
        attributes["usage.kind"] = kind.value
        self._fold(kind, attributes)
        return ReadableSpan(
            _name(kind, attributes),
            context=bare(span.context),
            parent=bare(span.parent) if _valid(span.parent) else None,
            resource=self._resource(span.resource),
            attributes=attributes,
            events=[self._event(event) for event in span.events if self._known(event)],
            links=[Link(bare(link.context)) for link in span.links if _valid(link.context)],
            kind=span.kind,
            status=Status(span.status.status_code),
            start_time=span.start_time,
            end_time=span.end_time,
            instrumentation_scope=SCOPE,
        )

    def _fold(self, kind: RecordKind, attributes: dict[str, Any]) -> None:
        provenance = attributes.get("usage.identity.provenance")
        customer = attributes.get("usage.customer.id") if provenance == "verified" else None
        self._distinct.fold(kind, attributes, self.drops, customer)
        if provenance == "unverified":
            self._distinct.fold_claims(attributes, self.drops)

    def _filter(self, place: str, attributes: Mapping[str, Any]) -> dict[str, Any]:
        current = _in_current_keys(place, attributes)
        for key in self._withheld & current.keys():
            del current[key]
            self.drops.add(key)
        return self._redactor.attributes(filter_attributes(place, current, self.drops))

    def _event(self, event: Event) -> Event:
        return Event(event.name, self._filter(event.name, event.attributes or {}), event.timestamp)

    def _known(self, event: Event) -> bool:
        if event.name in _EVENTS:
            return True
        self.drops.add("event:unknown")
        return False

    def _resource(self, resource: Resource) -> Resource:
        last = self._last_resource  # by identity: hashing a resource serialises it, and a provider has but one
        if last is None or last[0] is not resource:
            last = resource, Resource(self._filter(RESOURCE, resource.attributes), SCHEMA_URL)
            self._last_resource = last
        return last[1]


def _record_kind(span: ReadableSpan) -> RecordKind | None:
    said = (span.attributes or {}).get("usage.kind")
    if isinstance(said, str) and said in _RECORD_KINDS:
        return RecordKind(said)
    return _KIND_OF.get(span.kind)


def _in_current_keys(place: str, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """``attributes`` under current keys and in their form. A former key counts where the current one is not there."""
    current = {key: value for key, value in attributes.items() if key not in CURRENT_KEY}
    for former, key in CURRENT_KEY.items():  # in the schema's order, which is that of preference
        # On a server's span the peer is the client, whose name is nobody's business.
        if former in attributes and not (former == "net.peer.name" and place == RecordKind.REQUEST):
            current.setdefault(key, attributes[former])
    for key, in_current_form in _CURRENT_FORM.items():
        if isinstance(value := current.get(key), str):
            current[key] = in_current_form(value)
    return current


def _without_port(host: str) -> str:
    return host_of(host) or host  # an IPv6 address without brackets is no `Host` header


_CURRENT_FORM: Final[Mapping[str, Callable[[str], str]]] = {
    "http.request.method": lambda method: method_of(method.upper()),  # older ones write it as it was sent
    "server.address": _without_port,  # contrib's ASGI writes `host:port`, whichever key it uses
}
"""How others write an attribute, made into what the conventions say."""


def _name(kind: RecordKind, attributes: Mapping[str, Any]) -> str:
    """A name of allowed attributes: an instrumentation's own may hold a raw path."""
    where = attributes.get("http.route") or attributes.get("server.address")
    return span_name(kind.value, attributes.get("http.request.method"), where)


def _valid(context: SpanContext | None) -> TypeGuard[SpanContext]:
    return context is not None and context.is_valid
