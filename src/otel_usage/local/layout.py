"""The table of stored spans, and the view on it that has Axiom's columns.

The view ``api_usage`` is what queries are about. Its map ``attributes.custom`` is put together of the columns that hold
its keys; DuckDB does so only for queries that ask for the whole map.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

from ..schema import ValueType
from .columns import (
    COLUMNS,
    CUSTOM,
    CUSTOM_ATTRIBUTES,
    HIDDEN,
    OTHERS,
    RESOURCE_CUSTOM,
    SQL_TYPES,
    VISIBLE,
    column_of,
    quoted,
)

if TYPE_CHECKING:
    import duckdb

SPANS: Final = "spans"
"""The table that holds every span once."""

TABLE: Final = "api_usage"
"""The view's name: that of the default Axiom dataset, so that a query runs unchanged in both places."""

VIEW_COLUMNS: Final = (*VISIBLE, *HIDDEN)
"""The columns of the view: Axiom's, then those that stand for the keys of ``attributes.custom``."""


@lru_cache(maxsize=256)
def insert(names: frozenset[str]) -> tuple[str, tuple[str, ...]]:
    """What adds the spans of a batch that are not there, and the order of its columns. ``names``: columns with values.

    Its parameters are a list for each column, and the first and the last of the batch's times in microseconds.
    """
    columns = [column for column in COLUMNS if column.name in names]
    bound = [f"c{number}" for number in range(len(columns))]
    arrived = ", ".join(f"{c.expression.format(b)} AS {c.quoted}" for c, b in zip(columns, bound, strict=True))
    # One list for each column, unnested side by side: an order of magnitude faster than a row at a time, without Arrow.
    lists = ", ".join(f"unnest(CAST(? AS {column.parameter_type}[]))" for column in columns)
    sql = (
        f"INSERT INTO {SPANS} ({', '.join(column.quoted for column in columns)}) SELECT * FROM "
        f"(SELECT {arrived} FROM (SELECT {lists}) AS batch({', '.join(bound)})) AS arrived WHERE {_IS_NEW}"
    )
    return sql, tuple(column.name for column in columns)


# Spans that arrive twice have the same time. With it only the part of the table is searched that holds such times, and
# inserts stay as fast at ten million spans as they are at none. With an index over the ids they take twenty times
# as long there, and it is two thirds of the file.
_IS_NEW: Final = (
    f"NOT EXISTS (SELECT 1 FROM {SPANS} WHERE {SPANS}._time BETWEEN make_timestamp(?) AND make_timestamp(?) "
    f"AND {SPANS}.trace_id = arrived.trace_id AND {SPANS}.span_id = arrived.span_id)"
)

_NONE_THERE: Final = "'{}'"
_KNOWN_JSON: Final = ", ".join(f"'{a.key}', {quoted(column_of(a))}" for a in CUSTOM_ATTRIBUTES)
# A patch of JSON takes away what is null in it: keys that a span has not.
_CUSTOM_JSON: Final = (
    f"json_merge_patch(json_merge_patch({_NONE_THERE}, json_object({_KNOWN_JSON})), "
    f"coalesce({quoted(OTHERS)}, {_NONE_THERE}))"
)
_COMPUTED: Final = {CUSTOM: _CUSTOM_JSON, RESOURCE_CUSTOM: f"coalesce({quoted(RESOURCE_CUSTOM)}, {_NONE_THERE}::JSON)"}
_VIEW: Final = (
    f"CREATE OR REPLACE VIEW {TABLE} AS SELECT "
    + ", ".join(f"{_COMPUTED.get(name, quoted(name))} AS {quoted(name)}" for name in VIEW_COLUMNS)
    + f" FROM {SPANS}"
)
_CREATE: Final = (
    f"CREATE TABLE IF NOT EXISTS {SPANS} ("
    + ", ".join(f"{column.quoted} {column.sql_type}" for column in COLUMNS)
    + ")"
)


def prepare(connection: duckdb.DuckDBPyConnection) -> None:
    """Make the table and the view, add the columns that an older file lacks, and take over what it holds.

    Raises:
        duckdb.Error: it cannot be done; then nothing has changed.
    """
    with connection.cursor() as cursor:
        cursor.begin()
        kind = cursor.execute(
            "SELECT table_type FROM information_schema.tables WHERE table_name = ?", [TABLE]
        ).fetchone()
        cursor.execute(_CREATE)
        _add_missing_columns(cursor)
        if kind == ("BASE TABLE",):
            _take_over(cursor)
        cursor.execute(_VIEW)
        cursor.commit()


def _add_missing_columns(cursor: duckdb.DuckDBPyConnection) -> None:
    existing = _columns(cursor, SPANS)
    for column in COLUMNS:
        if column.name not in existing:
            cursor.execute(f"ALTER TABLE {SPANS} ADD COLUMN {column.quoted} {column.sql_type}")


def _take_over(cursor: duckdb.DuckDBPyConnection) -> None:
    """Move the spans of a file of the first layout, where the whole map was one column of text values."""
    existing = _columns(cursor, TABLE)
    taken = {column.name: column.quoted for column in COLUMNS if column.name in existing}
    if RESOURCE_CUSTOM in existing:
        taken[RESOURCE_CUSTOM] = f"to_json({quoted(RESOURCE_CUSTOM)})"
    if CUSTOM in existing:
        taken |= {column_of(a): _former_value(a.key, a.type) for a in CUSTOM_ATTRIBUTES}
        taken[OTHERS] = _FORMER_OTHERS
    names = ", ".join(map(quoted, taken))
    cursor.execute(f"INSERT INTO {SPANS} ({names}) SELECT {', '.join(taken.values())} FROM {TABLE}")
    cursor.execute(f"DROP TABLE {TABLE}")


def _former_value(key: str, kind: ValueType) -> str:
    return f"TRY_CAST(map_extract_value({quoted(CUSTOM)}, '{key}') AS {SQL_TYPES[kind]})"


def _is_known(kind: ValueType) -> str:
    keys = ", ".join(f"'{a.key}'" for a in CUSTOM_ATTRIBUTES if a.type is kind)
    return f"(entry.key IN ({keys}) AND TRY_CAST(entry.value AS {SQL_TYPES[kind]}) IS NOT NULL)"


_FORMER_OTHERS: Final = (
    f"to_json(map_from_entries(list_filter(map_entries({quoted(CUSTOM)}), "
    f"lambda entry: NOT ({' OR '.join(map(_is_known, ValueType))}))))"
)


def _columns(cursor: duckdb.DuckDBPyConnection, table: str) -> set[str]:
    return {row[0] for row in cursor.execute(f"DESCRIBE {table}").fetchall()}
