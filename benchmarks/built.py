"""What a builder of a configuration returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


def _nothing() -> None:
    return None


def _none() -> int:
    return 0


@dataclass(frozen=True)
class Built:
    """An application, and what delivers all that has been recorded of it."""

    app: Any
    """An ASGI callable."""
    flush: Callable[[], object] = _nothing
    """Delivers, and may be called again and again."""
    finish: Callable[[], object] | None = None
    """Delivers once, at the end. None: ``flush`` does."""
    counted: Callable[[], int] = _none
    """Requests that were counted in this process, of what has no other place for them."""
    switch: Callable[[bool], object] | None = None
    """Puts what hangs on classes on and off, so that a bare application can be called beside this one. None: this
    configuration hangs on its own application alone.
    """

    def end(self) -> None:
        """Deliver for the last time."""
        (self.finish or self.flush)()
