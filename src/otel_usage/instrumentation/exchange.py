"""One exchange over ASGI: a request, or a WebSocket connection, as its messages pass by (ASGI 3.0).

It is called for each request and each of its messages, among the code of others, which has the processor's caches:
there a call of a function costs 0.2 µs, whatever it does. So the functions for HTTP are long, call few others, and end
errors of ours themselves, where elsewhere `guarded` would.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..baggage import NOTHING
from ..guard import guarded, settle
from ..request import UsageRequest
from .carrier import headers_of, peer_of
from .listening import Listening
from .told import Told

if TYPE_CHECKING:
    from ..attribution import Attribution
    from ..recorder import Recorder

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_BAGGAGE: Final = b"baggage"

_OF_BODIES: Final = (b"content-length", b"transfer-encoding")
"""The headers of requests that have a body."""

_STREAM: Final = 2
"""Parts of a response that make it a stream. A single one with an end behind it is what middlewares make of any."""


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


class Exchange(Told):
    """One HTTP request and its response, as their messages pass by."""

    # As for a request: what most exchanges never say is a default of the class.
    _asked = False
    _heard: bool | None = None
    """Whether the request's body is over. None: nobody has asked for it."""
    _parts = 0
    _listening: Listening | None = None

    def __init__(self, recorder: Recorder, scope: Scope, receive: Receive, send: Send) -> None:
        sent = scope["headers"]
        if type(sent) is not list and type(sent) is not tuple:
            sent = scope["headers"] = list(sent)  # it may be an iterable that can be read once (ASGI)
        headers = headers_of(sent, recorder.headers)
        peer = peer_of(scope) if recorder.needs_peer else None
        attribution = _take_baggage(recorder, scope, headers) if "baggage" in headers else None
        # Not by way of the base's, which is a call more.
        self.request = UsageRequest(recorder, scope.get("method", "GET"), headers, peer, scope, attribution=attribution)
        self._headers = sent
        self._receive = receive
        self._send = send

    async def receive(self) -> Message:
        """The next message of the client, counted."""
        self.request.works_here()
        if self._listening is not None:
            return await self._listening.next()
        self._asked = True
        try:
            message = await self._receive()
        finally:
            self._asked = False
        self._received(message)
        return message

    async def send(self, message: Message) -> None:
        """The next message to the client, counted once the server has taken it."""
        request, changed, size = self.request, message, -1  # no part of the body
        try:
            kind = message["type"]
            if self._closed:
                pass  # whatever goes on is no part of the span
            elif kind == "http.response.body":
                size = 0
                if message.get("more_body"):
                    self._streaming()
                else:
                    self._ending = True
                size = len(message.get("body", b""))  # a server may take what has none, such as None
            elif kind == "http.response.start":
                request.works_here()
                changed = self._started(message, message["status"])
            elif kind == "http.response.pathsend":
                self._ending, size = True, 0
                size = Path(message["path"]).stat().st_size
        except Exception as error:
            settle("instrumentation.exchange.Exchange.send", error)
        if self._ending and request.recorder.delivers_each and not self._closed:
            # Held until the request has been delivered: with its last message sent, the process may be frozen.
            self.sent(size)
            self.close()
            await self.delivered()
            await self._send(changed)
            return
        try:
            await self._send(changed)
        except OSError:  # what a server raises where the client is gone (ASGI specification, "Disconnected Client")
            self.gone()
            raise
        # As `sent` does, with a call less. A server may take what it has nobody to send to, and say nothing.
        if size >= 0 and not request.client_gone and not self._closed:
            request.complete = self._ending
            request.response_sent(0 if request.method == "HEAD" else size)

    def _streaming(self) -> None:
        """More of the body will follow. Most applications ask meanwhile whether their client is still there."""
        self.request.works_here()
        if not self._asked:
            self._parts += 1
            # Not where a body is on its way, or waits for the application to ask for it (RFC 9110, section 10.1.1).
            if self._parts == _STREAM and self._has_heard_all():
                with suppress(RuntimeError):  # not asyncio's loop
                    self._listening = Listening(self._receive, self._received)

    def _has_heard_all(self) -> bool:
        """Whether the request's body is over, or it has none."""
        return not any(name in _OF_BODIES for name, _ in self._headers) if self._heard is None else self._heard

    def close(self) -> None:
        """As for any, with a call less. Nobody else asks for messages from now on."""
        if self._listening is not None:
            self._listening.stop()
        if self._closed:
            return
        self._closed = True
        try:
            self.request.close()
        except Exception as error:
            settle("instrumentation.exchange.Exchange.close", error)

    @guarded(None)
    def _received(self, message: Message) -> None:
        if self._closed:
            return
        if message["type"] == "http.request":
            self.request.received += len(message.get("body", b""))
            self._heard = not message.get("more_body", False)
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
    def failed(self, error: BaseException) -> None:
        """As for HTTP. What an application had still to say to a client that has closed is no failure."""
        if not (self.request.complete and isinstance(error, OSError)):
            self.request.failed(error)

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
            self.request.complete = not self.request.client_gone and self.request.error is None

    async def send(self, message: Message) -> None:
        """As for HTTP."""
        if self._closed:
            await self._send(message)
            return
        changed = self._before(message) or message
        try:
            await self._send(changed)
        except OSError:  # as for HTTP
            self.gone()
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
            self.closed_with(message.get("code", 1000))


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
