"""Which spans of a batch are rejected: Axiom's documented limits of a field."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from threading import Lock
from typing import Final

from ..schema import BY_KEY
from .otlp import ReceivedSpan, Value

MAX_VALUE_BYTES: Final = 1024 * 1024
"""Longest value of a field in bytes."""

MAX_NAME_BYTES: Final = 200
"""Longest name of a field in bytes."""

MAX_FIELDS: Final = 1024
"""Fields that a dataset may have. On Axiom's Personal plan it is 256."""


class FieldLimits:
    """Rejects a span that breaks a limit of its fields. Remembers the fields that the dataset has. Thread-safe.

    Only attributes with a column of their own count as fields: all others share the one map ``attributes.custom``.
    """

    def __init__(
        self,
        *,
        max_value_bytes: int = MAX_VALUE_BYTES,
        max_name_bytes: int = MAX_NAME_BYTES,
        max_fields: int = MAX_FIELDS,
    ) -> None:
        self._max_value_bytes = max_value_bytes
        self._max_name_bytes = max_name_bytes
        self._max_fields = max_fields
        self._fields: set[str] = set()
        self._lock = Lock()

    def __call__(self, span: ReceivedSpan) -> str | None:
        """Why the span is rejected, or None if it is accepted, which adds its fields to the dataset."""
        for name, value in _fields(span):
            if len(name.encode()) > self._max_name_bytes:
                return f"a field name is longer than {self._max_name_bytes} bytes"
            if _size(value) > self._max_value_bytes:
                return f"a field is longer than {self._max_value_bytes} bytes"
        return self._add(_columns(span.attributes))

    def _add(self, columns: set[str]) -> str | None:
        with self._lock:
            together = self._fields | columns
            if len(together) > self._max_fields:
                return f"the dataset would have more than {self._max_fields} fields"
            self._fields = together
        return None


def _fields(span: ReceivedSpan) -> Iterator[tuple[str, Value]]:
    yield "name", span.name
    yield "status.message", span.status_message
    yield from span.attributes.items()
    yield from span.resource_attributes.items()
    for event in span.events:
        yield from event.attributes.items()
    for link in span.links:
        yield from link.attributes.items()


def _columns(attributes: Mapping[str, Value]) -> set[str]:
    return {key for key in attributes if key not in BY_KEY or BY_KEY[key].conventional}


def _size(value: Value) -> int:
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, bytes):
        return len(value)
    if isinstance(value, (list, dict)):
        return len(json.dumps(value, default=repr).encode())
    return 8
