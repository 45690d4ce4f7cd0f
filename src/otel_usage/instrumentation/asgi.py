"""ASGI: one request span for each HTTP request and each WebSocket connection, on every path (ASGI 3.0)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from contextlib import suppress
from contextvars import Token
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.context import Context

from ..baggage import NOTHING, restore_baggage, shed_baggage
from ..guard import guarded, report
from ..request import UsageRequest
from ..runtime import active
from ..scope import CURRENT, Recording, leave
from .carrier import REQUEST_KEY, headers_of, joining, peer_of, request_of

if TYPE_CHECKING:
    from ..attribution import Attribution
    from ..recorder import Recorder

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

_BAGGAGE: Final = b"baggage"


class UsageMiddleware:
    """Observes an ASGI application: ``app = UsageMiddleware(app)``, outermost, so that it sees every answer.

    Nothing it does can fail a request. When usage is off, it calls the application and nothing else.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await observe(self.app, scope, receive, send)


# What follows is called for each request and each of its messages, among the code of others, which has the processor's
# caches: there a call of a function costs 0.2 µs, whatever it does. So these are long, call few others, and end errors of
# ours themselves, where elsewhere `guarded` would.


async def observe(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Call ``app`` and record the request. When an application starts, get ready; when it ends, deliver what waits."""
    exchange = _begin(scope, receive, send)
    if exchange is None:
        await _beside(app, scope, receive, send)
        return
    request = exchange.request
    token, shed = CURRENT.set(request), shed_baggage()
    request.works_here()
    try:
        await app(scope, exchange.receive, exchange.send)
    except BaseException as error:
        exchange.failed(error)
        _end(exchange, token, shed)
        if isinstance(error, Exception):
            await exchange.delivered()
        raise
    _end(exchange, token, shed)
    if request.recorder.delivers_each:
        await exchange.delivered()


def _end(exchange: Exchange, token: Token[Recording | None], shed: Token[Context] | None) -> None:
    if shed is not None:
        restore_baggage(shed)
    leave(token)
    exchange.close()


def _begin(scope: Scope, receive: Receive, send: Send) -> Exchange | None:
    """What observes the request. None: it is not to be recorded here."""
    recorder = active()
    if recorder is None or REQUEST_KEY in scope:
        return None
    try:
        kind = _EXCHANGES.get(scope["type"])
        if kind is None or request_of(scope) is not None:
            return None
        exchange = kind(recorder, scope, receive, send)
        scope[REQUEST_KEY] = exchange.request
    except Exception as error:
        report("instrumentation.asgi._begin", error)
        return None
    return exchange


async def _beside(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """What is no request to be recorded: one that is already, the life of an application, or anything while off."""
    if scope["type"] == "lifespan" and REQUEST_KEY not in scope:
        scope[REQUEST_KEY] = None  # FastAPI's entry and Starlette's are one application
        await app(scope, _preparing(receive), _delivering(send))
        return
    with joining(_joined(scope)):
        await app(scope, receive, send)


@guarded(None)
def _joined(scope: Scope) -> UsageRequest | None:
    """The request that a bridge has brought here. None: none has, or it has been joined."""
    if active() is None or scope["type"] not in _EXCHANGES or REQUEST_KEY in scope:
        return None
    around = request_of(scope)
    if around is not None:
        scope[REQUEST_KEY] = around
    return around


def _preparing(receive: Receive) -> Receive:
    async def receive_first() -> Message:
        message = await receive()
        if message["type"] == "lifespan.startup":
            _prepare()
        return message

    return receive_first


@guarded(None)
def _prepare() -> None:
    recorder = active()
    if recorder is not None:
        recorder.prepare()


def _delivering(send: Send) -> Send:
    """Deliver before the server learns that the application has shut down.

    uvicorn then ends the process by the signal that stopped it, and nothing registered with ``atexit`` runs. The
    application's own requests are over by now; another application on the same loop is not kept either.
    """

    async def send_last(message: Message) -> None:
        if message["type"].startswith("lifespan.shutdown."):
            await _aside(_deliver)
        await send(message)

    return send_last


async def _aside(work: Callable[[], None]) -> None:
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


@guarded(None)
def _deliver() -> None:
    recorder = active()
    if recorder is not None:
        recorder.flush()


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
        request, changed, body = self.request, message, None
        try:
            if message["type"] != "http.response.body":
                changed = self._before(message)
            else:
                body = len(message.get("body", b""))
                if not message.get("more_body", False):
                    self._ending = True
        except Exception as error:
            report("instrumentation.asgi.Exchange.send", error)
        if self._ending and request.recorder.delivers_each and not self._closed:
            # Held until the request has been delivered: with its last message sent, the process may be frozen.
            self._passed(message, body)
            self.close()
            await self.delivered()
            await self._send(changed)
            return
        try:
            await self._send(changed)
        except OSError:  # what a server raises where the client is gone (ASGI specification, "Disconnected Client")
            request.client_gone = True
            raise
        # A server may take what it has nobody to send to, and say nothing.
        if not request.client_gone and not self._closed:
            self._passed(message, body)

    def _passed(self, message: Message, body: int | None) -> None:
        """The server has taken a message. ``body``: the bytes of the response's body in it. None: it has none."""
        request = self.request
        if body is None:
            self._after(message)
            return
        request.complete = self._ending
        # What an application answers to HEAD, its server keeps to itself (RFC 9110, section 9.3.2).
        request.response_sent(0 if request.method == "HEAD" else body)

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
            report("instrumentation.asgi.Exchange.close", error)

    async def delivered(self) -> None:
        """Where requests wait for delivery: deliver what there is, within the time of one attempt."""
        recorder = self.request.recorder
        if recorder.delivers_each and recorder.waiting():
            await _aside(self._deliver)

    @guarded(None)
    def _deliver(self) -> None:
        self.request.recorder.deliver()

    @guarded(None)
    def _received(self, message: Message) -> None:
        if message["type"] == "http.request":
            self.request.received += len(message.get("body", b""))
        elif message["type"] == "http.disconnect" and not self._ending:
            # After a response it is what every server says, be the client there or not.
            self.request.client_gone = True

    def _before(self, message: Message) -> Message:
        """The message to send in its place: itself, or another with a header more."""
        if message["type"] == "http.response.start":
            return self._started(message, message["status"])
        if message["type"] == "http.response.pathsend":
            self._ending = True
        return message

    @guarded(None)
    def _after(self, message: Message) -> None:
        if message["type"] == "http.response.pathsend":
            self._passed(message, Path(message["path"]).stat().st_size)

    def _started(self, message: Message, status: int) -> Message:
        request = self.request
        if request.client_gone:
            return message
        headers = message.get("headers") or ()
        readable_again = type(headers) is list or type(headers) is tuple
        if not readable_again:
            headers = list(headers)  # any iterable (ASGI specification), also one that is read once
        request.response_started(status, _cache_control(headers))
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
        if message["type"] == "websocket.receive":
            self.request.received += _payload(message)
        elif message["type"] == "websocket.disconnect":
            if self.request.complete:  # the echo of the application's own close
                return
            self.request.response_sent(0)  # the connection has lasted until now
            self.request.client_gone = _is_loss(message) or self.request.status is None
            self.request.complete = not self.request.client_gone

    def _before(self, message: Message) -> Message:
        self.request.works_here()
        if message["type"] == "websocket.accept":
            return self._started(message, 101)
        if message["type"] == "websocket.http.response.start":
            return self._started(message, message["status"])
        if message["type"] == "websocket.close" and self.request.status is None and not self.request.client_gone:
            self.request.response_started(403, None)  # closed before it was accepted (ASGI specification, "Close")
        return message

    @guarded(None)
    def _after(self, message: Message) -> None:
        if message["type"] == "websocket.send":
            self.request.response_sent(_payload(message))
        elif message["type"] == "websocket.http.response.body":
            self.request.response_sent(len(message.get("body", b"")))
            self.request.complete = not message.get("more_body", False)
        elif message["type"] == "websocket.close":
            self.request.complete = True
            self.request.response_sent(0)
            self.request.reason = self.request.reason or _REASON_OF_CLOSE.get(message.get("code", 1000))


_REASON_OF_CLOSE: Final = {1008: "client_error", 1009: "payload_too_large", 1011: "server_error"}
"""What an application says by the code that it closes with (RFC 6455, section 7.4.1)."""

_EXCHANGES: Final[dict[str, type[Exchange]]] = {"http": Exchange, "websocket": WebSocketExchange}


def _is_loss(disconnect: Message) -> bool:
    """Whether the connection was lost without a closing handshake: 1006 (RFC 6455, section 7.4.1). uvicorn says 1005
    then, as for a closing frame without a code, but only from a frame does it have a reason to add.
    """
    code = disconnect.get("code")
    return code == 1006 or (code == 1005 and "reason" not in disconnect)


def _payload(message: Message) -> int:
    text = message.get("text")
    return len(text.encode()) if text is not None else len(message.get("bytes") or b"")
