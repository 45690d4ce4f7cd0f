"""One exchange that is told its parts, whatever the protocol or the server: what all that observe servers do alike."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

from ..baggage import restore_baggage, shed_baggage
from ..guard import guarded, settle
from ..request import UsageRequest
from ..runtime import active
from ..scope import enter, leave

REASON_OF_CLOSE: Final = {1008: "client_error", 1009: "payload_too_large", 1011: "server_error"}
"""What an application says by the code that it closes a WebSocket with (RFC 6455, section 7.4.1)."""


class Told:
    """A request and its response. Whatever goes on after :meth:`close` is no part of the span."""

    _closed = False
    _ending = False
    """Whether what is told next is the last part of the response's body."""

    def __init__(self, request: UsageRequest) -> None:
        self.request = request

    def sent(self, size: int) -> None:
        """The server has taken so many bytes of the body."""
        request = self.request
        # A server may take what it has nobody to send to, and say nothing.
        if not request.client_gone and not self._closed:
            request.complete = self._ending
            # What an application answers to HEAD, its server keeps to itself (RFC 9110, section 9.3.2).
            request.response_sent(0 if request.method == "HEAD" else size)

    def gone(self) -> None:
        """The client has left. Of a response that was whole by then, it does not matter."""
        self.request.client_gone = self.request.client_gone or not self._closed

    def closed_with(self, code: int) -> None:
        """The application closes its WebSocket connection with this code."""
        request = self.request
        request.response_sent(0)
        if request.error is None:  # else a framework closes what nobody has handled, with a code that it likes
            request.complete = True
            request.reason = request.reason or REASON_OF_CLOSE.get(code)

    @guarded(None)
    def failed(self, error: BaseException) -> None:
        """The application raised."""
        self.request.failed(error)

    def close(self) -> None:
        """The application is done: its span is made, unless it has been."""
        if self._closed:
            return
        self._closed = True
        try:
            self.request.close()
        except Exception as error:
            settle("instrumentation.told.Told.close", error)

    async def delivered(self) -> None:
        """Where requests wait for delivery: deliver what there is, within the time of one attempt."""
        recorder = self.request.recorder
        if recorder.delivers_each and recorder.waiting():
            await aside(self._deliver)

    @guarded(None)
    def _deliver(self) -> None:
        self.request.recorder.deliver()


@contextmanager
def inside(request: UsageRequest) -> Iterator[None]:
    """The application serves the request here: what it does is the request's. No propagator passes our baggage on."""
    token, shed = enter(request), shed_baggage()
    request.works_here()
    try:
        yield
    finally:
        restore_baggage(shed)
        leave(token)


@guarded(None)
def prepare() -> None:
    """An application starts: do what would else be done by its first request."""
    recorder = active()
    if recorder is not None:
        recorder.prepare()


@guarded(None)
def deliver() -> None:
    """An application has ended, and its process may end by a signal, without ``atexit``: deliver what waits."""
    recorder = active()
    if recorder is not None:
        recorder.flush()


async def aside(work: Callable[[], None]) -> None:
    """Do ``work``, which must not raise, without holding up the loop."""
    try:
        await _on_a_thread(work, asyncio.get_running_loop())
    except RuntimeError:  # not asyncio's loop, or no thread to be had
        work()


async def _on_a_thread(work: Callable[[], None], loop: asyncio.AbstractEventLoop) -> None:
    # A thread of its own: the loop's executor may be busy with the application's work for long.
    done = asyncio.Event()

    def run() -> None:
        work()
        with suppress(RuntimeError):  # the server did not wait, and has closed the loop
            loop.call_soon_threadsafe(done.set)

    threading.Thread(target=run, name="otel-usage-flush", daemon=True).start()
    await done.wait()
