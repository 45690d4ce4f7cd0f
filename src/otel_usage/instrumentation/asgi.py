"""ASGI: one request span for each HTTP request and each WebSocket connection, on every path (ASGI 3.0)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..guard import guarded
from ..request import HEADERS, UsageRequest
from ..runtime import active
from ..scope import enter, leave

if TYPE_CHECKING:
    from ..recorder import Recorder

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

REQUEST_KEY: Final = "otel_usage.request"
"""Where the ASGI scope holds the request: an application within an observed one is not observed again."""

_WANTED: Final = {name.encode(): name for name in HEADERS}


class UsageMiddleware:
    """Observes an ASGI application: ``app = UsageMiddleware(app)``, outermost, so that it sees every answer.

    Nothing it does can fail a request. When usage is off, it calls the application and nothing else.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await observe(self.app, scope, receive, send)


async def observe(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Call ``app`` and record the request. At the end of an application's life, deliver what waits."""
    if scope["type"] == "lifespan":
        await app(scope, receive, _delivering(send))
        return
    exchange = _begin(scope, receive, send)
    if exchange is None:
        await app(scope, receive, send)
        return
    token = enter(exchange.request)
    try:
        await app(scope, exchange.receive, exchange.send)
    except BaseException as error:
        exchange.failed(error)
        raise
    finally:
        leave(token)
        exchange.close()


def _delivering(send: Send) -> Send:
    """Deliver before the server learns that the application has shut down.

    uvicorn then ends the process by the signal that stopped it, and nothing registered with ``atexit`` runs. Every
    request is over by now, so waiting for delivery, within its bound, keeps nobody.
    """

    async def send_last(message: Message) -> None:
        if message["type"].startswith("lifespan.shutdown."):
            _deliver()
        await send(message)

    return send_last


@guarded(None)
def _deliver() -> None:
    recorder = active()
    if recorder is not None:
        recorder.flush()


@guarded(None)
def _begin(scope: Scope, receive: Receive, send: Send) -> Exchange | None:
    kind = scope["type"]
    recorder = active()
    if recorder is None or kind not in _EXCHANGES or REQUEST_KEY in scope:
        return None
    exchange = _EXCHANGES[kind](recorder, scope, receive, send)
    scope[REQUEST_KEY] = exchange.request
    return exchange


class Exchange:
    """One HTTP request and its response, as their messages pass by."""

    def __init__(self, recorder: Recorder, scope: Scope, receive: Receive, send: Send) -> None:
        client = scope.get("client")
        headers = {_WANTED[name]: value.decode("latin-1") for name, value in scope["headers"] if name in _WANTED}
        self.request = UsageRequest(recorder, scope.get("method", "GET"), headers, client[0] if client else None)
        self._scope = scope
        self._receive = receive
        self._send = send

    async def receive(self) -> Message:
        """The next message of the client, counted."""
        message = await self._receive()
        self._received(message)
        return message

    async def send(self, message: Message) -> None:
        """The next message to the client, counted once the server has taken it."""
        self._before(message)
        try:
            await self._send(message)
        except OSError:  # what a server raises where the client is gone (ASGI specification, "Disconnected Client")
            self.request.client_gone = True
            raise
        self._after(message)

    @guarded(None)
    def failed(self, error: BaseException) -> None:
        """The application raised."""
        self.request.failed(error, self._scope)

    @guarded(None)
    def close(self) -> None:
        """The application is done: its span is made."""
        self.request.close()

    @guarded(None)
    def _received(self, message: Message) -> None:
        if message["type"] == "http.request":
            self.request.received += len(message.get("body", b""))
        elif message["type"] == "http.disconnect":
            self.request.client_gone = True

    @guarded(None)
    def _before(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._started(message, message["status"])

    @guarded(None)
    def _after(self, message: Message) -> None:
        if message["type"] == "http.response.body":
            # What an application answers to HEAD, its server keeps to itself (RFC 9110, section 9.3.2).
            self.request.response_sent(0 if self.request.method == "HEAD" else len(message.get("body", b"")))
            self.request.complete = not message.get("more_body", False)
        elif message["type"] == "http.response.pathsend":
            self.request.response_sent(Path(message["path"]).stat().st_size)
            self.request.complete = True

    def _started(self, message: Message, status: int) -> None:
        headers = message.get("headers") or []
        cache_control = next(
            (value.decode("latin-1") for name, value in headers if name.lower() == b"cache-control"), None
        )
        self.request.response_started(status, cache_control, self._scope)
        recorder = self.request.recorder
        if recorder.config.dev_header:
            message["headers"] = [*headers, (b"x-usage-telemetry", recorder.status().encode())]


class WebSocketExchange(Exchange):
    """One WebSocket connection, as one exchange: what it received and sent, in bytes of its messages' payloads."""

    @guarded(None)
    def _received(self, message: Message) -> None:
        if message["type"] == "websocket.receive":
            self.request.received += _payload(message)
        elif message["type"] == "websocket.disconnect":
            # 1006: the connection was lost without a closing handshake (RFC 6455, section 7.4.1).
            self.request.client_gone = message.get("code") == 1006
            self.request.complete = not self.request.client_gone

    @guarded(None)
    def _before(self, message: Message) -> None:
        if message["type"] == "websocket.accept":
            self._started(message, 101)
        elif message["type"] == "websocket.http.response.start":
            self._started(message, message["status"])
        elif message["type"] == "websocket.close" and self.request.status is None:
            self._started(message, 403)  # closed before it was accepted (ASGI specification, "Close")

    @guarded(None)
    def _after(self, message: Message) -> None:
        if message["type"] == "websocket.send":
            self.request.response_sent(_payload(message))
        elif message["type"] == "websocket.http.response.body":
            self.request.response_sent(len(message.get("body", b"")))
            self.request.complete = not message.get("more_body", False)
        elif message["type"] == "websocket.close":
            self.request.complete = True


_EXCHANGES: Final[dict[str, type[Exchange]]] = {"http": Exchange, "websocket": WebSocketExchange}


def _payload(message: Message) -> int:
    text = message.get("text")
    return len(text.encode()) if text is not None else len(message.get("bytes") or b"")
