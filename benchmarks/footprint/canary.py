"""A thread that wants the interpreter at regular moments, and writes down how long it had to wait for it.

It sleeps until it is due, without the interpreter lock, as an event loop does between requests. How late it is, is how
long a request would have waited: for the lock, and for the machine. The machine's part is told by the process's own
CPU: while another process has the processor, nobody here holds the lock. So the lesser of the two counts.
"""

from __future__ import annotations

import ctypes
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
        while True:
            self._watch.wait()
            while self._watch.is_set():
                self._waits.append(_wait())
            self._rests.set()


def _wait() -> float:
    """Sleep until the next moment; how late it became, in seconds."""
    cpu, due = time.process_time(), time.perf_counter() + GAP
    time.sleep(GAP)
    late = time.perf_counter() - due
    return max(0.0, min(late, time.process_time() - cpu))


def wake_up_in_time() -> None:
    """Have Linux wake this thread when it is due, and not 50 µs later. Elsewhere it does nothing."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
