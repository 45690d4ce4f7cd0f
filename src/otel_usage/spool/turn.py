"""One process at a time: the turn to replay is a lock on a file, and the file's time says when the last one was."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .contract import SpoolError, Turn

try:
    import fcntl
except ImportError:  # not a POSIX system: there, no two processes may share a spool, so there is none on disk
    fcntl = None  # type: ignore[assignment]


class ReplayTurn:
    """The right to replay a spool, for the length of one attempt. The system takes it back from a process that dies."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._held: int | None = None
        self._last: int | None = None

    @contextmanager
    def take(self, pause: float) -> Iterator[Turn]:
        """Whose turn it is, for the ``with`` block. ``pause``: seconds that have to have passed since the last one.

        Raises:
            SpoolError: the file cannot be made or locked.
        """
        if fcntl is None:
            raise SpoolError("this system has no POSIX file locks")
        if self._held is not None:
            yield Turn.MINE  # within a turn of its own
            return
        try:
            held = self._held = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise SpoolError(os.strerror(error.errno or 0)) from None
        try:
            turn = self._lock(held, pause)
            yield turn
            if turn is Turn.MINE:
                with suppress(OSError):
                    os.utime(held)
                self._last = os.fstat(held).st_mtime_ns
        finally:
            self._held = None
            os.close(held)

    def forget(self) -> None:
        """In a forked child: the lock is the parent's, and would stay taken for as long as the child has its file."""
        if self._held is not None:
            os.close(self._held)
            self._held = None

    def _lock(self, held: int, pause: float) -> Turn:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return Turn.TAKEN
        except OSError as error:
            raise SpoolError(os.strerror(error.errno or 0)) from None
        last = os.fstat(held)
        if not 0 <= time.time() - last.st_mtime < pause:
            return Turn.MINE
        return Turn.TOO_SOON if last.st_mtime_ns == self._last else Turn.TAKEN
