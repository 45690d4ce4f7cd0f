"""Waiting for the signal that ends a server."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stop_signals() -> Iterator[Callable[[], object]]:
    """Yield a function that returns at SIGINT or SIGTERM. Within the block these raise nothing and end nothing.

    Raises:
        ValueError: not called from the main thread, which alone may handle signals.
    """
    # The interpreter itself writes a byte for each signal. A handler in Python would run only between two instructions
    # of the main thread, so one that comes just before the wait would be seen after it; and an exception from it could
    # strike in the middle of closing a file.
    reader, writer = socket.socketpair()
    with reader, writer:
        writer.setblocking(False)
        before = {number: signal.signal(number, _nothing) for number in _SIGNALS}
        earlier = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        try:
            yield lambda: reader.recv(1)
        finally:
            signal.set_wakeup_fd(earlier)
            for number, handler in before.items():
                signal.signal(number, handler)


def _nothing(number: int, frame: FrameType | None) -> None:
    # Without a handler the signal would do what it does by default.
    pass
