"""One attempt at a time, each within a deadline that holds whatever it is stuck in."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Final

from ..exporters.outcome import Failed, Outcome, UsageExporter
from ..guard import report
from ..native import Empty, SimpleQueue, Thread, start_thread
from ..payload import Payload

TICK: Final = 0.5
"""Seconds between two looks at what else there is to do while an attempt is under way."""


class _Attempt:
    def __init__(self, payload: Payload) -> None:
        self.payload = payload
        self._ended: SimpleQueue[Outcome | None] = SimpleQueue()

    def end(self, outcome: Outcome | None) -> None:
        """It has ended; None: it has not, but whoever waits should look up."""
        self._ended.put(outcome)

    def outcome(self, seconds: float) -> Outcome | None:
        """How it ended. None: it has not, after so many seconds."""
        try:
            return self._ended.get(timeout=max(0.0, seconds))
        except Empty:
            return None


class Attempts:
    """Makes attempts on a thread of their own, and waits for each no longer than it should.

    Socket timeouts bound single operations, not an attempt: a name may resolve slowly, and a server may send a byte a
    second for ever. An attempt that is given up is told to abort; until it has ended, no other is made, so that one
    thread at most is ever stuck.
    """

    def __init__(self, exporter: UsageExporter, *, meanwhile: Callable[[], None], until: Callable[[], float]) -> None:
        """``meanwhile`` is called each :data:`TICK` of an attempt; ``until``: when to give up at the latest, in seconds
        of :func:`time.monotonic`, which is asked again and again.
        """
        self._exporter = exporter
        self._meanwhile = meanwhile
        self._until = until
        self._jobs: SimpleQueue[_Attempt | None] = SimpleQueue()
        self._thread: Thread | None = None
        self._stuck: _Attempt | None = None

    def make(self, payload: Payload) -> Outcome:
        """Make one attempt. ``Failed("timeout")`` where it does not end in time. Never raises."""
        if time.monotonic() >= self._until() or (self._stuck is not None and not self._over(self._stuck)):
            return Failed("timeout")
        if not self._has_thread():
            return self._call(payload)  # no thread is to be had: the sockets' own timeouts are left
        attempt = self._stuck = _Attempt(payload)
        self._jobs.put(attempt)
        outcome = self._wait(attempt)
        if outcome is None:
            self._exporter.abort()
            return Failed("timeout")
        self._stuck = None
        return outcome

    def hurry(self) -> None:
        """``until`` has changed: whoever waits should ask again."""
        if (attempt := self._stuck) is not None:
            attempt.end(None)

    def stop(self, timeout: float) -> None:
        """Make none any more, abort what is under way, and wait ``timeout`` seconds at most for the thread to end."""
        if self._thread is not None and self._thread.is_alive():
            self._jobs.put(None)
            if self._stuck is not None:
                self._exporter.abort()
            self._thread.join(timeout)

    def _over(self, attempt: _Attempt) -> bool:
        self._exporter.abort()
        if self._wait(attempt) is None:
            return False
        self._stuck = None
        return True

    def _wait(self, attempt: _Attempt) -> Outcome | None:
        now = time.monotonic()
        ends = now + (math.inf if self._exporter.timeout is None else self._exporter.timeout)
        tick = now + TICK
        while True:
            ends = min(ends, self._until())
            outcome = attempt.outcome(min(ends, tick) - now)
            now = time.monotonic()
            if outcome is not None or now >= ends:
                return outcome
            if now >= tick:  # and not merely told to hurry
                self._meanwhile()
                now = time.monotonic()
                tick = now + TICK

    def _has_thread(self) -> bool:
        if self._thread is None or not self._thread.is_alive():
            self._thread = start_thread(self._work, "otel-usage-post")
        return self._thread is not None

    def _work(self) -> None:
        while (attempt := self._jobs.get()) is not None:
            attempt.end(self._call(attempt.payload))

    def _call(self, payload: Payload) -> Outcome:
        try:
            return self._exporter.deliver(payload)
        except Exception as error:  # it promises not to; one that does must neither lose the payload nor end the thread
            report("exporters.deliver", error)
            return Failed(type(error).__qualname__)
