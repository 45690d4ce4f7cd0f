"""Threads: work that a request hands to one is counted for the request.

A started thread inherits the request, as threads do by themselves in free-threaded Python, for as long as work is
counted for that (see ``scope.GRACE``). A thread that was made a daemon does not: what a library starts for the whole
process is no request's. A pool's thread serves many requests and inherits none: each task of an executor brings its
own, those of ``multiprocessing.pool`` are counted for nobody.

A thread that inherited the request may be a consumer that serves others by now, so it cannot put the request on another
customer's account (``scope.Inherited``). An executor's task is the request's own work, and can.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final

from .. import blocks
from ..guard import guarded
from ..scope import Recording, current, enter, inherited, leave
from .hooks import Function, Hook

_POOLS: Final = ("multiprocessing.dummy", "multiprocessing.pool")

OUR_THREADS: Final = "otel-usage-"
"""What the names of this package's own threads begin with. They serve every request and belong to none."""


def _start(original: Function) -> Function:
    def start(self: Any) -> Any:
        _inherit(self)
        return original(self)

    return start


@guarded(None)
def _inherit(thread: Any) -> None:
    # A thread that was made a daemon serves the whole process. One that is started by a daemon is one by inheritance.
    made_daemon = thread.daemon and not threading.current_thread().daemon
    foreign = made_daemon or thread.name.startswith(OUR_THREADS) or type(thread).__module__ in _POOLS
    if not foreign and (current() or blocks.here()):
        thread.run = _run_once(thread, _carrying(thread.run, as_seen=inherited))


def _run_once(thread: Any, carried: Callable[[], Any]) -> Callable[[], None]:
    def run() -> None:
        try:
            carried()
        finally:
            vars(thread).pop("run", None)  # else the thread and its own method would keep each other alive

    return run


def _submit(original: Function) -> Function:
    def submit(self: Any, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        ours = carried(fn)
        outside = enter(None)  # a thread that the pool starts for this task will serve others
        try:
            with blocks.carried(None):
                return original(self, ours, *args, **kwargs)
        finally:
            leave(outside)

    return submit


def _carrying(
    function: Callable[..., Any], as_seen: Callable[[Recording], Recording] | None = None
) -> Callable[..., Any]:
    """``function``, to be called where the request, and what is said of its calls, are what they are here.

    ``as_seen``: how the request looks from there. None: as it does from here.
    """
    here, block = current(), blocks.here()
    if here is None and block is None:
        return function
    if here is not None and as_seen is not None:
        here = as_seen(here)

    def run(*args: Any, **kwargs: Any) -> Any:
        token = enter(here)
        try:
            with blocks.carried(block):
                return function(*args, **kwargs)
        finally:
            leave(token)

    return run


_carried: Final = guarded(None)(_carrying)


def carried(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function``, to be called by another thread for the request that is current here."""
    return _carried(function) or function


TESTED: Final[dict[str, str]] = {}
"""Python's own."""

HOOKS: Final = (
    Hook("threading", "Thread.start", _start),
    Hook("concurrent.futures.thread", "ThreadPoolExecutor.submit", _submit),
)
