"""The DuckDB file that keeps usage spans, each of them once."""

from __future__ import annotations

import hashlib
import importlib
import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from threading import Lock, Timer
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from .columns import values_of
from .errors import (
    MissingExtraError,
    QueryError,
    QueryTimeoutError,
    StoreError,
    StoreLockedError,
    StoreMissingError,
)
from .layout import SPANS, insert, prepare
from .otlp import ReceivedSpan

if TYPE_CHECKING:
    import duckdb

Rows = list[tuple[Any, ...]]
"""What a statement answers."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a reading statement found."""

    names: tuple[str, ...]
    types: tuple[str, ...]
    """DuckDB's types of the columns."""
    rows: Rows
    more: bool
    """Whether there are more rows."""


IN_MEMORY: Final = ":memory:"
"""The path of a store that lives as long as its object."""

_SETTINGS: Final = {
    # Queries come from whoever may ask. They are about the spans in this file, and not about the machine's other files.
    "enable_external_access": "false",
    # What a query may take of the machine: the sink stands beside the services that it serves.
    "memory_limit": "25%",
    "max_temp_directory_size": "8GB",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
}
_NANOSECONDS: Final = 1000
_CLOSE_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.02
_MAX_ANSWER: Final = 64 * 1024 * 1024
_FETCHED: Final = 100
_LOG: Final = logging.getLogger(__name__)


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
        self._reading: set[duckdb.DuckDBPyConnection] = set()
        self._duckdb = _import_duckdb()
        if must_exist and not Path(path).is_file():
            raise StoreMissingError(f"there is no file {self.path}: `otel-usage serve --db {self.path}` makes it")
        self._connection = self._open()

    def add(self, spans: Iterable[ReceivedSpan]) -> int:
        """Store the spans that are not there yet, by ``(trace_id, span_id)``, and return how many that were.

        A span that arrives again began when it did before: one of the same ids and another time is another span. They
        are committed when it returns; all of them, or none where it raises.

        Raises:
            StoreError: the batch could not be written, for example because the disk is full, or the store is closed.
        """
        batch = list({span.key: span for span in spans}.values())
        if not batch:
            return 0
        values = values_of(batch)
        sql, names = insert(frozenset(values))
        times = [span.start_time // _NANOSECONDS for span in batch]
        return int(self.rows(sql, [*(values[name] for name in names), min(times), max(times)])[0][0])

    def remove_before(self, moment: datetime) -> int:
        """Remove the spans that began before ``moment`` (with a time zone), and return how many that were.

        Raises:
            StoreError: the store is closed or damaged, or the disk is full.
        """
        before = moment.astimezone(UTC).replace(tzinfo=None)
        return int(self.rows(f"DELETE FROM {SPANS} WHERE _time < ?", [before])[0][0])

    def count(self) -> int:
        """How many spans are stored.

        Raises:
            StoreError: the store is closed or damaged.
        """
        return int(self.rows(f"SELECT count(*) FROM {SPANS}")[0][0])

    def rows(self, sql: str, parameters: Sequence[object] = ()) -> Rows:
        """The rows of one statement.

        Raises:
            StoreError: DuckDB refused it.
        """
        with self._lock:
            try:
                return self._connection.execute(sql, parameters).fetchall()
            except self._duckdb.Error as error:
                raise StoreError(f"{self.path}: {_first_line(error)}") from error

    def read(self, sql: str, parameters: Mapping[str, object], *, max_rows: int, seconds: float) -> Found:
        """The first ``max_rows`` rows of a statement that only reads. Spans are added meanwhile, and are not seen.

        Raises:
            QueryTimeoutError: it took longer than ``seconds``.
            QueryError: DuckDB refused it, or its rows are too long.
            StoreError: the store is closed.
        """
        with self._cursor() as cursor:
            timer = Timer(seconds, partial(self._interrupt, cursor))
            timer.daemon = True
            timer.start()
            try:
                cursor.execute(self._one_select(cursor, sql), parameters or None)
                columns = cursor.description or []
                rows = _fetched(cursor, max_rows + 1)
            except self._duckdb.InterruptException as error:
                raise QueryTimeoutError(f"the query was stopped: it may take {seconds:g} s, ask for less") from error
            except self._duckdb.Error as error:
                raise QueryError(_first_line(error)) from error
            finally:
                timer.cancel()
        names, types = zip(*((column[0], str(column[1])) for column in columns), strict=True)
        return Found(names, types, rows[:max_rows], len(rows) > max_rows)

    def _interrupt(self, cursor: duckdb.DuckDBPyConnection) -> None:
        with suppress(self._duckdb.Error):  # it is over, and closed, just now
            cursor.interrupt()

    def _one_select(self, cursor: duckdb.DuckDBPyConnection, sql: str) -> duckdb.Statement:
        statements: list[duckdb.Statement] = cursor.extract_statements(sql)
        if len(statements) != 1 or statements[0].type != self._duckdb.StatementType.SELECT:
            raise QueryError("it is not one statement that only reads")
        return statements[0]

    @contextmanager
    def _cursor(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection of its own, for what is not to hold up what is added."""
        with self._lock:
            try:
                cursor = self._connection.cursor()
            except self._duckdb.Error as error:
                raise StoreError(f"{self.path}: {_first_line(error)}") from error
            self._reading.add(cursor)
        try:
            yield cursor
        finally:
            cursor.close()
            with self._lock:
                self._reading.discard(cursor)

    def close(self) -> None:
        """Write everything to the file and let go of it, also of queries that still run. May be called twice."""
        deadline = time.monotonic() + _CLOSE_SECONDS
        while time.monotonic() < deadline:
            with self._lock:
                if not self._reading:
                    self._connection.close()
                    return
                # Again and again: an interruption is lost on a query that has not quite begun.
                for cursor in self._reading:
                    cursor.interrupt()
            time.sleep(_POLL_SECONDS)
        _LOG.error("%s was not closed in order: a query does not end", self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _open(self) -> duckdb.DuckDBPyConnection:
        try:
            connection: duckdb.DuckDBPyConnection = self._duckdb.connect(self.path, config=_SETTINGS)
        except self._duckdb.Error as error:
            raise _cannot_open(self.path, error) from error
        try:
            prepare(connection)
            connection.execute("SET GLOBAL TimeZone = 'UTC'")  # KQL's times have no zone, and are in UTC
            connection.execute("SET lock_configuration = true")
        except self._duckdb.Error as error:
            connection.close()
            raise _cannot_open(self.path, error) from error
        return connection


def _fetched(cursor: duckdb.DuckDBPyConnection, count: int) -> Rows:
    """The first rows, a few at a time: what is too long for an answer is not all in memory before that is known."""
    rows: Rows = []
    left = _MAX_ANSWER
    while len(rows) < count and (some := cursor.fetchmany(min(_FETCHED, count - len(rows)))):
        left -= sum(map(_length, some))
        if left < 0:
            raise QueryError(f"the answer is longer than {_MAX_ANSWER:,} characters: ask for less")
        rows += some
    return rows


def _length(value: object) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(map(_length, value.values()))
    return sum(map(_length, value)) if isinstance(value, (list, tuple)) else 8


def _import_duckdb() -> Any:
    try:
        return importlib.import_module("duckdb")
    except ImportError as error:
        raise MissingExtraError("duckdb") from error


def fingerprint(path: str | Path) -> str:
    """What tells one database file from another, on one machine, to whom its path is not told."""
    return hashlib.sha256(str(Path(path).resolve()).encode(errors="surrogateescape")).hexdigest()


def _cannot_open(path: str, error: Exception) -> StoreError:
    message = _first_line(error)
    if "lock on file" in message:
        return StoreLockedError(
            f"{path} is held by another process: stop that one, or ask it with `otel-usage report --endpoint URL`"
        )
    return StoreError(f"{path} cannot be opened as a usage database: {message}. Move it away, or name another file")


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].removeprefix("IO Error: ").rstrip(".!")
