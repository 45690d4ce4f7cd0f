"""A thread that wants the interpreter at regular moments, and writes down how long it had to wait for it.

It sleeps until it is due, without the interpreter lock, as an event loop does between requests. How late it is, is how
long a request would have waited: for the lock, and for the machine. The machine's part is taken off, as far as Linux
tells it: the time that this thread was ready to run and had no processor; and whatever is beyond the CPU time of this
process, because while others have the processor, nobody here holds the lock.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from typing import Final

from .figures import arrivals

GAP: Final = 0.0002
"""Seconds from one moment to the next."""

_PR_SET_TIMERSLACK: Final = 29


class Canary:
    """Watches from ``watch()`` to ``rest()``, as often as it is told to."""

    def __init__(self) -> None:
        self._watch = threading.Event()
        self._rests = threading.Event()
        self._waits: list[float] = []
        threading.Thread(target=self._run, name="canary", daemon=True).start()

    def watch(self) -> None:
        """Begin."""
        self._waits = []
        self._rests.clear()
        self._watch.set()

    def rest(self) -> list[float]:
        """Stop. The seconds that those who come at regular moments had to wait, since ``watch()``."""
        self._watch.clear()
        self._rests.wait()
        return arrivals(self._waits, GAP)

    def _run(self) -> None:
        wake_up_in_time()
        runnable = Runnable()
        while True:
            self._watch.wait()
            while self._watch.is_set():
                self._waits.append(_wait(runnable))
            self._rests.set()


class Runnable:
    """How long the thread that makes it was ready to run and did not, so far, in seconds. 0 where nobody tells."""

    def __init__(self) -> None:
        try:
            self._file = os.open("/proc/thread-self/schedstat", os.O_RDONLY)
        except OSError:
            self._file = -1

    def __call__(self) -> float:
        return int(os.pread(self._file, 100, 0).split()[1]) / 1e9 if self._file >= 0 else 0.0


def _wait(runnable: Runnable) -> float:
    """Sleep until the next moment; how late it became, in seconds."""
    before = runnable()
    cpu, due = time.process_time(), time.perf_counter() + GAP
    time.sleep(GAP)
    late, cpu = time.perf_counter() - due, time.process_time() - cpu
    return max(0.0, min(late - (runnable() - before), cpu))


def wake_up_in_time() -> None:
    """Have Linux wake this thread when it is due, and not 50 µs later. Elsewhere it does nothing."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
