"""The DuckDB file that keeps usage spans, each of them once."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from .columns import COLUMNS
from .errors import MissingExtraError, StoreError, StoreLockedError, StoreMissingError
from .otlp import ReceivedSpan

if TYPE_CHECKING:
    import duckdb

Rows = list[tuple[Any, ...]]
"""What a statement answers."""

TABLE: Final = "api_usage"
"""The table's name: that of the default Axiom dataset, so that a query runs unchanged in both places."""

IN_MEMORY: Final = ":memory:"
"""The path of a store that lives as long as its object."""

_CREATE: Final = (
    f"CREATE TABLE IF NOT EXISTS {TABLE} ("
    + ", ".join(f"{column.quoted} {column.sql_type}" for column in COLUMNS)
    + ", PRIMARY KEY (trace_id, span_id))"
)

# One list for each column, unnested side by side: an order of magnitude faster than a row at a time, without Arrow.
_INSERT: Final = (
    f"INSERT INTO {TABLE} ({', '.join(column.quoted for column in COLUMNS)}) "
    f"SELECT {', '.join(column.expression.format(f'c{number}') for number, column in enumerate(COLUMNS))} "
    f"FROM (SELECT {', '.join(f'unnest(CAST(? AS {column.parameter_type}[]))' for column in COLUMNS)}) "
    f"AS batch({', '.join(f'c{number}' for number in range(len(COLUMNS)))}) "
    "ON CONFLICT DO NOTHING"
)


class UsageStore:
    """Usage spans in one DuckDB file. Thread-safe: one statement at a time.

    A file belongs to one process at a time; that is DuckDB's rule.
    """

    def __init__(self, path: str | Path, *, must_exist: bool = False) -> None:
        """Open the file, make the table, and add the columns that it lacks.

        ``path``: the file, or :data:`IN_MEMORY`. ``must_exist``: do not make a new file.

        Raises:
            MissingExtraError: DuckDB is not installed.
            StoreMissingError: there is no such file, and ``must_exist`` is set.
            StoreLockedError: another process holds the file.
            StoreError: the file is not a DuckDB database, is damaged, or cannot be opened.
        """
        self.path = str(path)
        self._lock = Lock()
        self._duckdb = _import_duckdb()
        if must_exist and not Path(path).is_file():
            raise StoreMissingError(f"there is no file {self.path}: `otel-usage serve --db {self.path}` makes it")
        self._connection = self._open()

    def add(self, spans: Iterable[ReceivedSpan]) -> int:
        """Store the spans that are not there yet, by ``(trace_id, span_id)``, and return how many that were.

        They are committed when it returns; all of them, or none where it raises.

        Raises:
            StoreError: the batch could not be written, for example because the disk is full, or the store is closed.
        """
        batch = list({span.key: span for span in spans}.values())
        if not batch:
            return 0
        stored = self.rows(_INSERT, [[column.value(span) for span in batch] for column in COLUMNS])
        return int(stored[0][0])

    def count(self) -> int:
        """How many spans are stored.

        Raises:
            StoreError: the store is closed or damaged.
        """
        return int(self.rows(f"SELECT count(*) FROM {TABLE}")[0][0])

    def rows(self, sql: str, parameters: Sequence[object] = ()) -> Rows:
        """The rows of one statement.

        Raises:
            StoreError: DuckDB refused it.
        """
        return self.snapshot([sql], parameters)[0]

    def snapshot(self, statements: Iterable[str], parameters: Sequence[object] = ()) -> list[Rows]:
        """The rows of several statements with the same parameters. No span is added between them.

        Raises:
            StoreError: DuckDB refused one of them.
        """
        with self._lock:
            try:
                return [self._connection.execute(sql, parameters).fetchall() for sql in statements]
            except self._duckdb.Error as error:
                raise StoreError(f"{self.path}: {_first_line(error)}") from error

    def close(self) -> None:
        """Write everything to the file and let go of it. May be called twice."""
        with self._lock:
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _open(self) -> duckdb.DuckDBPyConnection:
        try:
            connection: duckdb.DuckDBPyConnection = self._duckdb.connect(self.path)
        except self._duckdb.Error as error:
            raise _cannot_open(self.path, error) from error
        try:
            connection.execute(_CREATE)
            _add_missing_columns(connection)
        except self._duckdb.Error as error:
            connection.close()
            raise _cannot_open(self.path, error) from error
        return connection


def _add_missing_columns(connection: duckdb.DuckDBPyConnection) -> None:
    existing = {row[0] for row in connection.execute(f"DESCRIBE {TABLE}").fetchall()}
    for column in COLUMNS:
        if column.name not in existing:
            connection.execute(f"ALTER TABLE {TABLE} ADD COLUMN {column.quoted} {column.sql_type}")


def _import_duckdb() -> Any:
    try:
        return importlib.import_module("duckdb")
    except ImportError as error:
        raise MissingExtraError("duckdb") from error


def _cannot_open(path: str, error: Exception) -> StoreError:
    message = _first_line(error)
    if "lock on file" in message:
        return StoreLockedError(
            f"{path} is held by another process: stop that one, or ask it with `otel-usage report --endpoint URL`"
        )
    return StoreError(f"{path} cannot be opened as a usage database: {message}. Move it away, or name another file")


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].removeprefix("IO Error: ").rstrip(".!")
