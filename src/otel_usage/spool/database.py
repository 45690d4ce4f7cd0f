"""The SQLite file under a spool: opened, shared, closed at forks, and made anew where it is damaged."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from uuid import uuid4

from ..guard import say
from ..native import RLock
from .contract import SpoolError, SpoolReplaced, Turn
from .place import FORMAT, Origin, make_private_file, of_other_versions
from .salvage import rescue, rescued, set_aside, waiting_for_rescue
from .turn import ReplayTurn

PATIENCE: Final = 0.5
"""Seconds to wait for another process's write, or for one's own at a fork."""

_TABLES: Final = (
    """CREATE TABLE payloads (
      id INTEGER PRIMARY KEY AUTOINCREMENT,  -- in the order of arrival, and never given twice
      owner TEXT NOT NULL,                   -- the process that put it in
      kept_at REAL NOT NULL,                 -- seconds since the epoch
      spans INTEGER NOT NULL,
      attempts INTEGER NOT NULL DEFAULT 0,
      tried_at REAL NOT NULL DEFAULT 0,      -- seconds since the epoch
      body BLOB NOT NULL                     -- an ExportTraceServiceRequest, gzipped
    )""",
    "CREATE TABLE totals (owner TEXT PRIMARY KEY, spans INTEGER NOT NULL, size INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE origin (file TEXT NOT NULL, endpoint TEXT NOT NULL, dataset TEXT NOT NULL, service TEXT NOT NULL)",
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


class Database:
    """One file, which processes share. Nothing is made before something is written.

    Journalled without a write-ahead log: one file, which may be moved aside while another process has it open, and on
    any file system that can lock. What is committed outlives the kill of its process.
    """

    def __init__(self, path: Path, origin: Origin) -> None:
        self.path = path
        self.turn = ReplayTurn(path.with_name(f"{path.name}.lock"))
        self._origin = origin
        self._lock = RLock()
        self._db: sqlite3.Connection | None = None
        self._inode: tuple[int, int] | None = None
        self._forking = False
        self._cramped = False
        self._lost_in_fork = False

    @property
    def exists(self) -> bool:
        """Whether there is a file."""
        return self._inode_now() is not None

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection to read from.

        Raises:
            SpoolError: the file cannot be used, or not now.
            SpoolReplaced: it was damaged and has been made anew.
        """
        with self._lock, self._connected() as db:
            yield db

    @contextmanager
    def writing(self, *, making_room: bool = False) -> Iterator[sqlite3.Connection]:
        """A transaction, committed at the end of the block. ``making_room``: it removes more than it adds.

        Raises:
            SpoolError: as for :meth:`reading`; nothing was written.
        """
        with self._lock, self._connected() as db:
            # Where a full disk has no room for a journal, what is on it could never leave it again. So there, it is in
            # memory: a kill in that very moment damages the file, which is then salvaged.
            db.execute(f"PRAGMA journal_mode = {'MEMORY' if making_room and self._cramped else 'TRUNCATE'}")
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            finally:
                if db.in_transaction:
                    db.execute("ROLLBACK")
            self._cramped = self._cramped and making_room

    def close(self) -> None:
        """Let go of the file. It is opened again when it is needed."""
        with self._lock:
            db, self._db = self._db, None
            if db is not None:
                db.close()

    def before_fork(self) -> None:
        """Close the file: SQLite says that a connection must not be in two processes."""
        # Without it where a disk does not answer: a fork must not wait for it. The child abandons the connection.
        self._forking = self._lock.acquire(timeout=PATIENCE)
        if self._forking:
            self.close()

    def after_fork_in_parent(self) -> None:
        """Go on."""
        if self._forking:
            self._lock.release()

    def renewed(self) -> Database:
        """The same in a forked child."""
        self.turn.forget()
        child = Database(self.path, self._origin)
        if self._db is not None:
            _ABANDONED.append(self._db)
            child._lost_in_fork = True  # SQLite's own note of the locks on this file came along, and is the parent's
        return child

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
            if name.startswith(_DAMAGES) or str(error).startswith(("no such ", "Could not decode")):
                self._start_anew("is damaged")
                raise SpoolReplaced("it was damaged") from None
            raise SpoolError(
                next((words for prefix, words in _WORDS.items() if name.startswith(prefix)), name)
            ) from None

    def _connection(self) -> sqlite3.Connection:
        if self._lost_in_fork:
            raise SpoolError("it was in use when this process was forked")
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
        self._rescue_what_is_left()
        return self._db

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, timeout=PATIENCE, isolation_level=None, check_same_thread=False)
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
                values = (uuid4().hex, origin.endpoint, origin.dataset, origin.service)
                db.execute("INSERT INTO origin VALUES (?, ?, ?, ?)", values)
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
        with self.turn.take(0.0) as turn:
            if turn is not Turn.MINE:
                raise SpoolError(f"it {why}, and another process is about it")
            if self._inode_now() != self._inode:
                return  # another process has been faster
            try:
                damaged = set_aside(self.path)
            except OSError as error:
                raise SpoolError(f"it {why} and cannot be moved aside: {os.strerror(error.errno or 0)}") from None
            say(logging.ERROR, "the usage spool %s %s, and was moved to %s", self.path, why, damaged)
            self.close()
            self._connection()  # a new one, with what can be read of the other

    def _rescue_what_is_left(self) -> None:
        """Take over what can be read of files that were set aside, also by a process that did not come to it."""
        for damaged in waiting_for_rescue(self.path):
            with self.turn.take(0.0) as turn:
                if turn is Turn.MINE and damaged.exists():
                    self._rescue(damaged)

    def _rescue(self, damaged: Path) -> None:
        assert self._db is not None
        db, saved = self._db, 0
        db.execute("BEGIN IMMEDIATE")
        try:
            for number, owner, kept_at, spans, body in rescue(damaged):
                taken = db.execute("SELECT 1 FROM payloads WHERE id = ?", (number,)).fetchone()  # by a newer payload
                values = (None if taken else number, owner, kept_at, spans, body)
                db.execute("INSERT INTO payloads (id, owner, kept_at, spans, body) VALUES (?, ?, ?, ?, ?)", values)
                saved += spans
            db.execute("COMMIT")  # all of them, or it is done again
        finally:
            if db.in_transaction:
                db.execute("ROLLBACK")
        say(logging.ERROR, "%d spans were taken over from %s", saved, rescued(damaged))
