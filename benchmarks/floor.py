"""The practical floor: a tuple in a deque, and OTLP bytes built straight from it on a thread, sent as they are.

No SDK, no allowlist, no redaction, no gzip, no retries: what any telemetry that leaves the process by OTLP has to pay.
"""

from __future__ import annotations

import http.client
import threading
from collections import deque
from collections.abc import Callable
from time import perf_counter_ns, time_ns
from typing import Any, Final
from urllib.parse import urlsplit

from benchmarks.application import application, upstream_client
from benchmarks.built import Built
from benchmarks.observed import CALLS, Answer, Call, key_id, observe_calls, route_of
from benchmarks.wire import Record, encode

BATCH: Final = 512
DELAY: Final = 1.0
"""Seconds after which what waits is sent, however little it is."""


def floor(variant: str, sink: str) -> Built:
    pipe = Pipe(poster(sink))
    client = upstream_client(variant)
    observe_calls(client)
    return Built(Recording(application(client), pipe.add), pipe.drain)


class Recording:
    """Makes a tuple of a request."""

    def __init__(self, app: Any, add: Callable[[Record], None]) -> None:
        self._app, self._add = app, add

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        calls: list[Call] = []
        answer, began, started = Answer(send), time_ns(), perf_counter_ns()
        token = CALLS.set(calls)
        try:
            await self._app(scope, receive, answer.send)
        finally:
            CALLS.reset(token)
            took, state = perf_counter_ns() - started, scope["state"]
            who = state["customer"], key_id(state["key"])
            self._add((began, took, scope["method"], route_of(scope), answer.status, answer.size, *who, calls))


class Pipe:
    """A deque, and a thread that wakes for each full batch."""

    def __init__(self, post: Callable[[bytes], None]) -> None:
        self._waiting: deque[Record] = deque()
        self._post, self._lock, self._full = post, threading.Lock(), threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def add(self, record: Record) -> None:
        self._waiting.append(record)
        if len(self._waiting) >= BATCH and not self._full.is_set():
            self._full.set()

    def _run(self) -> None:
        while True:
            full = self._full.wait(DELAY)
            self._full.clear()
            self.drain(BATCH if full else 1)

    def drain(self, least: int = 1) -> None:
        """Send batch after batch, while at least ``least`` records wait."""
        with self._lock:
            while len(self._waiting) >= least:
                batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
                self._post(encode(batch))


def poster(sink: str) -> Callable[[bytes], None]:
    address = urlsplit(sink)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=10)

    def post(body: bytes) -> None:
        connection.request("POST", "/v1/traces", body, {"Content-Type": "application/x-protobuf"})
        connection.getresponse().read()

    return post
