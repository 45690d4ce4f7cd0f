"""Takes what looks like a secret out of our own spans, on the worker's thread, before they are encoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from opentelemetry.sdk.trace import Event, ReadableSpan

from ..ledger import DropCounter
from ..redaction import redact
from ..schema import DEFAULT_CAP, encodable
from .outcome import Outcome, UsageExporter

NAME_CAP: Final = 2 * DEFAULT_CAP
"""Longest span name in characters: of a method and a route at the most."""


class RedactingExporter(UsageExporter):
    """Hands spans on to another exporter with every string redacted. What is redacted is counted by key."""

    def __init__(self, exporter: UsageExporter, drops: DropCounter) -> None:
        self._exporter = exporter
        self._drops = drops

    def deliver(self, spans: Sequence[ReadableSpan]) -> Outcome:
        return self._exporter.deliver([redacted_span(span, self._drops) for span in spans])

    def after_fork(self) -> None:
        self._exporter.after_fork()

    def shutdown(self) -> None:
        self._exporter.shutdown()


def redacted_span(span: ReadableSpan, drops: DropCounter) -> ReadableSpan:
    """``span`` without secrets in its name, its attributes and its events. The same object if there are none."""
    name = redact(_name(span, drops))
    attributes = redacted_attributes(span.attributes or {}, drops)
    events = [
        Event(event.name, redacted_attributes(event.attributes or {}, drops), event.timestamp) for event in span.events
    ]
    unchanged = name == span.name and attributes == span.attributes
    if unchanged and all(new.attributes == old.attributes for new, old in zip(events, span.events, strict=True)):
        return span
    return ReadableSpan(
        name,
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=attributes,
        events=events,
        links=span.links,
        kind=span.kind,
        status=span.status,
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _name(span: ReadableSpan, drops: DropCounter) -> str:
    """The span's name, or its kind's in the place of one that cannot leave: an application may name a span anything."""
    name: object = span.name
    if isinstance(name, str) and len(name) <= NAME_CAP and encodable(name):
        return name
    drops.add("span:name")
    return str((span.attributes or {}).get("usage.kind", ""))


def redacted_attributes(attributes: Mapping[str, Any], drops: DropCounter) -> dict[str, Any]:
    """``attributes`` with every string redacted."""
    clean = {}
    for key, value in attributes.items():
        clean[key] = redact(value) if isinstance(value, str) else value
        if clean[key] is not value and clean[key] != value:
            drops.add(f"redacted:{key}")
    return clean
