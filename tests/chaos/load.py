"""An open-loop load: requests leave at a constant rate, whatever becomes of the ones before.

A closed loop would slow down together with the service and hide its stalls. For the same reason a latency is counted
from the moment when the request was due. Raw sockets and hand-made requests, so that the generator takes little of two
cores.
"""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass
from typing import Final

TIMEOUT: Final = 10.0
MOST_AT_ONCE: Final = 1000
"""Requests under way at most. One more is counted as failed, and is not sent."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One request, and how it went."""

    id: str
    due: float
    """When it was to be sent, by the monotonic clock, which all processes of a machine share."""
    latency: float
    """Seconds from ``due`` to the last byte of the answer."""
    status: int
    """0: no whole answer."""

    @property
    def arrived(self) -> float:
        """When the answer was there."""
        return self.due + self.latency


Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Load:
    """Drives ``/work`` from a thread of its own, from ``start()`` to ``stop()``, for ``longest`` seconds at most."""

    def __init__(self, port: int, rate: float, prefix: str, *, longest: float = 3600.0) -> None:
        self._port = port
        self._rate = rate
        self._prefix = prefix
        self._longest = longest
        self._stopping = threading.Event()
        self._idle: list[Connection] = []
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="chaos-load", daemon=True)
        self.answers: list[Answer] = []
        """Of all requests that are over, in the order of their ends."""

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Send no more, and wait for the answers that are still to come."""
        self._stopping.set()
        self._thread.join(TIMEOUT + 5)

    async def _run(self) -> None:
        began, number, under_way = time.monotonic(), 0, set[asyncio.Task[None]]()
        while not self._stopping.is_set() and number < self._longest * self._rate:
            due = began + number / self._rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            name = f"{self._prefix}-{number:07d}"
            number += 1
            if len(under_way) >= MOST_AT_ONCE:
                self.answers.append(Answer(name, due, 0.0, 0))
                continue
            task = asyncio.create_task(self._request(name, due))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
        if under_way:
            await asyncio.wait(under_way, timeout=TIMEOUT)
        for _, writer in self._idle:
            writer.close()

    async def _request(self, name: str, due: float) -> None:
        status = 0
        try:
            async with asyncio.timeout(TIMEOUT):
                status = await self._exchange(name)
        except (OSError, EOFError, TimeoutError, ValueError, IndexError):
            pass  # the service is away, or its answer is none: not produced
        self.answers.append(Answer(name, due, time.monotonic() - due, status))

    async def _exchange(self, name: str) -> int:
        reader, writer = connection = await self._connection()
        try:
            writer.write(f"GET /work HTTP/1.1\r\nHost: 127.0.0.1\r\nx-request-id: {name}\r\n\r\n".encode())
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            await reader.readexactly(int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0]))
        except BaseException:  # a cancelled request's connection is of no use either
            writer.close()
            raise
        self._idle.append(connection)
        return int(head.split(b" ", 2)[1])

    async def _connection(self) -> Connection:
        while self._idle:
            reader, writer = self._idle.pop()
            if not (reader.at_eof() or writer.is_closing()):
                return reader, writer
            writer.close()
        return await asyncio.open_connection("127.0.0.1", self._port)


def produced(answers: list[Answer], *, until: float = float("inf")) -> set[str]:
    """The ids that were answered with 200, by ``until``."""
    return {answer.id for answer in answers if answer.status == 200 and answer.arrived <= until}


def latencies(answers: list[Answer], start: float, end: float) -> list[float]:
    """Of the requests that were due between two moments and answered with 200."""
    return [answer.latency for answer in answers if answer.status == 200 and start <= answer.due < end]


def p99(values: list[float]) -> float:
    """The 99th percentile; not a number where there is nothing to take it of."""
    if not values:
        return float("nan")
    return sorted(values)[min(len(values) - 1, int(len(values) * 0.99))]
