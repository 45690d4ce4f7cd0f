"""The columns of a usage span, as Axiom lays out a dataset of traces, and as they are stored.

An attribute of the semantic conventions has a column of its own, ``attributes.<key>``; everything else is in the map
``attributes.custom``. Which attributes those are comes from the schema alone. In the file every attribute of the schema
has a column, so that one of them is read without the others; the map is put together of them for whoever asks for it
(``layout.py``), and a query that asks for one key of it is given that key's column (``apl.py``).

Not confirmed for Axiom: the words of ``status.code``, the shape of the objects in ``events`` and ``links``, and that
what the resource says beside ``service.name`` is in ``resource.custom``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ..schema import ATTRIBUTES, Attribute, RecordKind, ValueType
from .otlp import ReceivedEvent, ReceivedLink, ReceivedSpan, Value

CUSTOM: Final = "attributes.custom"
"""The map of all span attributes that are not of the semantic conventions."""

OTHERS: Final = f"{CUSTOM}.others"
"""The part of the map that the schema does not know, or whose values are not of the schema's type."""

RESOURCE_CUSTOM: Final = "resource.custom"
"""The map of what the resource says beside the service's name."""

SQL_TYPES: Final[Mapping[ValueType, str]] = {
    ValueType.STRING: "VARCHAR",
    ValueType.INT: "BIGINT",
    ValueType.DOUBLE: "DOUBLE",
    ValueType.BOOLEAN: "BOOLEAN",
}
"""What a value of the schema is stored as."""

_SERVICE_NAME: Final = "service.name"
_NANOSECONDS: Final = 1000


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the table."""

    name: str
    sql_type: str
    value: Callable[[ReceivedSpan], object] | None
    """The value to bind for a span. None: it is an attribute's, see :func:`values_of`."""
    parameter_type: str
    """The SQL type of the bound value."""
    expression: str = "{}"
    """What makes the column's value of the bound one, which stands at the braces."""

    @property
    def quoted(self) -> str:
        """The name as an SQL identifier."""
        return quoted(self.name)


