"""One process at a time: the turn to replay is a lock on a file, and the file's time says when the last one was."""

from __future__ import annotations

import fcntl  # POSIX alone: elsewhere there is no spool on disk (opening.py)
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from .contract import SpoolError, Turn

FRESH: Final = 5.0
"""Seconds that a turn in which the sink took something is a sign that it does."""


class ReplayTurn:
    """The right to replay a spool, for the length of one attempt. The system takes it back from a process that dies.

    The file's time is that of the end of the last turn in which the sink took something.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._held: int | None = None
        self._last: int | None = None
        self._successful = False

    @contextmanager
    def take(self, pause: float) -> Iterator[Turn]:
        """Whose turn it is, for the ``with`` block. ``pause``: seconds that have to have passed since the last one.

        Raises:
            SpoolError: the file cannot be made or locked.
        """
        if self._held is not None:
            yield Turn.MINE  # within a turn of its own
            return
        held = self._held = self._open()
        self._successful = False
        try:
            turn = self._lock(held, pause)
            yield turn
            if self._successful:
                with suppress(OSError):
                    os.utime(held)
                self._last = os.fstat(held).st_mtime_ns
        finally:
            self._held = None
            with suppress(OSError):
                fcntl.flock(held, fcntl.LOCK_UN)  # a child that was forked meanwhile has the file open, too
            os.close(held)

    def succeeded(self) -> None:
        """The sink has taken something in this turn."""
        self._successful = True

    def forget(self) -> None:
        """In a forked child: the lock is the parent's, and would stay taken for as long as the child has its file."""
        if self._held is not None:
            os.close(self._held)
            self._held = None

    def _open(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
        try:
            try:
                held = os.open(self._path, flags | os.O_EXCL, 0o600)
            except FileExistsError:
                return os.open(self._path, flags, 0o600)
            os.utime(held, (0, 0))  # there was no turn yet
            return held
        except OSError as error:
            raise SpoolError(os.strerror(error.errno or 0)) from None

    def _lock(self, held: int, pause: float) -> Turn:
        taken = False
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            taken = True
        except OSError as error:
            raise SpoolError(os.strerror(error.errno or 0)) from None
        last = os.fstat(held)
        age = time.time() - last.st_mtime
        if not taken and not 0 <= age < pause:
            return Turn.MINE
        others = last.st_mtime_ns != self._last and 0 <= age < FRESH
        return Turn.OTHERS if others else Turn.NOT_NOW
