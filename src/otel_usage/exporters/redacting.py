"""Takes what looks like a secret out of spans, on the worker's thread, before they are encoded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from opentelemetry.sdk.trace import Event, ReadableSpan

from ..ledger import DropCounter
from ..redaction import redact
from ..schema import DEFAULT_CAP, encodable

NAME_CAP: Final = 2 * DEFAULT_CAP
"""Longest span name in characters: of a method and a route at the most."""


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