def quoted(name: str) -> str:
    """A name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def text(value: Value) -> str:
    """A value as text: booleans and numbers as JSON has them."""
    return value if isinstance(value, str) else json.dumps(_plain(value), ensure_ascii=False)


def custom_column(key: str) -> str:
    """The name of the column that holds one key of the map ``attributes.custom``."""
    return f"{CUSTOM}.{key}"


def column_of(attribute: Attribute) -> str:
    """The name of the column that holds an attribute."""
    return f"attributes.{attribute.key}" if attribute.conventional else custom_column(attribute.key)


def _plain(value: Value) -> object:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no word for it
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return _plain_items(value)
    return value


def _plain_items(attributes: Mapping[str, Value]) -> dict[str, object]:
    return {key: _plain(value) for key, value in attributes.items()}


def _map_json(attributes: Mapping[str, Value]) -> str | None:
    # A value that was sent as nothing is a word, because null in a patch of JSON takes a key away.
    named = {key: "null" if value is None else _plain(value) for key, value in attributes.items()}
    return json.dumps(named, ensure_ascii=False) if named else None


def _events(span: ReceivedSpan) -> str:
    return json.dumps([_event(event) for event in span.events], ensure_ascii=False)


def _event(event: ReceivedEvent) -> dict[str, object]:
    return {"name": event.name, "timestamp": event.time, "attributes": _plain_items(event.attributes)}


def _links(span: ReceivedSpan) -> str:
    return json.dumps([_link(link) for link in span.links], ensure_ascii=False)


def _link(link: ReceivedLink) -> dict[str, object]:
    return {"trace_id": link.trace_id, "span_id": link.span_id, "attributes": _plain_items(link.attributes)}


def _resource(span: ReceivedSpan) -> str | None:
    return _map_json({key: value for key, value in span.resource_attributes.items() if key != _SERVICE_NAME})


def _service_name(span: ReceivedSpan) -> str | None:
    name = span.resource_attributes.get(_SERVICE_NAME)
    return None if name is None else text(name)


def _plain_column(name: str, sql_type: str, value: Callable[[ReceivedSpan], object] | None) -> Column:
    return Column(name, sql_type, value, sql_type)


def _json_column(name: str, value: Callable[[ReceivedSpan], object] | None) -> Column:
    return Column(name, "JSON", value, "VARCHAR", "CAST({} AS JSON)")


def _attribute_column(name: str, attribute: Attribute) -> Column:
    return _plain_column(name, SQL_TYPES[attribute.type], None)


_ON_SPANS: Final = {a.key: a for a in ATTRIBUTES if a.on & frozenset(RecordKind)}

CUSTOM_ATTRIBUTES: Final = tuple(a for a in _ON_SPANS.values() if not a.conventional)
"""The attributes that Axiom keeps in the map ``attributes.custom``."""

COLUMNS: Final[tuple[Column, ...]] = (
    # UTC without a zone: KQL's datetime is that, and reading DuckDB's TIMESTAMPTZ from Python takes one more package.
    Column("_time", "TIMESTAMP", lambda span: span.start_time // _NANOSECONDS, "BIGINT", "make_timestamp({})"),
    _plain_column("trace_id", "VARCHAR", lambda span: span.trace_id),
    _plain_column("span_id", "VARCHAR", lambda span: span.span_id),
    _plain_column("parent_span_id", "VARCHAR", lambda span: span.parent_span_id),
    _plain_column("name", "VARCHAR", lambda span: span.name),
    _plain_column("kind", "VARCHAR", lambda span: span.kind),
    # An interval counts microseconds. Nanoseconds as a number would be exact, but `duration / 1ms` takes an interval.
    Column("duration", "INTERVAL", lambda span: span.duration // _NANOSECONDS, "BIGINT", "to_microseconds({})"),
    _plain_column("error", "BOOLEAN", lambda span: span.status_code == "error"),
    _plain_column("status.code", "VARCHAR", lambda span: span.status_code),
    _plain_column(_SERVICE_NAME, "VARCHAR", _service_name),
    _json_column("events", _events),
    _json_column("links", _links),
    *(_attribute_column(column_of(a), a) for a in _ON_SPANS.values() if a.conventional),
    _json_column(RESOURCE_CUSTOM, _resource),
    *(_attribute_column(column_of(a), a) for a in CUSTOM_ATTRIBUTES),
    _json_column(OTHERS, None),
)
"""Every column that is stored, in the order of the table."""

HIDDEN: Final = (*(column_of(a) for a in CUSTOM_ATTRIBUTES), OTHERS)
"""The columns that stand for ``attributes.custom``, and that Axiom has not."""

VISIBLE: Final = (*(column.name for column in COLUMNS if column.name not in HIDDEN), CUSTOM)
"""The columns as Axiom has them."""

_OF_SPANS: Final = tuple((column.name, column.value) for column in COLUMNS if column.value is not None)
_BY_KEY: Final = {key: (column_of(attribute), attribute.of_type) for key, attribute in _ON_SPANS.items()}


def values_of(spans: Sequence[ReceivedSpan]) -> dict[str, list[object]]:
    """What to bind for some spans: a list for each column in which one of them has a value."""
    values = {name: [value(span) for span in spans] for name, value in _OF_SPANS}
    # Of sixty attributes a span has a dozen: those are gone through, and not the columns.
    for number, span in enumerate(spans):
        others: dict[str, Value] = {}
        for key, sent in span.attributes.items():
            name, of_type = _BY_KEY.get(key, (OTHERS, _unknown))
            value = of_type(sent)
            if value is None:  # of a wrong type: kept with what is not known, so that nothing that arrived is lost
                others[key] = sent
            else:
                values.setdefault(name, [None] * len(spans))[number] = value
        if others:
            values.setdefault(OTHERS, [None] * len(spans))[number] = _map_json(others)
    return values


def _unknown(value: object) -> None:
    return None
