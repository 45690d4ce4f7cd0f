"""A spool on disk with a shelter in memory, for as long as the disk does not do."""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Final

from ..guard import say
from ..payload import Payload
from .contract import Entry, Evicted, Kept, Spool, SpoolError, SpoolReplaced, Turn
from .disk import DiskSpool
from .memory import MemorySpool

SHELTER: Final = 16 * 2**20
"""Bytes that are kept in memory at most while the disk cannot be used."""


RETRY: Final = 5.0
"""Seconds that a disk is left alone that could not be used: each try may cost a second."""


class ShelteredSpool(Spool):
    """Keeps payloads on disk. A full, read-only or failing disk costs nothing but their durability: they wait in
    memory, in order, and go to disk when it is back.
    """

    def __init__(self, disk: DiskSpool, clock: Callable[[], float] = time.monotonic) -> None:
        self._disk = disk
        self._clock = clock
        self._shelter = MemorySpool(most_bytes=SHELTER)
        self._trouble: str | None = None
        self._not_before = -math.inf
        self._disk_has_turn = False
        self._being_sent = False
        self._there = Kept()

    @property
    def trouble(self) -> str | None:
        return self._trouble

    @property
    def perishable(self) -> int:
        return self._shelter.perishable

    @property
    def may_hold(self) -> bool:
        return self._disk.may_hold

    def put(self, payload: Payload) -> Evicted:
        return _sum(self._shelter.put(payload), self.catch_up())

    def catch_up(self, *, hurry: bool = False) -> Evicted:
        lost = [Evicted()]
        # What is being sent from memory stays there until it is known what becomes of it.
        while self._shelter.perishable and not self._being_sent and (hurry or self._disk_is_due):
            entry = self._shelter.first()
            try:
                lost.append(self._put_on_disk(entry.payload))
            except SpoolError as error:
                self._disturbed(error)
                break
            self._shelter.replace(entry, None)
            self._well()
        return _sum(*lost)

    def kept(self) -> Kept:
        """What is there; of a disk that does not answer, what was there last."""
        try:
            if self._disk_is_due:
                self._there = self._disk.kept()
        except SpoolError as error:
            self._disturbed(error)
        here, there = self._shelter.kept(), self._there
        return Kept(here.mine + there.mine, here.spans + there.spans, here.size + there.size, there.place)

    @contextmanager
    def turn(self) -> Iterator[Turn]:
        with ExitStack() as stack:
            turn = Turn.MINE  # of what is in memory, which is this process's alone
            self._disk_has_turn = False
            if self._disk_is_due:
                try:
                    turn = stack.enter_context(self._disk.turn())
                    self._disk_has_turn = turn is Turn.MINE
                except SpoolError as error:
                    self._disturbed(error)
            try:
                yield turn
            finally:
                self._being_sent = False

    def oldest(self, *, well: bool) -> Entry | None:
        try:
            entry = self._disk.oldest(well=well) if self._disk_has_turn else None
        except SpoolError as error:
            self._disturbed(error)
            entry = None
        if entry is None:
            entry = self._shelter.oldest(well=well)
            self._being_sent = entry is not None
        return entry

    def replace(self, entry: Entry, left: Payload | None) -> int:
        if self._being_sent:
            return self._shelter.replace(entry, left)
        found = self._disk.replace(entry, left)
        gone = found - (left.count if left is not None else 0)
        there = self._there
        self._there = replace(there, mine=there.mine - (gone if entry.mine else 0), spans=there.spans - gone)
        return found

    def renewed(self) -> ShelteredSpool:
        return ShelteredSpool(self._disk.renewed(), self._clock)

    def before_fork(self) -> None:
        self._disk.before_fork()

    def after_fork_in_parent(self) -> None:
        self._disk.after_fork_in_parent()

    def close(self) -> None:
        self._disk.close()

    @property
    def _disk_is_due(self) -> bool:
        return self._clock() >= self._not_before

    def _put_on_disk(self, payload: Payload) -> Evicted:
        try:
            evicted = self._disk.put(payload)
        except SpoolReplaced:
            evicted = self._disk.put(payload)
        # Should the disk not answer when it is asked what it has.
        mine = payload.count - sum(evicted.mine.values())
        there = self._there
        self._there = replace(
            there,
            mine=there.mine + mine,
            spans=there.spans + mine - sum(evicted.others.values()),
            size=there.size + payload.size,
        )
        return evicted

    def _disturbed(self, error: SpoolError) -> None:
        if isinstance(error, SpoolReplaced):
            return  # and said so
        self._not_before = self._clock() + RETRY
        trouble = str(error)
        if trouble != self._trouble:
            self._trouble = trouble
            message = "usage cannot be kept on disk in %s: %s; up to %d MiB of it are kept in memory"
            say(logging.ERROR, message, self._disk.path, trouble, SHELTER // 2**20)

    def _well(self) -> None:
        self._not_before = -math.inf
        if self._trouble is not None:
            self._trouble = None
            say(logging.INFO, "usage is kept on disk again in %s", self._disk.path)


def _sum(*parts: Evicted) -> Evicted:
    mine: Counter[str] = Counter()
    others: Counter[str] = Counter()
    for part in parts:
        mine.update(part.mine)
        others.update(part.others)
    return Evicted(mine, others)
