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
    # An exception from a handler could strike in the middle of closing a file. A byte in a pair of sockets waits.
    reader, writer = socket.socketpair()
    with reader, writer:
        writer.setblocking(False)

        def stop(number: int, frame: FrameType | None) -> None:
            writer.send(b"\0")

        before = {number: signal.signal(number, stop) for number in _SIGNALS}
        try:
            yield lambda: reader.recv(1)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
