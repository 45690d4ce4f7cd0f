"""One exchange over ASGI: a request, or a WebSocket connection, as its messages pass by (ASGI 3.0).

It is called for each request and each of its messages, among the code of others, which has the processor's caches:
there a call of a function costs 0.2 µs, whatever it does. So the functions for HTTP are long, call few others, and end
errors of ours themselves, where elsewhere `guarded` would.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..baggage import NOTHING
from ..guard import guarded, report
from ..request import UsageRequest
from .carrier import headers_of, peer_of

if TYPE_CHECKING:
    from ..attribution import Attribution
    from ..recorder import Recorder

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_BAGGAGE: Final = b"baggage"


def _take_baggage(recorder: Recorder, scope: Scope, headers: Mapping[str, str]) -> Attribution | None:
    """What a service of ours vouches for. What is ours in the header is not the application's to see or pass on."""
    received = recorder.baggage.received(headers["baggage"])
    if received is None:  # it failed: nothing of a header that nobody understands goes on
        received = NOTHING
    if received.remaining != headers["baggage"]:
        others = [(name, value) for name, value in scope["headers"] if name.lower() != _BAGGAGE]
        kept = [(_BAGGAGE, received.remaining.encode("latin-1"))] if received.remaining else []
        scope["headers"] = [*others, *kept]
    return received.attribution


class Exchange:
    """One HTTP request and its response, as their messages pass by."""

    __slots__ = ("_closed", "_ending", "_receive", "_send", "request")

    def __init__(self, recorder: Recorder, scope: Scope, receive: Receive, send: Send) -> None:
        sent = scope["headers"]
        if type(sent) is not list and type(sent) is not tuple:
            sent = scope["headers"] = list(sent)  # it may be an iterable that can be read once (ASGI)
        headers = headers_of(sent, recorder.headers)
        peer = peer_of(scope) if recorder.needs_peer else None
        attribution = _take_baggage(recorder, scope, headers) if "baggage" in headers else None
        self.request = UsageRequest(recorder, scope.get("method", "GET"), headers, peer, scope, attribution=attribution)
        self._ending = False
        self._closed = False
        self._receive = receive
        self._send = send

    async def receive(self) -> Message:
        """The next message of the client, counted."""
        self.request.works_here()
        message = await self._receive()
        self._received(message)
        return message

    async def send(self, message: Message) -> None:
        """The next message to the client, counted once the server has taken it."""
        if self._closed:  # whatever goes on is no part of the span
            await self._send(message)
            return
        request, changed, size = self.request, message, -1  # no part of the body
        try:
            kind = message["type"]
            if kind == "http.response.body":
                if message.get("more_body", False):
                    request.works_here()
                else:
                    self._ending = True
                size = 0
                size = len(message.get("body", b""))  # a server may take what has none, such as None
            elif kind == "http.response.start":
                request.works_here()
                changed = self._started(message, message["status"])
            elif kind == "http.response.pathsend":
                self._ending, size = True, 0
                size = Path(message["path"]).stat().st_size
        except Exception as error:
            report("instrumentation.exchange.Exchange.send", error)
        if self._ending and request.recorder.delivers_each and not self._closed:
            # Held until the request has been delivered: with its last message sent, the process may be frozen.
            self._sent(size)
            self.close()
            await self.delivered()
            await self._send(changed)
            return
        try:
            await self._send(changed)
        except OSError:  # what a server raises where the client is gone (ASGI specification, "Disconnected Client")
            request.client_gone = request.client_gone or not self._closed
            raise
        if size >= 0:
            self._sent(size)

    def _sent(self, size: int) -> None:
        """The server has taken a part of the body."""
        request = self.request
        # A server may take what it has nobody to send to, and say nothing.
        if not request.client_gone and not self._closed:
            request.complete = self._ending
            # What an application answers to HEAD, its server keeps to itself (RFC 9110, section 9.3.2).
            request.response_sent(0 if request.method == "HEAD" else size)

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
            report("instrumentation.exchange.Exchange.close", error)

    async def delivered(self) -> None:
        """Where requests wait for delivery: deliver what there is, within the time of one attempt."""
        recorder = self.request.recorder
        if recorder.delivers_each and recorder.waiting():
            await aside(self._deliver)

    @guarded(None)
    def _deliver(self) -> None:
        self.request.recorder.deliver()

    @guarded(None)
    def _received(self, message: Message) -> None:
        if self._closed:
            return
        if message["type"] == "http.request":
            self.request.received += len(message.get("body", b""))
        elif message["type"] == "http.disconnect" and not self._ending:
            # After a response it is what every server says, be the client there or not.
            self.request.client_gone = True

    def _started(self, message: Message, status: int) -> Message:
        request = self.request
        if request.client_gone:
            return message
        headers = message.get("headers") or ()
        readable_again = type(headers) is list or type(headers) is tuple
        if not readable_again:
            headers = list(headers)  # any iterable (ASGI specification), also one that is read once
        request.response_started(int(status), _cache_control(headers))
        if request.recorder.config.dev_header:
            headers = [*headers, (b"x-usage-telemetry", request.recorder.status().encode())]
        elif readable_again:
            return message
        return {**message, "headers": headers}  # a new one: an application may use its message for every request


