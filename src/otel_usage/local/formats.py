"""Answers as CSV, JSON and Parquet."""

from __future__ import annotations

import csv
import importlib
import io
import json
from pathlib import Path
from typing import Any, Final

from .answers import Answer
from .columns import quoted
from .errors import LocalError, MissingExtraError

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
_SQL_TYPES: Final = {
    "string": "VARCHAR", "integer": "BIGINT", "float": "DOUBLE", "boolean": "BOOLEAN", "datetime": "TIMESTAMP",
}  # fmt: skip


def to_json(answer: Answer) -> str:
    """A list of objects. Whatever is not ASCII is escaped, so that no terminal obeys it."""
    return json.dumps([dict(zip(answer.columns, row, strict=True)) for row in answer.rows], indent=2)


def to_csv(answer: Answer) -> str:
    """CSV with a heading. A text that a spreadsheet would take for a formula has an apostrophe before it, and control
    characters are replaced: names come from whoever sent the spans.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(map(_cell, answer.columns))
    writer.writerows([_cell(value) for value in row] for row in answer.rows)
    return out.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, (dict, list)):
        value = json.dumps(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str):
        return value
    harmless = f"'{value}" if value.startswith(_FORMULA) else value
    return printable(harmless)


def printable(text: str) -> str:
    """A text without what a terminal would obey."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def write_parquet(answer: Answer, path: Path) -> None:
    """Write a Parquet file, with a type for each column.

    Raises:
        MissingExtraError: DuckDB is not installed.
        LocalError: the file cannot be written.
    """
    try:
        duckdb = importlib.import_module("duckdb")
    except ImportError as error:
        raise MissingExtraError("duckdb") from error
    values = [[_parquet_value(row[number]) for row in answer.rows] for number in range(len(answer.columns))]
    lists = ", ".join(
        f"unnest(CAST(? AS VARCHAR[]))::{_SQL_TYPES.get(kind, 'VARCHAR')} AS {quoted(name)}"
        for name, kind in zip(answer.columns, answer.types, strict=True)
    )
    target = str(path).replace("'", "''")
    try:
        with duckdb.connect() as connection:
            connection.execute("SET GLOBAL TimeZone = 'UTC'")
            connection.execute(f"CREATE TABLE answer AS SELECT {lists}", values)
            connection.execute(f"COPY answer TO '{target}' (FORMAT parquet)")
    except duckdb.Error as error:
        raise LocalError(f"{path} cannot be written: {str(error).partition(chr(10))[0]}") from error


def _parquet_value(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value)
