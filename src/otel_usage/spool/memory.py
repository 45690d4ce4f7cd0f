"""A spool that ends with its process."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from ..payload import Payload
from .contract import Entry, Evicted, Kept, Spool, Turn


class MemorySpool(Spool):
    """Keeps payloads in memory, of any kind."""

    def __init__(self, *, most_bytes: int, most_spans: int | None = None) -> None:
        """The bounds, of payloads whose size is known and of spans. ``most_spans`` None: unbounded."""
        self._most_bytes = most_bytes
        self._most_spans = most_spans
        self._payloads: deque[Payload] = deque()
        self._spans = 0
        self._size = 0

    @property
    def perishable(self) -> int:
        return self._spans

    def put(self, payload: Payload) -> Evicted:
        self._payloads.append(payload)
        self._count(payload, 1)
        lost = 0
        while self._payloads and self._full():
            oldest = self._payloads.popleft()
            self._count(oldest, -1)
            lost += oldest.count
        return Evicted({"spool_full": lost}) if lost else Evicted()

    def kept(self) -> Kept:
        return Kept(self._spans, self._spans, self._size)

    @contextmanager
    def turn(self) -> Iterator[Turn]:
        yield Turn.MINE

    def oldest(self) -> Entry | None:
        return Entry(None, self._payloads[0], mine=True) if self._payloads else None

    def replace(self, entry: Entry, left: Payload | None) -> int:
        if not self._payloads or self._payloads[0] is not entry.payload:
            return 0
        self._count(self._payloads.popleft(), -1)
        if left is not None:
            self._payloads.appendleft(left)
            self._count(left, 1)
        return entry.payload.count

    def renewed(self) -> MemorySpool:
        return MemorySpool(most_bytes=self._most_bytes, most_spans=self._most_spans)

    def _full(self) -> bool:
        return self._size > self._most_bytes or (self._most_spans is not None and self._spans > self._most_spans)

    def _count(self, payload: Payload, sign: int) -> None:
        self._spans += sign * payload.count
        self._size += sign * payload.size