def _cache_control(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    for name, value in headers:
        if len(name) == 13 and name.lower() == b"cache-control":
            return value.decode("latin-1")
    return None


class WebSocketExchange(Exchange):
    """One WebSocket connection, as one exchange: what it received and sent, in bytes of its messages' payloads."""

    def close(self) -> None:
        if self.request.status == 101 and self.request.error is None and not self.request.client_gone:
            self.request.complete = True  # the server closes what the application leaves open
        super().close()

    @guarded(None)
    def _received(self, message: Message) -> None:
        if self._closed:
            return
        if message["type"] == "websocket.receive":
            self.request.received += _payload(message)
        elif message["type"] == "websocket.disconnect":
            if self.request.complete:  # the echo of the application's own close
                return
            self.request.response_sent(0)  # the connection has lasted until now
            self.request.client_gone = _is_loss(message) or self.request.status is None
            self.request.complete = not self.request.client_gone

    async def send(self, message: Message) -> None:
        """As for HTTP."""
        if self._closed:
            await self._send(message)
            return
        changed = self._before(message) or message
        try:
            await self._send(changed)
        except OSError:  # as for HTTP
            self.request.client_gone = self.request.client_gone or not self._closed
            raise
        self._after(message)

    @guarded(None)
    def _before(self, message: Message) -> Message | None:
        """The message to send in its place. None: itself."""
        self.request.works_here()
        if message["type"] == "websocket.accept":
            return self._started(message, 101)
        if message["type"] == "websocket.http.response.start":
            return self._started(message, message["status"])
        if message["type"] == "websocket.close" and self.request.status is None and not self.request.client_gone:
            self.request.response_started(403, None)  # closed before it was accepted (ASGI specification, "Close")
        return None

    @guarded(None)
    def _after(self, message: Message) -> None:
        if self.request.client_gone or self._closed:
            return
        if message["type"] == "websocket.send":
            self.request.response_sent(_payload(message))
        elif message["type"] == "websocket.http.response.body":
            self.request.response_sent(len(message.get("body", b"")))
            self.request.complete = not message.get("more_body", False)
        elif message["type"] == "websocket.close":
            self.request.response_sent(0)
            if self.request.error is None:  # else a framework closes what its application's exception has broken off
                self.request.complete = True
                self.request.reason = self.request.reason or _REASON_OF_CLOSE.get(message.get("code", 1000))


_REASON_OF_CLOSE: Final = {1008: "client_error", 1009: "payload_too_large", 1011: "server_error"}
"""What an application says by the code that it closes with (RFC 6455, section 7.4.1)."""

EXCHANGES: Final[dict[str, type[Exchange]]] = {"http": Exchange, "websocket": WebSocketExchange}
"""By the type of the ASGI scope."""


def _is_loss(disconnect: Message) -> bool:
    """Whether the connection was lost without a closing handshake: 1006 (RFC 6455, section 7.4.1). uvicorn says 1005
    then, as for a closing frame without a code, but only from a frame does it have a reason to add.
    """
    code = disconnect.get("code")
    return code == 1006 or (code == 1005 and "reason" not in disconnect)


def _payload(message: Message) -> int:
    text = message.get("text")
    return len(text.encode()) if text is not None else len(message.get("bytes") or b"")


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
