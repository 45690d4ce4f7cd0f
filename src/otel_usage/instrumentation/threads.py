"""Threads: work that a request hands to one is counted for the request.

A started thread inherits the request until that has ended (see ``scope.GRACE``), as threads do by themselves in
free-threaded Python. A pool's thread serves many requests, so there each task brings its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from ..guard import guarded
from ..scope import Recording, current, enter, leave
from .hooks import Hook

_here: Final = guarded(None)(current)


def _start(wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    _inherit(instance)
    return wrapped(*args, **kwargs)


@guarded(None)
def _inherit(thread: Any) -> None:
    here = current()
    if here is not None:
        thread.run = _within(here, thread.run)


def _submit(wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if not args:
        return wrapped(*args, **kwargs)
    function, *rest = args
    return wrapped(_within(_here(), function), *rest, **kwargs)


def _within(here: Recording | None, function: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        token = enter(here)
        try:
            return function(*args, **kwargs)
        finally:
            leave(token)

    return run


HOOKS: Final = (
    Hook("threading", "Thread.start", _start),
    Hook("concurrent.futures.thread", "ThreadPoolExecutor.submit", _submit),
)
