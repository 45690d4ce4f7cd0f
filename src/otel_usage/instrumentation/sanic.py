"""Sanic: each request from its handler to the last byte of its response, on its own server; and as an ASGI application.

Sanic compiles its request path anew when a server starts (its "touch-up"), from the source of the functions: a layer on
``Sanic.handle_request``, ``handle_exception`` or ``HttpProtocol.send`` would be gone. Its signals are public, but they
are routes that an application sees, and each that is listened to costs every request. So this is hooked, beside those:

- ``HttpProtocol.__init__``: a connection takes its handler of requests from the application there, once. What it has
  taken is what is observed.
- ``BaseHTTPResponse.send``, public, by which every response is sent, with its parts before they are framed. What an
  application compresses is counted as it is sent.
- ``Http.error_response``, which answers what did not come from a handler, such as a timeout. A request that Sanic
  cannot parse is answered there without any handler: as with other servers, it is none.
- ``Router.get``, public, which each request is routed by, once; ``ErrorHandler.lookup``, public, which is asked for
  each exception. A ``SanicException`` is an answer, and so is any that the application has a handler for.
- WebSockets: the handshake, the messages, and ``Sanic._websocket_handler``, which keeps an exception to itself.

What an application reads of a request's body, Sanic counts itself. A client that leaves has its handler cancelled.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from functools import lru_cache
from re import compile as pattern
from typing import Any, Final

from ..guard import guarded, report
from ..request import UsageRequest, current_request
from ..runtime import active
from .asgi import entry
from .hooks import Function, Hook
from .own_servers import Asked, peer_of, received, scope_of
from .sanic_exchange import SanicExchange, exchange_of, exchange_of_socket
from .told import aside, deliver, inside, prepare


def _connection(original: Function) -> Function:
    def __init__(  # noqa: N807  # theirs
        self: Any,
        *,
        loop: Any,
        app: Any,
        signal: Any = None,
        connections: Any = None,
        state: Any = None,
        unix: Any = None,
        **kwargs: Any,
    ) -> None:
        original(self, loop=loop, app=app, signal=signal, connections=connections, state=state, unix=unix, **kwargs)
        _observe(self)

    return __init__


@guarded(None)
def _observe(connection: Any) -> None:
    connection.request_handler = _serving(connection.request_handler)


def _serving(handle: Callable[[Any], Awaitable[None]]) -> Callable[[Any], Awaitable[None]]:
    async def handle_request(request: Any) -> None:
        exchange = _begin(request)
        if exchange is None:
            await handle(request)
            return
        try:
            with inside(exchange.request):
                await handle(request)
        except BaseException as error:
            exchange.stopped(error)
            raise
        exchange.handled()
        await exchange.delivered()

    return handle_request


def _begin(served: Any) -> SanicExchange | None:
    """What observes the request. None: usage is off."""
    recorder = active()
    if recorder is None:
        return None
    try:
        headers = _headers(served, recorder.headers)
        attribution = None
        if "baggage" in headers:
            baggage = received(recorder, headers["baggage"])
            attribution = baggage.attribution
            if baggage.remaining != headers["baggage"]:
                _put_baggage(served, baggage.remaining)
        peer = peer_of(served.transport) if recorder.needs_peer else None
        scope = scope_of(recorder, served, lambda: Asked(served.path, served.query_string, _raw_headers(served)))
        return SanicExchange(
            UsageRequest(recorder, served.method, headers, peer, scope, attribution=attribution), served
        )
    except Exception as error:
        report("instrumentation.sanic._begin", error)
        return None


def _headers(served: Any, names: frozenset[str]) -> dict[str, str]:
    """The headers of these names, as they came: Sanic decodes as UTF-8 what is to be read as Latin-1."""
    sent = served.headers
    return {name: ", ".join(map(_as_sent, sent.getall(name))) for name in names if name in sent}


def _as_sent(value: str) -> str:
    return value if value.isascii() else value.encode(errors="surrogateescape").decode("latin-1")


def _raw_headers(served: Any) -> list[tuple[bytes, bytes]]:
    encoded = ((name, value.encode(errors="surrogateescape")) for name, value in served.headers.items())
    return [(name.encode(errors="surrogateescape"), value) for name, value in encoded]


def _put_baggage(served: Any, remaining: str) -> None:
    served.headers.popall("baggage", None)
    if remaining:
        served.headers["baggage"] = remaining.encode("latin-1").decode(errors="surrogateescape")


def _send(original: Function) -> Function:
    async def send(self: Any, data: Any = None, end_stream: bool | None = None) -> None:
        exchange = exchange_of(self.stream)
        if exchange is None:
            await original(self, data, end_stream)
            return
        size = exchange.sends(self, data, end_stream)
        await exchange.held(size)
        try:
            await original(self, data, end_stream)
        except BaseException:
            exchange.not_passed()
            raise
        exchange.passed(self, size)

    return send


def _error_response(original: Function) -> Function:
    async def error_response(self: Any, exception: BaseException) -> None:
        exchange = exchange_of(self)
        if exchange is None:
            await original(self, exception)
            return
        exchange.breaks(exception)
        try:
            with inside(exchange.request):
                await original(self, exception)
        finally:
            exchange.close()
        await exchange.delivered()

    return error_response


def _get(original: Function) -> Function:
    remembered = vars(sys.modules["sanic.router"].Router)["get"]

    def get(self: Any, path: Any, method: Any, host: Any) -> Any:
        found = original(self, path, method, host)
        _matched(found[0])
        return found

    for name in ("cache_info", "cache_clear", "cache_parameters"):  # of the memory that it has, which is not ours
        if hasattr(remembered, name):
            setattr(get, name, getattr(remembered, name))
    return get


@guarded(None)
def _matched(route: Any) -> None:
    request = current_request()
    if request is not None and not request.found:  # an application may ask the router, too, later
        request.matched(_template(route.parts))


_TYPED: Final = pattern(r"<(\w+):\w+(=[\w.|]+)?>")
_NAMED: Final = pattern(r"<(\w+):.*>")


@lru_cache(maxsize=1024)
def _template(parts: tuple[str, ...]) -> str:
    """The route as it is written, but for patterns: of those, the name."""
    return "/" + "/".join(part if _TYPED.fullmatch(part) else _NAMED.sub(r"<\1>", part) for part in parts)


def _lookup(original: Function) -> Function:
    def lookup(self: Any, exception: Any, route_name: Any = None) -> Any:
        handler = original(self, exception, route_name)
        _raised(exception, handled=handler is not None)
        return handler

    return lookup


@guarded(None)
def _raised(error: BaseException, *, handled: bool) -> None:
    """An exception, for which the application has a handler, or not. It is of no use where a response has begun."""
    request = current_request()
    if request is None or not isinstance(error, Exception):
        return
    handled = handled or isinstance(error, sys.modules["sanic.exceptions"].SanicException)
    if not handled or request.status is not None:
        request.failed(error)


def _websocket_handler(original: Function) -> Function:
    async def _websocket_handler(
        self: Any, handler: Any, request: Any, *args: Any, subprotocols: Any = None, **kwargs: Any
    ) -> Any:
        return await original(self, _telling(handler), request, *args, subprotocols=subprotocols, **kwargs)

    return _websocket_handler


def _telling(handler: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """A handler of a WebSocket, on a task of its own. Sanic logs what it raises, and closes as if all were well."""

    async def handle(*args: Any, **kwargs: Any) -> Any:
        request = current_request()
        if request is None:
            return await handler(*args, **kwargs)
        request.works_here()
        try:
            return await handler(*args, **kwargs)
        except Exception as error:
            _socket_failed(request, error)
            raise

    return handle


@guarded(None)
def _socket_failed(request: UsageRequest, error: Exception) -> None:
    over = sys.modules["websockets.exceptions"].ConnectionClosed, sys.modules["sanic.exceptions"].WebsocketClosed
    if not isinstance(error, over):
        request.failed(error)


def _handshake(original: Function) -> Function:
    async def websocket_handshake(self: Any, request: Any, subprotocols: Any = None) -> Any:
        socket = await original(self, request, subprotocols)
        exchange = exchange_of_socket(socket)
        if exchange is not None:
            exchange.upgraded(socket)
        return socket

    return websocket_handshake


def _send_message(original: Function) -> Function:
    async def send(self: Any, message: Any) -> None:
        exchange = exchange_of_socket(self)
        if exchange is not None:
            exchange.works()
        await original(self, message)
        if exchange is not None:
            exchange.message_sent(message)

    return send


def _recv(original: Function) -> Function:
    async def recv(self: Any, timeout: Any = None) -> Any:
        exchange = exchange_of_socket(self)
        if exchange is not None:
            exchange.works()
        message = await original(self, timeout)
        if exchange is not None:
            exchange.message_received(message)
        return message

    return recv


def _recv_burst(original: Function) -> Function:
    async def recv_burst(self: Any, max_recv: int = 256) -> Any:
        exchange = exchange_of_socket(self)
        messages = await original(self, max_recv)
        if exchange is not None:
            exchange.works()
            for message in messages:
                exchange.message_received(message)
        return messages

    return recv_burst


def _recv_streaming(original: Function) -> Function:
    async def recv_streaming(self: Any) -> AsyncIterator[Any]:
        exchange = exchange_of_socket(self)
        async with aclosing(original(self)) as parts:
            async for part in parts:
                if exchange is not None:
                    exchange.message_received(part)
                yield part

    return recv_streaming


def _startup(original: Function) -> Function:
    async def _startup(self: Any) -> None:
        prepare()
        await original(self)

    return _startup


def _server_event(original: Function) -> Function:
    async def _server_event(self: Any, concern: str, action: str, loop: Any = None) -> None:
        await original(self, concern, action, loop)
        if (concern, action) == ("shutdown", "after"):
            await aside(deliver)

    return _server_event


TESTED: Final = {"sanic": "25.12"}

HOOKS: Final = (
    Hook("sanic.app", "Sanic.__call__", entry),
    Hook("sanic.app", "Sanic._websocket_handler", _websocket_handler),
    Hook("sanic.app", "Sanic._startup", _startup),
    Hook("sanic.app", "Sanic._server_event", _server_event),
    Hook("sanic.router", "Router.get", _get),
    Hook("sanic.handlers.error", "ErrorHandler.lookup", _lookup),
    Hook("sanic.http.http1", "Http.error_response", _error_response),
    Hook("sanic.response.types", "BaseHTTPResponse.send", _send),
    Hook("sanic.server.protocols.http_protocol", "HttpProtocol.__init__", _connection),
    Hook("sanic.server.protocols.websocket_protocol", "WebSocketProtocol.websocket_handshake", _handshake),
    Hook("sanic.server.websockets.impl", "WebsocketImplProtocol.send", _send_message),
    Hook("sanic.server.websockets.impl", "WebsocketImplProtocol.recv", _recv),
    Hook("sanic.server.websockets.impl", "WebsocketImplProtocol.recv_burst", _recv_burst),
    Hook("sanic.server.websockets.impl", "WebsocketImplProtocol.recv_streaming", _recv_streaming),
)
