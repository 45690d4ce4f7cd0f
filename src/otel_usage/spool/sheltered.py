"""A spool on disk with a shelter in memory, for as long as the disk does not do."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

from ..guard import say
from ..payload import Payload
from .contract import Entry, Evicted, Kept, Spool, SpoolError, SpoolReplaced, Turn
from .disk import DiskSpool
from .memory import MemorySpool

SHELTER: Final = 16 * 2**20
"""Bytes that are kept in memory at most while the disk cannot be used."""


class ShelteredSpool(Spool):
    """Keeps payloads on disk. A full, read-only or failing disk costs nothing but their durability: they wait in
    memory, in order, and go to disk when it is back.
    """

    def __init__(self, disk: DiskSpool) -> None:
        self._disk = disk
        self._shelter = MemorySpool(most_bytes=SHELTER)
        self._trouble: str | None = None
        self._disk_has_turn = False
        self._there = Kept()

    @property
    def trouble(self) -> str | None:
        return self._trouble

    @property
    def perishable(self) -> int:
        return self._shelter.perishable

    def put(self, payload: Payload) -> Evicted:
        lost = [self._shelter.put(payload)]
        try:
            while (entry := self._shelter.oldest()) is not None:
                lost.append(self._put_on_disk(entry.payload))
                self._shelter.replace(entry, None)
        except SpoolError as error:
            self._disturbed(error)
        else:
            self._well()
        return _sum(lost)

    def kept(self) -> Kept:
        """What is there; of a disk that does not answer, what was there last."""
        try:
            self._there = self._disk.kept()
        except SpoolError as error:
            self._disturbed(error)
        here, there = self._shelter.kept(), self._there
        return Kept(here.mine + there.mine, here.spans + there.spans, here.size + there.size)

    @contextmanager
    def turn(self) -> Iterator[Turn]:
        with ExitStack() as stack:
            try:
                turn = stack.enter_context(self._disk.turn())
                self._disk_has_turn = turn is Turn.MINE
            except SpoolError as error:
                self._disturbed(error)
                self._disk_has_turn = False
                turn = Turn.MINE  # of what is in memory, which is this process's alone
            yield turn

    def oldest(self) -> Entry | None:
        try:
            entry = self._disk.oldest() if self._disk_has_turn else None
        except SpoolError as error:
            self._disturbed(error)
            entry = None
        return self._shelter.oldest() if entry is None else entry

    def replace(self, entry: Entry, left: Payload | None) -> int:
        return (self._shelter if entry.key is None else self._disk).replace(entry, left)

    def _put_on_disk(self, payload: Payload) -> Evicted:
        try:
            evicted = self._disk.put(payload)
        except SpoolReplaced:
            evicted = self._disk.put(payload)
        there = self._there  # should the disk not answer when it is asked what it has
        self._there = Kept(there.mine + payload.count, there.spans + payload.count, there.size + payload.size)
        return evicted

    def renewed(self) -> ShelteredSpool:
        return ShelteredSpool(self._disk.renewed())

    def before_fork(self) -> None:
        self._disk.before_fork()

    def after_fork_in_parent(self) -> None:
        self._disk.after_fork_in_parent()

    def close(self) -> None:
        self._disk.close()

    def _disturbed(self, error: SpoolError) -> None:
        trouble = str(error)
        if trouble != self._trouble and not isinstance(error, SpoolReplaced):
            self._trouble = trouble
            say(logging.ERROR, "usage cannot be kept on disk in %s: %s; up to %d MiB of it are kept in memory",
                self._disk.path, trouble, SHELTER // 2**20,
            )  # fmt: skip

    def _well(self) -> None:
        if self._trouble is not None:
            self._trouble = None
            say(logging.INFO, "usage is kept on disk again in %s", self._disk.path)


def _sum(parts: list[Evicted]) -> Evicted:
    mine: Counter[str] = Counter()
    others: Counter[str] = Counter()
    for part in parts:
        mine.update(part.mine)
        others.update(part.others)
    return Evicted(mine, others)
