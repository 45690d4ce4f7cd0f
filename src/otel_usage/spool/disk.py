"""A spool that outlives its process: a SQLite file that the processes of one service share."""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final, NamedTuple
from uuid import uuid4

from ..guard import say
from ..native import RLock
from ..payload import EncodedPayload, Payload
from .contract import REPLAY_PAUSE, Entry, Evicted, Kept, Spool, SpoolError, SpoolReplaced, Turn
from .place import FORMAT, Origin, make_private_file, of_other_versions
from .salvage import Row, rescue, set_aside
from .turn import ReplayTurn

_PATIENCE: Final = 1.0  # seconds to wait for another process's write

_TABLES: Final = (
    """CREATE TABLE payloads (
      id INTEGER PRIMARY KEY AUTOINCREMENT,  -- in the order of arrival, and never given twice
      owner TEXT NOT NULL,                   -- the process that put it in
      kept_at REAL NOT NULL,                 -- seconds since the epoch
      spans INTEGER NOT NULL,
      attempts INTEGER NOT NULL DEFAULT 0,
      body BLOB NOT NULL                     -- an ExportTraceServiceRequest, gzipped
    )""",
    "CREATE TABLE totals (owner TEXT PRIMARY KEY, spans INTEGER NOT NULL, size INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE origin (endpoint TEXT NOT NULL, dataset TEXT NOT NULL, service TEXT NOT NULL)",
    """CREATE TRIGGER payload_kept AFTER INSERT ON payloads BEGIN
      INSERT INTO totals VALUES (new.owner, new.spans, length(new.body))
        ON CONFLICT (owner) DO UPDATE SET spans = spans + excluded.spans, size = size + excluded.size;
    END""",
    """CREATE TRIGGER payload_cut AFTER UPDATE OF body ON payloads BEGIN
      UPDATE totals SET spans = spans + new.spans - old.spans, size = size + length(new.body) - length(old.body)
        WHERE owner = new.owner;
    END""",
    """CREATE TRIGGER payload_gone AFTER DELETE ON payloads BEGIN
      UPDATE totals SET spans = spans - old.spans, size = size - length(old.body) WHERE owner = old.owner;
      DELETE FROM totals WHERE owner = old.owner AND spans <= 0;
    END""",
    f"PRAGMA user_version = {FORMAT}",
)

_THIS: Final = "WHERE id = ? AND owner = ? AND kept_at = ?"
_SPANS_OF: Final = f"SELECT spans FROM payloads {_THIS}"
_OLDEST: Final = "SELECT id, owner, kept_at, spans, body FROM payloads ORDER BY id LIMIT ?"
_ROWS: Final = 64  # that are made into one batch at most

_WORDS: Final = {
    "SQLITE_FULL": "the disk is full",
    "SQLITE_READONLY": "it is read-only",
    "SQLITE_CANTOPEN": "it cannot be opened",
    "SQLITE_BUSY": "another process holds it",
    "SQLITE_IOERR": "the disk has an input/output error",
}

_DAMAGES: Final = ("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_MISMATCH")

_ABANDONED: Final[list[sqlite3.Connection]] = []
"""Connections that a fork took into this process. SQLite says not to use them there, and closing is a use."""


class _Row(NamedTuple):
    key: tuple[int, str, float]
    payload: EncodedPayload


