"""A spool that outlives its process: a SQLite file that the processes of one service share."""

from __future__ import annotations

import math
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final, NamedTuple
from uuid import uuid4

from ..payload import EncodedPayload, Payload
from .contract import LONGEST_PAUSE, PATIENCE, REPLAY_PAUSE, Entry, Evicted, Kept, Spool, Turn
from .database import Database

_THIS: Final = "WHERE id = ? AND owner = ? AND kept_at = ?"
_SPANS_OF: Final = f"SELECT spans FROM payloads {_THIS}"
_COLUMNS: Final = "id, owner, kept_at, spans, attempts, body"
_OLDEST: Final = f"""SELECT {_COLUMNS} FROM payloads
  WHERE attempts < {PATIENCE} OR tried_at + min(1 << min(attempts - {PATIENCE}, 16), {LONGEST_PAUSE}) <= ?
  ORDER BY attempts >= {PATIENCE}, id LIMIT 1"""
_BEHIND: Final = f"SELECT {_COLUMNS} FROM payloads WHERE owner = ? AND id > ? AND attempts = 0 ORDER BY id LIMIT ?"
_ROWS: Final = 64  # that are put into a batch at most


class _Row(NamedTuple):
    number: int
    owner: str
    kept_at: float
    spans: int
    attempts: int
    body: bytes

    @property
    def key(self) -> tuple[int, str, float]:
        """Numbers begin anew in a new file, so a number alone is none."""
        return self.number, self.owner, self.kept_at

    @property
    def payload(self) -> EncodedPayload:
        return EncodedPayload(self.body, self.spans)


class DiskSpool(Spool):
    """Keeps encoded payloads in the rows of one file. Nothing is made before the first one is put in."""

    def __init__(
        self,
        database: Database,
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
        self.path = database.path
        self._database = database
        self._most_bytes = most_bytes
        self._longest = longest
        self._batch = batch
        self._pause = pause
        self._clock = clock
        self._owner = uuid4().hex

    @property
    def perishable(self) -> int:
        return 0

    def put(self, payload: Payload) -> Evicted:
        assert isinstance(payload, EncodedPayload)  # what the pipeline is made of
        with self._database.writing() as db:
            row = (self._owner, self._clock(), payload.spans, payload.body)
            db.execute("INSERT INTO payloads (owner, kept_at, spans, body) VALUES (?, ?, ?, ?)", row)
            return self._evict(db)

    @property
    def may_hold(self) -> bool:
        return self._database.exists

    def kept(self) -> Kept:
        if not self._database.exists:
            return Kept()
        with self._database.reading() as db:
            rows = db.execute("SELECT owner, spans, size FROM totals").fetchall()
            (place,) = db.execute("SELECT file FROM origin").fetchone()
        mine = sum(spans for owner, spans, _ in rows if owner == self._owner)
        return Kept(mine, sum(row[1] for row in rows), sum(row[2] for row in rows), place)

    def turn(self) -> AbstractContextManager[Turn]:
        return self._database.turn.take(self._pause)

    def oldest(self, *, well: bool) -> Entry | None:
        with self._database.writing(making_room=True) as db:
            rows = self._oldest_rows(db, well)
            if not rows:
                return None
            # A file that takes this will take the removal, or the sink would get it for ever.
            now = self._clock()
            for row in rows:
                db.execute(f"UPDATE payloads SET attempts = attempts + 1, tried_at = ? {_THIS}", (now, *row.key))
            first, *others = rows
            return Entry(
                tuple(row.key for row in rows),
                first.payload.joined(row.payload for row in others),
                mine=first.owner == self._owner,
                tired=first.attempts >= PATIENCE,
            )

    def replace(self, entry: Entry, left: Payload | None) -> int:
        with self._database.writing(making_room=True) as db:
            self._database.turn.succeeded()
            found = [(key, row[0]) for key in entry.key if (row := db.execute(_SPANS_OF, key).fetchone())]
            for number, (key, _) in enumerate(found):
                if number == 0 and left is not None:
                    assert isinstance(left, EncodedPayload)
                    change = f"UPDATE payloads SET spans = ?, body = ? {_THIS}"
                    db.execute(change, (left.spans, left.body, *key))
                else:
                    db.execute(f"DELETE FROM payloads {_THIS}", key)
            return sum(spans for _, spans in found)

    def _oldest_rows(self, db: sqlite3.Connection, well: bool) -> list[_Row]:
        """The oldest payload, and those of its process behind it that make one batch with it: an outage of a quiet
        service leaves many small ones. One that is damaged stands alone, and so does one that has failed, be it in a
        batch: the fault may be its own.
        """
        now = self._clock() if well else math.inf
        oldest = db.execute(_OLDEST, (now,)).fetchone()
        if oldest is None:
            return []
        first = _Row(*oldest)
        rows, spans = [first], first.spans
        if first.attempts == 0 and first.payload.intact:
            for row in map(_Row._make, db.execute(_BEHIND, (first.owner, first.number, _ROWS))):
                spans += row.spans
                if spans > self._batch or not row.payload.intact:
                    break
                rows.append(row)
        return rows

    def renewed(self) -> DiskSpool:
        return DiskSpool(
            self._database.renewed(),
            most_bytes=self._most_bytes,
            longest=self._longest,
            batch=self._batch,
            pause=self._pause,
            clock=self._clock,
        )

    def before_fork(self) -> None:
        self._database.before_fork()

    def after_fork_in_parent(self) -> None:
        self._database.after_fork_in_parent()

    def close(self) -> None:
        self._database.close()

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
