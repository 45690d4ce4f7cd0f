"""Answers APL from the store: translated by ``duckdb-kql``, run by DuckDB.

What it knows of APL is what KQL has in common with it. Whatever else is refused by name, and never answered wrongly.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

from ..schema import ValueType
from .answers import MAX_ROWS, Answer, answer_of
from .bounded import bounded
from .columns import CUSTOM, CUSTOM_ATTRIBUTES, HIDDEN, OTHERS, custom_column
from .errors import MissingExtraError, QueryError
from .layout import TABLE, VIEW_COLUMNS
from .store import UsageStore

MAX_SECONDS: Final = 30.0
"""Seconds that a query may take."""

MAX_APL: Final = 64 * 1024
"""Characters of a query at most."""

_MAX_SQL: Final = 1024 * 1024
_MAX_TRANSLATION_SECONDS: Final = 20.0


@dataclass(frozen=True, slots=True)
class Translation:
    """A query in DuckDB's SQL."""

    sql: str
    parameters: Mapping[str, Any]


def run_apl(store: UsageStore, apl: str, *, now: datetime | None = None, seconds: float = MAX_SECONDS) -> Answer:
    """What a query answers: :data:`~.answers.MAX_ROWS` rows at most.

    ``now``: what `now()` and `ago()` go by. None: the clock.

    Raises:
        MissingExtraError: duckdb-kql is not installed.
        QueryTimeoutError: it took longer than ``seconds``.
        QueryError: it is not APL, uses what is not run here, or names what is not there.
        StoreError: the store cannot be read.
    """
    translation = translate(apl, now)
    found = store.read(translation.sql, translation.parameters, max_rows=MAX_ROWS, seconds=seconds)
    shown = list(range(len(found.names)))
    if set(HIDDEN) <= set(found.names):  # all of them: nobody has asked for one, and Axiom has none
        shown = [number for number in shown if found.names[number] not in HIDDEN]
    return answer_of(
        [found.names[n] for n in shown],
        [found.types[n] for n in shown],
        [tuple(row[n] for n in shown) for row in found.rows],
        partial=found.more,
    )


@lru_cache(maxsize=256)
def translate(apl: str, now: datetime | None = None) -> Translation:
    """A query of the view ``api_usage`` in SQL, which reads only the columns that it needs.

    Raises:
        MissingExtraError: duckdb-kql is not installed.
        QueryTimeoutError: its translation takes too long.
        QueryError: it is not APL, uses what is not run here, or becomes too long.
    """
    kql = _duckdb_kql()
    if len(apl) > MAX_APL:
        raise QueryError(f"the query is longer than {MAX_APL:,} characters")
    try:
        with bounded(_MAX_TRANSLATION_SECONDS, _MAX_SQL):
            sql = kql.to_sql(with_columns(apl), schema={TABLE: list(VIEW_COLUMNS)}, allow_write=False, query_now=now)
    except QueryError:
        raise
    except kql.KqlUnsupportedError as error:
        raise QueryError(f"{error.construct} is not run locally{_at(error.span)}: Axiom may know it") from error
    except kql.KqlError as error:
        raise QueryError(f"this is no query that is run locally: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise QueryError("the query is nested too deeply") from error
    except Exception as error:  # the translator is young: what it stumbles over is the query's fault to whoever asks
        raise QueryError(f"this is no query that can be translated ({type(error).__name__})") from error
    return Translation(str(sql), dict(sql.parameters))


_COLUMN_TYPES: Final = {attribute.key: attribute.type for attribute in CUSTOM_ATTRIBUTES}
# Comments and literals come first, so that nothing within them is taken for a part of the query.
_PARTS: Final = re.compile(
    r"""//[^\n]* | ```.*?``` | @"[^"]*" | @'[^']*'
    | (?P<call>\btolong\s*\(\s*)?
      \[ \s* (?P<q>["']) """
    + re.escape(CUSTOM)
    + r""" (?P=q) \s* \]
      \s* \[ \s* (?P<k>["']) (?P<key>[\w.:/-]+) (?P=k) \s* \]
      (?(call) (?P<end>\s*\)) )
    | "(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])*'""",
    re.VERBOSE | re.DOTALL,
)


def with_columns(apl: str) -> str:
    """The query with columns in the place of the map's keys: the same answer, without putting the map together.

    Nothing converts a column of whole numbers to whole numbers: KQL's conversion, which looks at each value's type,
    takes longer than all the rest of a query.
    """
    return _PARTS.sub(_column, apl)


def _column(part: re.Match[str]) -> str:
    key, call, end = part["key"], part["call"] or "", part["end"] or ""
    if key is None:
        return part[0]
    if key not in _COLUMN_TYPES:
        return f"{call}['{OTHERS}']['{key}']{end}"
    column = f"['{custom_column(key)}']"
    return column if _COLUMN_TYPES[key] is ValueType.INT else f"{call}{column}{end}"


def _at(span: Any) -> str:
    return f" (line {span.line}, column {span.column + 1})" if span is not None else ""


def _duckdb_kql() -> Any:
    try:
        return importlib.import_module("duckdb_kql")
    except ImportError as error:
        raise MissingExtraError("duckdb-kql") from error
