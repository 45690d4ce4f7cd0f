"""One exchange on Sanic's own server, as its response or its WebSocket is used. See `sanic`."""

from __future__ import annotations

import sys
from asyncio import CancelledError
from typing import Any, Final

from ..guard import guarded
from ..request import UsageRequest
from .told import Told

_DEV_HEADER: Final = "x-usage-telemetry"


class SanicExchange(Told):
    """One request, and its response or WebSocket connection."""

    def __init__(self, request: UsageRequest, served: Any) -> None:
        """``served``: Sanic's own request."""
        super().__init__(request)
        self._served = served
        self._stream = served.stream
        self._socket: Any = None
        _EXCHANGES[id(served)] = self

    @property
    def stage(self) -> str:
        """Where Sanic is with the request: ``HANDLER`` until a response begins, ``IDLE`` when it is whole."""
        return str(self._stream.stage.name)

    @property
    @guarded(False)
    def left(self) -> bool:
        """Whether there is no connection any more that could be written to."""
        protocol = self._stream.protocol
        transport = protocol.transport
        return bool(protocol.conn_info.lost or transport is None or transport.is_closing())

    @guarded(-1)
    def sends(self, response: Any, data: Any, end_stream: bool | None) -> int:
        """A part of the response is about to be sent. Returns the bytes that the body grows by. Negative: by none, and
        nothing is sent.
        """
        if self._closed or self._stream.send is None:
            return -1
        request = self.request
        request.works_here()
        size = len(data.encode() if hasattr(data, "encode") else data or b"")
        self._ending = bool(end_stream) or (data is None and end_stream is None)
        if self.stage == "HANDLER":
            if not self.left:
                request.response_started(response.status, response.headers.get("cache-control"))
            body = getattr(response, "body", None)
            if not size and body:  # Sanic sends it with the head, and nothing after it
                size, self._ending = len(body), True
            if not sys.modules["sanic.helpers"].has_message_body(response.status):
                size, self._ending = 0, True
            if request.recorder.config.dev_header:
                response.headers[_DEV_HEADER] = request.recorder.status()
        return size

    async def held(self, size: int) -> None:
        """Where requests wait for delivery: deliver this one before its last part of ``size`` bytes is sent, after
        which the process may be frozen.
        """
        if self._ending and self.request.recorder.delivers_each and size >= 0 and not (self._closed or self.left):
            self.sent(size)
            self.close()
            await self.delivered()

    @guarded(None)
    def passed(self, response: Any, size: int) -> None:
        """The server has taken what :meth:`sends` has been asked of."""
        if self.request.recorder.config.dev_header:
            response.headers.pop(_DEV_HEADER, None)  # the application may use its response again
        if size >= 0 and not self._closed:
            self._ending = self.stage == "IDLE"  # also where all that was declared is sent, before somebody says so
            self.sent(size)

    def not_passed(self) -> None:
        """The server has not taken it."""
        if self.left:
            self.gone()

    @guarded(None)
    def upgraded(self, socket: Any) -> None:
        """It is a WebSocket connection from here on."""
        if not self._closed:
            self._socket = socket
            self.request.response_started(101, None)

    def works(self) -> None:
        """The task that this is called on serves the WebSocket."""
        self.request.works_here()

    @guarded(None)
    def message_received(self, message: Any) -> None:
        """A message, or a part of one. None: none has come in the time that the application has waited for one."""
        if message is not None and not self._closed:
            self.request.received += _payload(message)

    @guarded(None)
    def message_sent(self, message: Any) -> None:
        """The server has taken a message."""
        self.sent(_payload(message))

    @guarded(None)
    def handled(self) -> None:
        """The handler is done, and what it answered has been sent. If not, Sanic makes an error of that."""
        if self.stage != "HANDLER" or self._stream.upgrade_websocket:
            self.close()

    @guarded(None)
    def stopped(self, error: BaseException) -> None:
        """It was cancelled, or is about to be answered with an error, unless nobody is there any more."""
        gone = self.left
        if gone:
            self.gone()
        if gone or not isinstance(error, (Exception, CancelledError)):  # Sanic will not come back to it
            self.failed(error)
            self.close()

    @guarded(None)
    def breaks(self, error: BaseException) -> None:
        """Sanic answers this error, if it still can."""
        if self.left and isinstance(error, CancelledError):
            self.gone()
        elif self.stage != "HANDLER":
            self.failed(error)

    def close(self) -> None:
        """As for all."""
        if not self._closed:
            self._settle()
            super().close()
            _EXCHANGES.pop(id(self._served), None)
            self._served = self._socket = None

    @guarded(None)
    def _settle(self) -> None:
        request, socket, stream = self.request, self._socket, self._stream
        # What has been read of the body by now: Sanic reads the rest after the answer, to drop it.
        request.received += (stream.request_bytes or 0) - (stream.request_bytes_left or 0)
        if socket is None or request.error is not None or request.client_gone:
            return
        request.response_sent(0)  # the connection has lasted until now
        protocol = socket.ws_proto
        if protocol.close_sent is None and protocol.close_rcvd is None:
            self.gone()
        elif protocol.close_rcvd is None or not protocol.close_rcvd_then_sent:
            self.closed_with(protocol.close_sent.code)
        else:
            request.complete = True


_EXCHANGES: Final[dict[int, SanicExchange]] = {}
"""By the identity of Sanic's own request, which has no place for anything that an application does not see. Each keeps
its request until it is closed: no other has its identity before that.
"""


def exchange_of(stream: Any) -> SanicExchange | None:
    """What observes the request that this stream is at. None: nothing does, as where it is served as ASGI."""
    return _EXCHANGES.get(id(getattr(stream, "request", None)))


def exchange_of_socket(socket: Any) -> SanicExchange | None:
    """What observes the connection of this WebSocket."""
    return exchange_of(getattr(getattr(socket, "io_proto", None), "http", None))


def _payload(data: Any) -> int:
    return len(data.encode()) if isinstance(data, str) else len(data)
