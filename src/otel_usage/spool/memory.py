"""A spool that ends with its process."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ..payload import Payload
from .contract import LONGEST_PAUSE, PATIENCE, Entry, Evicted, Kept, Spool, Turn


@dataclass(slots=True, eq=False)
class _Kept:
    payload: Payload
    attempts: int = 0
    tried_at: float = -math.inf

    @property
    def pause(self) -> int:
        """Seconds until it is tried again, once it has failed often."""
        return min(1 << max(0, self.attempts - PATIENCE), LONGEST_PAUSE)


class MemorySpool(Spool):
    """Keeps payloads in memory, of any kind."""

    def __init__(
        self, *, most_bytes: int, most_spans: int | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """The bounds, of payloads whose size is known and of spans. ``most_spans`` None: unbounded."""
        self._most_bytes = most_bytes
        self._most_spans = most_spans
        self._clock = clock
        self._rows: deque[_Kept] = deque()
        self._spans = 0
        self._size = 0

    @property
    def perishable(self) -> int:
        return self._spans

    def put(self, payload: Payload) -> Evicted:
        self._rows.append(_Kept(payload))
        self._count(payload, 1)
        lost = 0
        while self._rows and self._full():
            oldest = self._rows.popleft().payload
            self._count(oldest, -1)
            lost += oldest.count
        return Evicted({"spool_full": lost}) if lost else Evicted()

    def kept(self) -> Kept:
        return Kept(self._spans, self._spans, self._size)

    @contextmanager
    def turn(self) -> Iterator[Turn]:
        yield Turn.MINE

    def oldest(self, *, well: bool) -> Entry | None:
        now = self._clock()
        row = next((row for row in self._rows if row.attempts < PATIENCE), None)
        if row is None:
            row = next((row for row in self._rows if not well or row.tried_at + row.pause <= now), None)
        if row is None:
            return None
        tired = row.attempts >= PATIENCE
        row.attempts, row.tried_at = row.attempts + 1, now
        return Entry(row, row.payload, mine=True, tired=tired)

    def first(self) -> Entry:
        """The oldest payload, whatever was tried with it. There must be one."""
        return Entry(self._rows[0], self._rows[0].payload, mine=True)

    def replace(self, entry: Entry, left: Payload | None) -> int:
        if not any(row is entry.key for row in self._rows):
            return 0  # it has made room for a newer one while it was being sent
        self._count(entry.payload, -1)
        if left is None:
            self._rows.remove(entry.key)
        else:
            entry.key.payload = left
            self._count(left, 1)
        return entry.payload.count

    def renewed(self) -> MemorySpool:
        return MemorySpool(most_bytes=self._most_bytes, most_spans=self._most_spans, clock=self._clock)

    def _full(self) -> bool:
        return self._size > self._most_bytes or (self._most_spans is not None and self._spans > self._most_spans)

    def _count(self, payload: Payload, sign: int) -> None:
        self._spans += sign * payload.count
        self._size += sign * payload.size
