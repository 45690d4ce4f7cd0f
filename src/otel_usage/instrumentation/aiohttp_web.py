"""aiohttp.web: each request from its handler to the last byte of its response, as aiohttp's own server sends it.

aiohttp speaks HTTP itself, so there is no interface between a server and an application to stand in. What is hooked:

- ``RequestHandler._handle_request``, the one coroutine around a request's handler *and* the sending of its response, on
  a task of its own. It is private; ``Application._handle``, which is private as well, is over before the response is
  sent, and knows nothing of an `aiohttp.web.Server` without an application. A request that aiohttp cannot parse is
  answered there, too, without any handler: as with other servers, it is none.
- the methods of ``AbstractStreamWriter``, which is public: every kind of response, payload and compression ends there.
  It is the one place that sees a body without the framing of chunks. The bytes counted are those that go out as the
  body, compressed where aiohttp compresses: so they are where a middleware of ASGI's does it.
- what goes past it: ``FileResponse`` has the system send a file, and WebSockets write frames.
- ``UrlDispatcher.resolve``, which every request and every sub-application asks for its route. aiohttp puts the prefixes
  of sub-applications into the templates.
- ``RequestHandler.handle_error``, which is told what nobody handled. An ``HTTPException`` is an answer.

What an application reads of a request's body is counted by the reader itself. A client that leaves is noticed where
the response is written to it, or by the cancellation that ``handler_cancellation`` asks for.
"""

from __future__ import annotations

import sys
from typing import Any, Final

from ..guard import guarded, report
from ..request import UsageRequest
from ..runtime import active
from .aiohttp_exchange import AiohttpExchange, exchange_of, exchange_of_socket, without_baggage
from .carrier import headers_of
from .hooks import Function, Hook
from .own_servers import Asked, peer_of, received, scope_of
from .told import aside, deliver, inside, prepare


def _serve(original: Function) -> Function:
    async def _handle_request(self: Any, request: Any, start_time: Any, request_handler: Any) -> Any:
        exchange = _begin(request)
        if exchange is None:
            return await original(self, request, start_time, request_handler)
        cancelled = False
        try:
            with inside(exchange.request):
                return await original(self, request, start_time, request_handler)
        except BaseException as error:
            cancelled = not isinstance(error, Exception)
            exchange.failed(error)
            raise
        finally:
            exchange.close()
            if exchange.request.recorder.delivers_each and not cancelled:
                await exchange.delivered()

    return _handle_request


def _begin(served: Any) -> AiohttpExchange | None:
    """What observes the request. None: usage is off, or aiohttp answers what it could not parse."""
    recorder = active()
    if recorder is None:
        return None
    try:
        if served._message is sys.modules["aiohttp.web_protocol"].ERROR:
            return None
        headers = headers_of(served.raw_headers, recorder.headers)
        attribution = None
        if "baggage" in headers:
            baggage = received(recorder, headers["baggage"])
            attribution = baggage.attribution
            if baggage.remaining != headers["baggage"]:
                without_baggage(served, baggage.remaining)
        peer = peer_of(served.transport) if recorder.needs_peer else None
        scope = scope_of(recorder, served, lambda: Asked(served.path, served.query_string, served.raw_headers))
        return AiohttpExchange(
            UsageRequest(recorder, served.method, headers, peer, scope, attribution=attribution), served
        )
    except Exception as error:
        report("instrumentation.aiohttp_web._begin", error)
        return None


def _handle_error(original: Function) -> Function:
    def handle_error(self: Any, request: Any, status: int = 500, exc: Any = None, message: Any = None) -> Any:
        _failed(request, exc)
        return original(self, request, status, exc, message)

    return handle_error


@guarded(None)
def _failed(served: Any, error: BaseException | None) -> None:
    exchange = exchange_of(served.writer)
    raised = error or sys.exception()  # of a handler that timed out, it tells only the status
    if exchange is not None and raised is not None:
        exchange.failed(raised)


def _resolve(original: Function) -> Function:
    async def resolve(self: Any, request: Any) -> Any:
        match = await original(self, request)
        exchange = exchange_of(getattr(request, "writer", None))
        if exchange is not None:
            exchange.found(request, match, prefix=sys.modules["aiohttp.web_urldispatcher"].PrefixResource)
        return match

    return resolve


def _write_headers(original: Function) -> Function:
    async def write_headers(self: Any, status_line: str, headers: Any) -> None:
        exchange = exchange_of(self)
        changed = exchange.started(status_line, headers) if exchange is not None else None
        await original(self, status_line, headers if changed is None else changed)

    return write_headers


