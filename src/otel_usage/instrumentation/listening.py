"""Whether the client is still there, while an application streams to it without asking.

A server says that a client has left to who asks for the next message (ASGI specification, "Disconnect"), and takes what
is sent to nobody without a word. Most frameworks ask while they stream. For an application that does not, this asks
in its place, and keeps what it hears for when the application asks after all.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]


class Listening:
    """Hears what the client sends, until it has left, sends a body, or :meth:`stop`. Needs asyncio's loop."""

    __slots__ = ("_arrived", "_heard", "_kept", "_receive", "_task")

    def __init__(self, receive: Callable[[], Awaitable[Message]], heard: Callable[[Message], None]) -> None:
        """``receive`` is the server's. ``heard`` is told of each message once, and must not raise."""
        self._receive = receive
        self._heard = heard
        self._kept: deque[Message] = deque()
        self._arrived = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._listen())
        self._task.add_done_callback(lambda _: self._arrived.set())

    async def next(self) -> Message:
        """The next message, for the application."""
        while not self._kept:
            if self._task.done():  # all that was heard has been handed on
                message = await self._receive()
                self._heard(message)
                return message
            self._arrived.clear()
            await self._arrived.wait()
        return self._kept.popleft()

    def stop(self) -> None:
        """Hear nothing more."""
        self._task.cancel()

    async def _listen(self) -> None:
        more = True
        try:
            while more:
                message = await self._receive()
                self._heard(message)
                self._kept.append(message)
                self._arrived.set()
                # A body is the application's to ask for: it would have to be kept in memory here.
                more = message["type"] == "http.request" and not message.get("more_body", False)
        except Exception:  # the server's: who asks next is told the same
            return
