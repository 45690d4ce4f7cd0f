"""Lets out what the schema names, on every field of a span, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import Link, SpanContext, SpanKind, Status

from ..allowlist import filter_attributes
from ..exporters.redacting import redacted_attributes
from ..guard import guarded
from ..ledger import DropCounter
from ..recorder import UsageReadableSpan
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
    usage (neither SERVER nor CLIENT, and without ``usage.kind``) goes no further. Names are made anew from allowed
    attributes; status descriptions, tracestate, attributes of links and unknown events do not leave. Values that look
    like secrets are redacted. Keys of older semantic conventions are taken for their current ones.

    Spans that this package made have passed the schema already and go straight on.
    """

    def __init__(
        self,
        downstream: SpanProcessor,
        *,
        personal: frozenset[str] = frozenset(),
        drops: DropCounter | None = None,
    ) -> None:
        """``personal``: the personal attributes that may leave; none by default. ``drops`` counts what was dropped."""
        self.downstream: Final = downstream
        self.drops: Final = drops if drops is not None else DropCounter()
        self._withheld = PERSONAL_KEYS - personal
        self._resources: dict[Resource, Resource] = {}

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Nothing: a span is looked at once, when it has ended."""

    def on_end(self, span: ReadableSpan) -> None:
        allowed = span if type(span) is UsageReadableSpan else self._rebuilt(span)
        if allowed is not None:
            self.downstream.on_end(allowed)

    def shutdown(self) -> None:
        self.downstream.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self.downstream.force_flush(timeout_millis)

    @guarded(None)
    def _rebuilt(self, span: ReadableSpan) -> ReadableSpan | None:
        kind = _record_kind(span)
        if kind is None:
            self.drops.add("span:not_usage")
            return None
        attributes = self._filter(kind, span.attributes or {})
        attributes["usage.kind"] = kind.value
        return ReadableSpan(
            _name(kind, attributes),
            context=_bare(span.context),
            parent=_bare(span.parent) if span.parent is not None else None,
            resource=self._resource(span.resource),
            attributes=attributes,
            events=[self._event(event) for event in span.events if self._known(event)],
            links=[Link(_bare(link.context)) for link in span.links],
            kind=span.kind,
            status=Status(span.status.status_code),
            start_time=span.start_time,
            end_time=span.end_time,
            instrumentation_scope=span.instrumentation_scope,
        )

    def _filter(self, place: str, attributes: Mapping[str, Any]) -> dict[str, Any]:
        current = {CURRENT_KEY[key]: value for key, value in attributes.items() if key in CURRENT_KEY}
        current |= {key: value for key, value in attributes.items() if key not in CURRENT_KEY}
        for key in self._withheld & current.keys():
            del current[key]
            self.drops.add(key)
        return redacted_attributes(filter_attributes(place, current, self.drops), self.drops)

    def _event(self, event: Event) -> Event:
        return Event(event.name, self._filter(event.name, event.attributes or {}), event.timestamp)

    def _known(self, event: Event) -> bool:
        if event.name in _EVENTS:
            return True
        self.drops.add("event:unknown")
        return False

    def _resource(self, resource: Resource) -> Resource:
        found = self._resources.get(resource)
        if found is None:
            found = self._resources[resource] = Resource(self._filter(RESOURCE, resource.attributes), SCHEMA_URL)
        return found


def _record_kind(span: ReadableSpan) -> RecordKind | None:
    said = (span.attributes or {}).get("usage.kind")
    if isinstance(said, str) and said in _RECORD_KINDS:
        return RecordKind(said)
    return _KIND_OF.get(span.kind)


def _name(kind: RecordKind, attributes: Mapping[str, Any]) -> str:
    """A name of allowed attributes: an instrumentation's own may hold a raw path."""
    parts = (attributes.get("http.request.method"), attributes.get("http.route") or attributes.get("server.address"))
    return " ".join(part for part in parts if part) or kind.value


def _bare(context: SpanContext) -> SpanContext:
    """A span's ids alone, without its tracestate."""
    return SpanContext(context.trace_id, context.span_id, context.is_remote, context.trace_flags)