def _write(original: Function) -> Function:
    async def write(self: Any, chunk: Any, *, drain: bool = True, LIMIT: int = 0x10000) -> None:  # noqa: N803  # theirs
        exchange = exchange_of(self)
        if exchange is None:
            await original(self, chunk, drain=drain, LIMIT=LIMIT)
            return
        size = exchange.size_of(chunk)
        try:
            await original(self, chunk, drain=drain, LIMIT=LIMIT)
        except ConnectionError:
            exchange.gone()
            raise
        exchange.passed(size)

    return write


def _write_eof(original: Function) -> Function:
    async def write_eof(self: Any, chunk: Any = b"") -> None:
        exchange = exchange_of(self)
        if exchange is None:
            await original(self, chunk)
            return
        size = exchange.last_size_of(chunk)
        await exchange.held(size)
        try:
            await original(self, chunk)
        except ConnectionError:
            exchange.gone()
            raise
        exchange.passed(size)

    return write_eof


def _sendfile(original: Function) -> Function:
    async def _sendfile(self: Any, request: Any, fobj: Any, offset: int, count: int) -> Any:
        exchange = exchange_of(request.writer)
        if exchange is None:
            return await original(self, request, fobj, offset, count)
        exchange.sends_file(fobj, offset)
        try:
            done = await original(self, request, fobj, offset, count)
        except BaseException as error:
            exchange.file_sent(lost=isinstance(error, ConnectionError))
            raise
        exchange.file_sent()
        return done

    return _sendfile


def _receive(original: Function) -> Function:
    async def receive(self: Any, timeout: Any = None) -> Any:
        exchange = exchange_of_socket(self)
        if exchange is None:
            return await original(self, timeout)
        exchange.works()
        message = await original(self, timeout)
        exchange.message_received(self, message)
        return message

    return receive


def _send(original: Function) -> Function:
    async def send(self: Any, data: Any, compress: Any = None) -> None:
        exchange = exchange_of_socket(self)
        if exchange is None:
            await original(self, data, compress)
            return
        exchange.works()
        try:
            await original(self, data, compress)
        except ConnectionError:
            exchange.gone()
            raise
        exchange.message_sent(data)

    return send


def _send_frame(original: Function) -> Function:
    async def send_frame(self: Any, message: Any, opcode: Any, compress: Any = None) -> None:
        await original(self, message, opcode, compress)
        exchange = exchange_of_socket(self)
        if exchange is not None:
            exchange.message_sent(message, opcode)

    return send_frame


def _close(original: Function) -> Function:
    async def close(self: Any, *, code: Any = 1000, message: Any = b"", drain: bool = True) -> Any:
        exchange = exchange_of_socket(self)
        if exchange is not None:
            exchange.closes(self, code)
        return await original(self, code=code, message=message, drain=drain)

    return close


def _startup(original: Function) -> Function:
    async def startup(self: Any) -> None:
        prepare()
        await original(self)

    return startup


def _cleanup(original: Function) -> Function:
    async def cleanup(self: Any) -> None:
        try:
            await original(self)
        finally:
            await aside(deliver)  # its connections are closed by now

    return cleanup


TESTED: Final = {"aiohttp": "3.14"}

HOOKS: Final = (
    Hook("aiohttp.web_protocol", "RequestHandler._handle_request", _serve),
    Hook("aiohttp.web_protocol", "RequestHandler.handle_error", _handle_error),
    Hook("aiohttp.web_urldispatcher", "UrlDispatcher.resolve", _resolve),
    Hook("aiohttp.http_writer", "StreamWriter.write_headers", _write_headers),
    Hook("aiohttp.http_writer", "StreamWriter.write", _write),
    Hook("aiohttp.http_writer", "StreamWriter.write_eof", _write_eof),
    Hook("aiohttp.web_fileresponse", "FileResponse._sendfile", _sendfile),
    Hook("aiohttp.web_ws", "WebSocketResponse.receive", _receive),
    Hook("aiohttp.web_ws", "WebSocketResponse.send_str", _send),
    Hook("aiohttp.web_ws", "WebSocketResponse.send_bytes", _send),
    Hook("aiohttp.web_ws", "WebSocketResponse.send_frame", _send_frame),
    Hook("aiohttp.web_ws", "WebSocketResponse.close", _close),
    Hook("aiohttp.web_app", "Application.startup", _startup),
    Hook("aiohttp.web_app", "Application.cleanup", _cleanup),
)
