"""Takes what looks like a secret or an e-mail address out of spans, on the worker's thread, before they are encoded."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, Status

from ..allowlist import NAME_CAP
from ..forms import printable
from ..guard import say
from ..ledger import DropCounter, Drops
from ..redaction import REDACTED, redact
from ..schema import BY_KEY

FREE_TEXT: Final = frozenset({"exception.message", "exception.stacktrace"})
"""What the SDK writes of an exception in the application's own words. It never leaves."""

_TOLD_LIMIT: Final = 64
_told: Final[set[str]] = set()  # the process's, as the log is: several pipelines after another say it once


class Redactor:
    """Redacts spans. What is redacted is counted by key, and said the first time that it happens to a key."""

    def __init__(self, drops: Drops | None = None, *, email_addresses: bool = False) -> None:
        """``email_addresses``: whether values may hold them. ``drops`` counts; None: it is not asked for."""
        self._drops: Final = drops if drops is not None else DropCounter()
        self._email_addresses: Final = email_addresses
        self._resource: tuple[Resource, Resource] | None = None
        self._scope: tuple[InstrumentationScope, InstrumentationScope] | None = None

    def counting(self, drops: Drops) -> Redactor:
        """The same, which counts elsewhere."""
        return Redactor(drops, email_addresses=self._email_addresses)

    def span(self, span: ReadableSpan) -> ReadableSpan:
        """``span`` without secrets in any of its parts. The same object if there are none.

        A status's description, links' attributes and tracestates are left out: a usage span has none.
        """
        name = self.name(span.name, str((span.attributes or {}).get("usage.kind", "")))
        attributes = self.attributes(span.attributes or {})
        events = [self._event(event) for event in span.events]
        resource = self.resource(span.resource)
        scope = self.scope(span.instrumentation_scope)
        if (
            name == span.name
            and attributes == (span.attributes or {})
            and all(new is old for new, old in zip(events, span.events, strict=True))
            and resource is span.resource
            and scope is span.instrumentation_scope
            and _plain(span)
        ):
            return span
        return ReadableSpan(
            name,
            context=bare(span.context),
            parent=bare(span.parent),
            resource=resource,
            attributes=attributes,
            events=events,
            links=[Link(bare(link.context)) for link in span.links],
            kind=span.kind,
            status=Status(span.status.status_code),
            start_time=span.start_time,
            end_time=span.end_time,
            instrumentation_scope=scope,
        )

    def name(self, name: object, kind: str) -> str:
        """A span's name, or its kind's in the place of one that cannot leave: an application may name it anything."""
        if not (isinstance(name, str) and len(name) <= NAME_CAP and printable(name)):
            self._drops.add("span:name")
            name = kind
        return self.text("span:name", name)

    def attributes(self, attributes: Mapping[str, Any]) -> dict[str, Any]:
        """``attributes`` with every string redacted, in sequences and in keys too, and without :data:`FREE_TEXT`."""
        clean = {}
        for key, value in attributes.items():
            if key in FREE_TEXT:
                self._drops.add(key)
                continue
            safe = key if key in BY_KEY else redact(key)
            clean[safe] = self.value(safe, value)
        return clean

    def value(self, key: str, value: Any) -> Any:
        """``value`` of the attribute ``key``, redacted."""
        if isinstance(value, str):
            return self.text(key, value)
        if isinstance(value, Mapping):
            return self.attributes(value)
        if isinstance(value, Sequence) and not isinstance(value, bytes):
            return tuple(self.value(key, item) for item in value)
        return value

    def text(self, key: str, text: str) -> str:
        """The same for one that is a string."""
        clean = redact(text, email_addresses=self._email_addresses)
        if clean != text:
            self._drops.add(f"redacted:{key}")
            self._tell(key)
        return clean

    def _tell(self, key: str) -> None:
        """Say it once for each key: every customer whose id is an address would be one and the same from here on."""
        if key in _told or len(_told) >= _TOLD_LIMIT:
            return
        _told.add(key)  # without a lock: two threads may say it twice
        if self._email_addresses:
            say(logging.WARNING, "usage: a value of %s looked like a secret and became %s", key, REDACTED)
        else:
            say(
                logging.WARNING,
                "usage: a value of %s looked like a secret or an e-mail address and was redacted: every such value "
                "becomes %s; set USAGE_EMAIL_ADDRESSES=1 if e-mail addresses may leave",
                key, REDACTED,
            )  # fmt: skip

    def _event(self, event: Event) -> Event:
        name, attributes = redact(event.name), self.attributes(event.attributes or {})
        if name == event.name and attributes == (event.attributes or {}):
            return event
        return Event(name, attributes, event.timestamp)

    def resource(self, given: Resource) -> Resource:
        """``given``, redacted. The same object if there is nothing to redact."""
        last = self._resource  # by identity: a provider has but one
        if last is None or last[0] is not given:
            clean = Resource(self.attributes(given.attributes), redact(given.schema_url))
            last = self._resource = given, given if clean == given else clean
        return last[1]

    def scope(self, given: InstrumentationScope | None) -> InstrumentationScope | None:
        """As :meth:`resource`."""
        if given is None:
            return None
        last = self._scope  # by identity: of usage spans there is but one
        if last is None or last[0] is not given:
            clean = InstrumentationScope(
                redact(given.name),
                redact(given.version or ""),
                redact(given.schema_url or ""),
                self.attributes(given.attributes or {}),
            )
            last = self._scope = given, given if _same(clean, given) else clean
        return last[1]


def _same(clean: InstrumentationScope, given: InstrumentationScope) -> bool:
    return (clean.name, clean.version, clean.schema_url, dict(clean.attributes or {})) == (
        given.name, given.version or "", given.schema_url or "", dict(given.attributes or {})
    )  # fmt: skip


def _plain(span: ReadableSpan) -> bool:
    """Whether it holds nothing of what a usage span never holds."""
    contexts = (span.context, span.parent, *(link.context for link in span.links))
    return (
        span.status.description is None
        and not any(link.attributes for link in span.links)
        and not any(context.trace_state for context in contexts if context is not None)
    )


def bare(context: SpanContext | None) -> Any:  # of what it was given: a context, or None
    """A span's ids alone, without its tracestate."""
    if context is None:
        return None
    return SpanContext(context.trace_id, context.span_id, context.is_remote, context.trace_flags)
