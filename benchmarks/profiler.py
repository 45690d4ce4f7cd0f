"""A deterministic profile of each thread apart, in all versions of Python: since 3.12, cProfile's is of the process.

It counts the thread's CPU time, so that to wait costs nothing. What the profiler itself takes between two events is
left out, as far as that goes: small functions that are called often still look dearer than they are.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from types import CodeType
from typing import Any, Final

UNKNOWN: Final = "?"


class ThreadProfile:
    """Own time and calls of each function, on the thread that it was started on. Times are nanoseconds."""

    def __init__(self) -> None:
        self.own: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self.by_package: Counter[str] = Counter()
        """Own time, where a function of C counts for whoever calls it."""
        self._stack: list[tuple[str, str]] = []
        self._names: dict[CodeType, tuple[str, str]] = {}
        self._since = time.thread_time_ns()

    def __call__(self, frame: Any, event: str, argument: Any) -> None:
        """What ``sys.setprofile`` calls."""
        took = time.thread_time_ns() - self._since
        stack = self._stack
        if stack:
            name, package = stack[-1]
            self.own[name] += took
            self.by_package[package] += took
        if event == "call":
            self._enter(self._of_code(frame))
        elif event == "c_call":
            self._enter((_name_of(argument), self._of_code(frame)[1]))
        elif stack:
            stack.pop()
        self._since = time.thread_time_ns()

    def _enter(self, function: tuple[str, str]) -> None:
        self._stack.append(function)
        self.calls[function[0]] += 1

    def _of_code(self, frame: Any) -> tuple[str, str]:
        found = self._names.get(frame.f_code)
        if found is None:
            module = frame.f_globals.get("__name__", UNKNOWN)
            found = self._names[frame.f_code] = f"{module}:{frame.f_code.co_qualname}", module.partition(".")[0]
        return found

    def forget(self) -> None:
        """Begin anew, with what was called until now still being so."""
        self.own.clear()
        self.calls.clear()
        self.by_package.clear()


def _name_of(function: Any) -> str:
    """A function of C, as ``module:name``, or ``type:name`` for a method."""
    owner = getattr(function, "__self__", None)
    module = getattr(function, "__module__", None)
    if module is None:
        module = UNKNOWN if owner is None else type(owner).__name__
    return f"{module}:{function.__name__}"


class Profiler:
    """Profiles of this thread, and of all that are started from now on."""

    def __init__(self) -> None:
        self.here: Final = ThreadProfile()
        self.others: Final[list[ThreadProfile]] = []

    def start(self) -> None:
        threading.setprofile(self._first_event)

    def record(self) -> None:
        """Forget what was until now, and profile this thread too."""
        for each in self.others:
            each.forget()
        sys.setprofile(self.here)

    def stop_here(self) -> None:
        """The other threads go on."""
        sys.setprofile(None)

    def _first_event(self, frame: Any, event: str, argument: Any) -> None:
        profile = ThreadProfile()
        self.others.append(profile)
        sys.setprofile(profile)
        profile(frame, event, argument)


def merged(profiles: list[ThreadProfile]) -> ThreadProfile:
    """All of them as one."""
    total = ThreadProfile()
    for each in profiles:
        total.own.update(each.own)
        total.calls.update(each.calls)
        total.by_package.update(each.by_package)
    return total