class DiskSpool(Spool):
    """Keeps encoded payloads in one file. Nothing is made before the first one is put in.

    Journalled without a write-ahead log: one file, which may be moved aside while another process has it open, and on
    any file system that can lock. A committed payload outlives the kill of its process and a loss of power.
    """

    def __init__(
        self,
        path: Path,
        origin: Origin,
        *,
        most_bytes: int,
        longest: float,
        batch: int = 512,
        pause: float = REPLAY_PAUSE,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``most_bytes``: of all payloads. ``longest``: seconds that a payload is kept. ``batch``: spans up to which
        small payloads are handed out as one. ``pause``: seconds between two turns. ``clock``: of the epoch.
        """
        self.path = path
        self._origin = origin
        self._most_bytes = most_bytes
        self._longest = longest
        self._batch = batch
        self._pause = pause
        self._clock = clock
        self._owner = uuid4().hex
        self._turn = ReplayTurn(path.with_name(f"{path.name}.lock"))
        self._lock = RLock()
        self._db: sqlite3.Connection | None = None
        self._inode: tuple[int, int] | None = None
        self._forking = False
        self._cramped = False

    @property
    def perishable(self) -> int:
        return 0

    def put(self, payload: Payload) -> Evicted:
        assert isinstance(payload, EncodedPayload)  # what the pipeline is made of
        with self._writing() as db:
            row = (self._owner, self._clock(), payload.spans, payload.body)
            db.execute("INSERT INTO payloads (owner, kept_at, spans, body) VALUES (?, ?, ?, ?)", row)
            return self._evict(db)

    def kept(self) -> Kept:
        with self._lock:
            if self._inode_now() is None:
                return Kept()
            with self._connected() as db:
                rows = db.execute("SELECT owner, spans, size FROM totals").fetchall()
        mine = sum(spans for owner, spans, _ in rows if owner == self._owner)
        return Kept(mine, sum(row[1] for row in rows), sum(row[2] for row in rows))

    def turn(self) -> AbstractContextManager[Turn]:
        return self._turn.take(self._pause)

    def oldest(self) -> Entry | None:
        with self._writing(self._journal_for_removal) as db:
            rows = self._oldest_rows(db)
            if not rows:
                self._cramped = False
                return None
            # Not for its number: a file that takes this will take the removal, or the sink would get it for ever.
            db.execute(f"UPDATE payloads SET attempts = attempts + 1 {_THIS}", rows[0].key)
            first, *others = (row.payload for row in rows)
            return Entry(tuple(row.key for row in rows), first.joined(others), rows[0].key[1] == self._owner)

    def replace(self, entry: Entry, left: Payload | None) -> int:
        with self._writing(self._journal_for_removal) as db:
            found = [(key, row[0]) for key in entry.key if (row := db.execute(_SPANS_OF, key).fetchone())]
            for number, (key, _) in enumerate(found):
                if number == 0 and left is not None:
                    assert isinstance(left, EncodedPayload)
                    change = f"UPDATE payloads SET spans = ?, body = ? {_THIS}"
                    db.execute(change, (left.spans, left.body, *key))
                else:
                    db.execute(f"DELETE FROM payloads {_THIS}", key)
            return sum(spans for _, spans in found)

    def _oldest_rows(self, db: sqlite3.Connection) -> list[_Row]:
        """The oldest payload, and those behind it that make one batch with it: an outage of a quiet service leaves
        many small ones. One that is damaged stands alone.
        """
        rows: list[_Row] = []
        spans = 0
        for number, owner, kept_at, count, body in db.execute(_OLDEST, (_ROWS,)):
            row = _Row((number, owner, kept_at), EncodedPayload(body, count))
            spans += count
            fits = not rows or (spans <= self._batch and owner == rows[0].key[1])
            if not fits or (rows and not row.payload.intact):
                break
            rows.append(row)
            if not row.payload.intact:
                break
        return rows

    def renewed(self) -> DiskSpool:
        self._turn.forget()
        if self._db is not None:
            _ABANDONED.append(self._db)
        return DiskSpool(
            self.path,
            self._origin,
            most_bytes=self._most_bytes,
            longest=self._longest,
            batch=self._batch,
            pause=self._pause,
            clock=self._clock,
        )

    def before_fork(self) -> None:
        # Without the lock where a disk does not answer: a fork must not wait for it. The child abandons the connection.
        self._forking = self._lock.acquire(timeout=_PATIENCE)
        if self._forking:
            self.close()

    def after_fork_in_parent(self) -> None:
        if self._forking:
            self._lock.release()

    def close(self) -> None:
        with self._lock:
            db, self._db = self._db, None
            if db is not None:
                db.close()

    # -- the file ------------------------------------------------------------------------------------------------------

    @contextmanager
    def _writing(self, journal: str = "TRUNCATE") -> Iterator[sqlite3.Connection]:
        with self._lock, self._connected() as db:
            db.execute(f"PRAGMA journal_mode = {journal}")
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            finally:
                if db.in_transaction:
                    db.execute("ROLLBACK")

    @property
    def _journal_for_removal(self) -> str:
        """Where a full disk has no room for a journal, what is on it could never leave it again. So there, the journal
        is in memory: a kill in that very moment damages the file, which is then salvaged.
        """
        return "MEMORY" if self._cramped else "TRUNCATE"

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        """The open file. What SQLite raises becomes a SpoolError; a file that is damaged is set aside."""
        try:
            yield self._connection()
        except OSError as error:
            self.close()
            raise SpoolError(os.strerror(error.errno) if error.errno else type(error).__name__) from None
        except sqlite3.Error as error:
            self.close()
            name = getattr(error, "sqlite_errorname", None) or type(error).__name__
            self._cramped = self._cramped or name == "SQLITE_FULL"
            if name.startswith(_DAMAGES) or str(error).startswith("no such "):
                self._start_anew("is damaged")
                raise SpoolReplaced("it was damaged") from None
            raise SpoolError(
                next((words for prefix, words in _WORDS.items() if name.startswith(prefix)), name)
            ) from None

    def _connection(self) -> sqlite3.Connection:
        inode = self._inode_now()
        if self._db is not None and self._inode == inode:
            return self._db
        self.close()
        make_private_file(self.path)
        self._inode = self._inode_now()
        self._db = self._open()
        if inode is None:
            for other in of_other_versions(self.path):
                say(logging.WARNING, "%s was left by another version of otel_usage, and stays as it is", other)
        return self._db

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False)
        try:
            if self._version(db) == 0:
                self._make_tables(db)
            db.execute("PRAGMA synchronous = NORMAL")
            version = self._version(db)
        except BaseException:
            db.close()
            raise
        if version != FORMAT:
            db.close()
            self._start_anew(f"has format {version}, which is another version's")
            raise SpoolReplaced("it was written by another version")
        return db

    def _version(self, db: sqlite3.Connection) -> int:
        return int(db.execute("PRAGMA user_version").fetchone()[0])

    def _make_tables(self, db: sqlite3.Connection) -> None:
        db.execute("PRAGMA auto_vacuum = FULL")  # or the file would stay as large as in the worst outage
        db.execute("BEGIN IMMEDIATE")
        try:
            if self._version(db) == 0:  # else another process was faster
                for statement in _TABLES:
                    db.execute(statement)
                origin = self._origin
                db.execute("INSERT INTO origin VALUES (?, ?, ?)", (origin.endpoint, origin.dataset, origin.service))
            db.execute("COMMIT")
        finally:
            if db.in_transaction:
                db.execute("ROLLBACK")

    def _inode_now(self) -> tuple[int, int] | None:
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _start_anew(self, why: str) -> None:
        """Move a file that cannot be used aside, and take over from it what can be read."""
        with self._turn.take(0.0) as turn:
            if turn is not Turn.MINE:
                raise SpoolError(f"it {why}, and another process is about it")
            if self._inode_now() != self._inode:
                return  # another process has been faster
            try:
                aside = set_aside(self.path)
            except OSError as error:
                raise SpoolError(f"it {why} and cannot be moved aside: {os.strerror(error.errno or 0)}") from None
            say(logging.ERROR, "the usage spool %s %s, and was moved to %s", self.path, why, aside)
            saved = sum(self._take_over(row) for row in rescue(aside))
            say(logging.ERROR, "%d spans were taken over from %s", saved, aside)

    def _take_over(self, row: Row) -> int:
        try:
            db = self._connection()
            db.execute("INSERT INTO payloads (id, owner, kept_at, spans, body) VALUES (?, ?, ?, ?, ?)", row)
        except (SpoolError, sqlite3.Error):
            return 0
        return row[3]

    def _evict(self, db: sqlite3.Connection) -> Evicted:
        mine: Counter[str] = Counter()
        others: Counter[str] = Counter()
        too_old = self._clock() - self._longest
        size = db.execute("SELECT total(size) FROM totals").fetchone()[0]
        while True:
            oldest = "SELECT id, owner, kept_at, spans, length(body) FROM payloads ORDER BY id LIMIT 1"
            row = db.execute(oldest).fetchone()
            if row is None or (size <= self._most_bytes and row[2] >= too_old):
                return Evicted(mine, others)
            key, owner, kept_at, spans, length = row
            (mine if owner == self._owner else others)["spool_expired" if kept_at < too_old else "spool_full"] += spans
            db.execute("DELETE FROM payloads WHERE id = ?", (key,))
            size -= length
