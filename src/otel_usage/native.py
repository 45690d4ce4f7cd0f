"""Threads and locks of the operating system, also where gevent has put its own in the place of Python's.

Delivery must go on while a hub is busy, and its parts may be made before ``gevent.monkey.patch_all()`` and used after
it. So it never uses what gevent replaces: the C types ``_thread.RLock`` and ``_queue.SimpleQueue`` are left alone, and
the original functions can be had from gevent.
"""

from __future__ import annotations

import sys
import threading
import time
from _queue import Empty, SimpleQueue
from _thread import RLock
from collections.abc import Callable
from typing import Any

__all__ = ["Empty", "RLock", "SimpleQueue", "Thread", "start_thread", "yield_interpreter"]


class Thread:
    """A daemon thread that runs one function. It exists: there is no thread that has not been started."""

    def __init__(self, target: Callable[[], None], name: str) -> None:
        """Raises RuntimeError: there is no thread to be had, or the interpreter is on its way out."""
        self.name = name
        self._target = target
        self._ended: SimpleQueue[None] = SimpleQueue()
        self._over = False
        _start(self._run, name)

    def is_alive(self) -> bool:
        """Whether the function still runs."""
        return not self._over

    def join(self, timeout: float) -> None:
        """Wait for the function to end, ``timeout`` seconds at most."""
        if not self._over:
            try:
                self._ended.get(timeout=max(0.0, timeout))
            except Empty:
                return
            self._ended.put(None)  # for whoever else waits

    def _run(self) -> None:
        try:
            self._target()
        finally:
            self._over = True
            self._ended.put(None)


def start_thread(target: Callable[[], None], name: str) -> Thread | None:
    """A thread that runs ``target``. None where there is none to be had."""
    try:
        return Thread(target, name)
    except RuntimeError:
        return None


def yield_interpreter() -> None:
    """Let another thread run."""
    _original("time", "sleep", time.sleep)(0)


def _start(run: Callable[[], None], name: str) -> None:
    if _gevent() is None:
        threading.Thread(target=run, name=name, daemon=True).start()
    else:
        _original("_thread", "start_new_thread", None)(run, ())


def _gevent() -> Any:
    """Gevent's ``monkey`` where it has replaced threads. None: they are Python's."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey if monkey is not None and monkey.is_module_patched("threading") else None


def _original(module: str, name: str, current: Any) -> Any:
    monkey = _gevent()
    return current if monkey is None else monkey.get_original(module, name)
