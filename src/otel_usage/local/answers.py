"""What a query answers, as Axiom's tabular format has it: named columns with types, and rows of JSON's values."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

MAX_ROWS: Final = 10_000
"""Rows that one answer holds at most."""

Row = tuple[Any, ...]
"""Texts, numbers, booleans, None, and lists and maps of them. Times are text in ISO 8601, durations text in ms."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The rows that a query was answered with."""

    columns: tuple[str, ...]
    types: tuple[str, ...]
    """One for each column, in Axiom's words: ``string``, ``integer``, ``float``, ``boolean``, ``datetime``, …"""
    rows: tuple[Row, ...]
    partial: bool = False
    """Whether there are more rows than it holds."""

    def to_tabular(self) -> dict[str, object]:
        """The answer as Axiom sends it with ``format=tabular``: a list of values for each column."""
        fields = [{"name": name, "type": kind} for name, kind in zip(self.columns, self.types, strict=True)]
        columns = [[row[number] for row in self.rows] for number in range(len(self.columns))]
        return {
            "format": "tabular",
            "status": {"isPartial": self.partial},
            "tables": [{"name": "0", "fields": fields, "columns": columns}],
        }

    @classmethod
    def from_tabular(cls, body: Mapping[str, Any]) -> Answer:
        """Read what :meth:`to_tabular` made, or Axiom.

        Raises:
            KeyError, IndexError, TypeError, ValueError: it is no tabular answer.
        """
        table = body["tables"][0]
        fields, columns = table["fields"], table.get("columns") or [[] for _ in table["fields"]]
        if len(fields) != len(columns):
            raise ValueError("there are not as many columns as fields")
        return cls(
            tuple(str(field["name"]) for field in fields),
            tuple(str(field.get("type", "")) for field in fields),
            tuple(zip(*columns, strict=True)),
            bool((body.get("status") or {}).get("isPartial")),
        )


def answer_of(names: Sequence[str], sql_types: Sequence[str], rows: Sequence[Row], *, partial: bool) -> Answer:
    """The answer that DuckDB's rows are. ``sql_types``: DuckDB's names of the columns' types."""
    is_json = [kind == "JSON" for kind in sql_types]
    return Answer(
        tuple(names),
        tuple(map(_type, sql_types)),
        tuple(tuple(map(_value, row, is_json)) for row in rows),
        partial,
    )


_TYPES: Final = {
    "VARCHAR": "string", "BOOLEAN": "boolean", "DOUBLE": "float", "FLOAT": "float", "TIMESTAMP": "datetime",
    "INTERVAL": "timespan",
}  # fmt: skip


def _type(sql_type: str) -> str:
    if sql_type.endswith("INT") or sql_type == "INTEGER":
        return "integer"
    return "float" if sql_type.startswith("DECIMAL") else _TYPES.get(sql_type, "dynamic")


def _value(value: object, is_json: bool) -> Any:
    if is_json and isinstance(value, str):
        return json.loads(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, Decimal):
        return float(value)
    return _of_other_types(value)


def _of_other_types(value: object) -> Any:
    if isinstance(value, datetime):
        moment = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        return moment.isoformat().replace("+00:00", "Z")
    if isinstance(value, timedelta):
        return f"{value / timedelta(milliseconds=1):g}ms"
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, (list, tuple)):
        return [_value(item, False) for item in value]
    if isinstance(value, dict):
        return {str(key): _value(item, False) for key, item in value.items()}
    return str(value)
