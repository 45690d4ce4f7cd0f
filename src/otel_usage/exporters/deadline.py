"""A deadline that holds whatever a call is stuck in: a resolver, a handshake, a server that drips."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")


class DeadlineExceeded(Exception):
    """The call did not end in time, or there is no time left for one."""


class _Job(Generic[T]):
    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._done = threading.Event()
        self._result: T | None = None
        self._error: Exception | None = None

    def run(self) -> None:
        try:
            self._result = self._call()
        except Exception as error:  # carried over to the thread that waits
            self._error = error
        finally:
            self._done.set()

    def result(self, timeout: float) -> T:
        if not self._done.wait(timeout):
            raise DeadlineExceeded
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value]  # done, and without an error


class DeadlineRunner:
    """Runs one call at a time on a thread of its own, and waits for it no longer than it should.

    Socket timeouts bound single operations, not a call: a name may resolve slowly, and a server may send a byte a
    second for ever. A call that is given up is told to abort; until it has ended, no other is started, so that at most
    one thread is ever stuck.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: SimpleQueue[_Job[object] | None] = SimpleQueue()
        self._idle = threading.Event()
        self._idle.set()
        self._thread: threading.Thread | None = None
        self._stopped = False

    def run(self, call: Callable[[], T], timeout: float, abort: Callable[[], None]) -> T:
        """``call()``, or DeadlineExceeded after ``timeout`` seconds, having called ``abort``; at once when stopped."""
        ends = time.monotonic() + timeout
        if self._stopped:
            raise DeadlineExceeded
        if not self._idle.is_set():
            abort()
            if not self._idle.wait(timeout):
                raise DeadlineExceeded
        if not self._has_thread():
            return call()
        job = _Job(call)
        self._idle.clear()
        self._jobs.put(job)  # type: ignore[arg-type]  # the queue holds jobs of any result
        try:
            return job.result(ends - time.monotonic())
        except DeadlineExceeded:
            abort()
            raise

    def stop(self, timeout: float) -> None:
        """Run nothing more, let the thread end, and wait for it ``timeout`` seconds at most."""
        self._stopped = True
        if self._thread is not None and self._thread.is_alive():
            self._jobs.put(None)
            self._thread.join(timeout)

    def _has_thread(self) -> bool:
        if self._thread is not None and self._thread.is_alive():
            return True
        thread = threading.Thread(target=self._work, name=self._name, daemon=True)
        try:
            thread.start()
        except RuntimeError:  # none to be had, or the interpreter is on its way out: socket timeouts are left
            return False
        self._thread = thread
        return True

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job.run()
            self._idle.set()
