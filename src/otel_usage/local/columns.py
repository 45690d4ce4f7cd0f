"""The columns of a usage span, as Axiom lays out a dataset of traces.

An attribute of the semantic conventions has a column of its own, ``attributes.<key>``; everything else is in the map
``attributes.custom``. Which attributes those are comes from the schema alone.

Not confirmed for Axiom: the words of ``status.code``, the shape of the objects in ``events`` and ``links``, and that
what the resource says beside ``service.name`` is in ``resource.custom``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from ..schema import ATTRIBUTES, RESOURCE, Attribute, ValueType
from .otlp import ReceivedEvent, ReceivedLink, ReceivedSpan, Value

CUSTOM: Final = "attributes.custom"
"""The map of all span attributes without a column of their own. Its values are text."""

_SQL_TYPES: Final[Mapping[ValueType, str]] = {
    ValueType.STRING: "VARCHAR",
    ValueType.INT: "BIGINT",
    ValueType.DOUBLE: "DOUBLE",
    ValueType.BOOLEAN: "BOOLEAN",
}
_MAP: Final = "MAP(VARCHAR, VARCHAR)"
_SERVICE_NAME: Final = "service.name"
_NANOSECONDS: Final = 1000


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the table."""

    name: str
    sql_type: str
    value: Callable[[ReceivedSpan], object]
    """The value to bind for a span. None: SQL's NULL."""
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
    """A value as the text that a map holds: booleans and numbers as JSON has them."""
    return value if isinstance(value, str) else json.dumps(_plain(value), ensure_ascii=False)


def _plain(value: Value) -> object:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return _plain_items(value)
    return value


def _plain_items(attributes: Mapping[str, Value]) -> dict[str, object]:
    return {key: _plain(value) for key, value in attributes.items()}


def _map_json(attributes: Mapping[str, Value]) -> str:
    return json.dumps({key: text(value) for key, value in attributes.items()}, ensure_ascii=False)


def _events(span: ReceivedSpan) -> str:
    return json.dumps([_event(event) for event in span.events], ensure_ascii=False)


def _event(event: ReceivedEvent) -> dict[str, object]:
    return {"name": event.name, "timestamp": event.time, "attributes": _plain_items(event.attributes)}


def _links(span: ReceivedSpan) -> str:
    return json.dumps([_link(link) for link in span.links], ensure_ascii=False)


def _link(link: ReceivedLink) -> dict[str, object]:
    return {"trace_id": link.trace_id, "span_id": link.span_id, "attributes": _plain_items(link.attributes)}


def _custom(span: ReceivedSpan) -> str:
    return _map_json({key: value for key, value in span.attributes.items() if not _has_column(key, value)})


def _has_column(key: str, value: Value) -> bool:
    # A value of a wrong type is kept as text, so that nothing that arrived is lost.
    attribute = _BY_COLUMN_KEY.get(key)
    return attribute is not None and attribute.of_type(value) is not None


def _resource(span: ReceivedSpan) -> str:
    return _map_json({key: value for key, value in span.resource_attributes.items() if key != _SERVICE_NAME})


def _service_name(span: ReceivedSpan) -> str | None:
    name = span.resource_attributes.get(_SERVICE_NAME)
    return None if name is None else text(name)


def _of(attribute: Attribute) -> Callable[[ReceivedSpan], object]:
    key, of_type = attribute.key, attribute.of_type
    return lambda span: of_type(span.attributes.get(key))


def _plain_column(name: str, sql_type: str, value: Callable[[ReceivedSpan], object]) -> Column:
    return Column(name, sql_type, value, sql_type)


def _json_column(name: str, value: Callable[[ReceivedSpan], object]) -> Column:
    return Column(name, "JSON", value, "VARCHAR", "CAST({} AS JSON)")


def _map_column(name: str, value: Callable[[ReceivedSpan], object]) -> Column:
    return Column(name, _MAP, value, "VARCHAR", f"CAST(CAST({{}} AS JSON) AS {_MAP})")


_COLUMN_ATTRIBUTES: Final = tuple(a for a in ATTRIBUTES if a.conventional and a.on - {RESOURCE})
_BY_COLUMN_KEY: Final = {attribute.key: attribute for attribute in _COLUMN_ATTRIBUTES}

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
    *(_plain_column(f"attributes.{a.key}", _SQL_TYPES[a.type], _of(a)) for a in _COLUMN_ATTRIBUTES),
    _map_column(CUSTOM, _custom),
    _map_column("resource.custom", _resource),
)
"""Every column, in the order of the table."""
