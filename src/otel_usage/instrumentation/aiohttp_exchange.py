"""One exchange on aiohttp's own server, as its writer, its WebSocket and its file are used. See `aiohttp_web`."""

from __future__ import annotations

from typing import Any, Final

from ..guard import guarded, report
from ..request import UsageRequest
from .told import Told

_EXCHANGE: Final = "_otel_usage_exchange"
"""Where the writer of a response, which aiohttp makes for each, holds what observes it."""

_NO_DATA: Final = 8
"""The first opcode of WebSocket frames that are no messages of the application's (RFC 6455, section 5.5)."""

_LOST: Final = (None, 1006)
"""What aiohttp knows of a closing handshake that there was none of (RFC 6455, section 7.4.1)."""


class AiohttpExchange(Told):
    """One request, and its response or WebSocket connection."""

    def __init__(self, request: UsageRequest, served: Any) -> None:
        """``served``: aiohttp's own request."""
        super().__init__(request)
        self._served = served
        self._writer = served.writer
        self._content = served.content
        self._file: tuple[Any, int, int] | None = None
        self._socket: Any = None
        setattr(self._writer, _EXCHANGE, self)

    @property
    @guarded(False)
    def left(self) -> bool:
        """Whether there is no connection any more that could be written to."""
        transport = self._writer.transport
        return bool(transport is None or transport.is_closing())

    @property
    def _compresses(self) -> bool:
        """Whether the writer, and not the response, compresses."""
        return getattr(self._writer, "_compress", None) is not None

    @guarded(None)
    def found(self, served: Any, match: Any, *, prefix: Any) -> None:
        """A router has answered. It may be asked for other requests, too, such as a middleware makes to look around.

        ``prefix``: the class of resources that serve all beneath their path.
        """
        resource = match.route.resource
        if resource is None or served is not self._served or self.request.found:
            return
        if isinstance(resource, prefix):
            self.request.entered(resource.canonical, routes=False)
        else:
            self.request.matched(resource.canonical or "/")

    @guarded(None)
    def started(self, status_line: str, headers: Any) -> Any:
        """The head of the response. Returns the headers to send in place of these. None: these."""
        if self._closed:
            return None
        if self.left:
            self.gone()
            return None
        self.request.works_here()
        self.request.response_started(int(status_line.split(" ", 2)[1]), headers.get("Cache-Control"))
        if self._compresses:
            self._writer._compress = _Compressor(self._writer._compress, self)
        recorder = self.request.recorder
        if not recorder.config.dev_header:
            return None
        headers = headers.copy()  # the application may use its response again
        headers["x-usage-telemetry"] = recorder.status()
        return headers

    @guarded(-1)
    def size_of(self, chunk: Any) -> int:
        """The bytes that the body grows by with this chunk. Negative: it is no part of it."""
        if self._closed or self.request.status is None:  # such as what asks the client to go on with its request
            return -1
        self.request.works_here()
        if self._compresses:
            return 0  # the compressor counts what it makes
        size = chunk.nbytes if isinstance(chunk, memoryview) else len(chunk)
        length = self._writer.length
        return size if length is None else min(size, length)  # aiohttp sends no more than has been declared

    @guarded(-1)
    def last_size_of(self, chunk: Any) -> int:
        """As :meth:`size_of`, of the chunk that ends the body."""
        if self._closed:
            return -1
        self._count_file()
        self._ending = True
        return 0 if self._compresses else len(chunk)

    def passed(self, size: int) -> None:
        """The server has taken what :meth:`size_of` or :meth:`last_size_of` has been asked of."""
        if size >= 0:
            self.sent(size)

    async def held(self, size: int) -> None:
        """Where requests wait for delivery: deliver this one before its last chunk of ``size`` bytes is sent, after
        which the process may be frozen. What a compressor will make of it is not known before.
        """
        if self.request.recorder.delivers_each and not (self._closed or self._compresses or self.left):
            self.passed(size)
            self.close()
            await self.delivered()

    def sends_file(self, file: Any, offset: int) -> None:
        """The system is about to send a file from there on. Where it cannot, aiohttp reads and writes it."""
        self._file = file, offset, self.request.sent

    @guarded(None)
    def file_sent(self, *, lost: bool = False) -> None:
        """It is done, or has been given up. ``lost``: nobody is there any more, which its transport may not know."""
        if not self._closed:
            self._count_file()
            if lost:
                self.gone()

    def _count_file(self) -> None:
        passed_by, self._file = self._file, None
        if passed_by is not None and self.request.sent == passed_by[2]:
            file, offset, _ = passed_by
            self.sent(max(0, file.tell() - offset))

    def works(self) -> None:
        """The task that this is called on serves the WebSocket."""
        self.request.works_here()

    @guarded(None)
    def message_received(self, socket: Any, message: Any) -> None:
        """A message, or the end of them."""
        self._socket = socket
        if not self._closed and message.type in (message.type.TEXT, message.type.BINARY):
            self.request.received += _payload(message.data)

    @guarded(None)
    def message_sent(self, data: Any, opcode: int = 1) -> None:
        """The server has taken a message."""
        if opcode < _NO_DATA:
            self.sent(_payload(data))

    @guarded(None)
    def closes(self, socket: Any, code: int) -> None:
        """The application, or aiohttp for it, closes the WebSocket: perhaps in answer to the client, who did."""
        self._socket = socket
        if not self._closed and not self.left and not socket.closed and socket.close_code is None:
            self.closed_with(code)

    def failed(self, error: BaseException) -> None:
        """As for all. Of an error after a response has begun, aiohttp makes one of the connection, which is told next;
        and it raises one where nobody is there to be written to.
        """
        if self._closed or self.request.error is not None:
            return
        if self.left and (not isinstance(error, Exception) or isinstance(error, ConnectionError)):
            self.gone()
        if not (self.request.client_gone and isinstance(error, ConnectionError)):
            super().failed(error)

    def close(self) -> None:
        """As for all."""
        if not self._closed:
            self._settle()
            super().close()
            self._served = self._content = self._socket = None  # what may hold on to the writer, which holds this

    @guarded(None)
    def _settle(self) -> None:
        request = self.request
        request.received += _read_of(self._content)
        if request.status != 101 or request.error is not None or request.client_gone or request.complete:
            return
        request.response_sent(0)  # the connection has lasted until now
        request.client_gone = self._socket is None or self._socket.close_code in _LOST
        request.complete = not request.client_gone


class _Compressor:
    """A compressor of aiohttp's, with what it makes counted: that, and not what goes in, is the body that is sent."""

    def __init__(self, compressor: Any, exchange: AiohttpExchange) -> None:
        self._compressor = compressor
        self._exchange = exchange

    async def compress(self, data: Any) -> Any:
        return self._count(await self._compressor.compress(data))

    def flush(self, *mode: Any) -> Any:
        return self._count(self._compressor.flush(*mode))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._compressor, name)

    def _count(self, made: Any) -> Any:
        try:
            self._exchange.sent(len(made))
        except Exception as error:
            report("instrumentation.aiohttp_exchange._Compressor", error)
        return made


def exchange_of(writer: Any) -> AiohttpExchange | None:
    """What observes the response of this writer. None: nothing does, as for those of aiohttp's client."""
    exchange = getattr(writer, _EXCHANGE, None)
    return exchange if isinstance(exchange, AiohttpExchange) else None


def exchange_of_socket(socket: Any) -> AiohttpExchange | None:
    """What observes the connection of this WebSocket."""
    return exchange_of(getattr(socket, "_payload_writer", None))


def without_baggage(served: Any, remaining: str) -> None:
    """Put what is left of the ``baggage`` header in its place. Its request is a proxy of what it has been made of."""
    message = served._message
    headers = message.headers.copy()
    headers.popall("baggage", None)
    raw = [(name, value) for name, value in message.raw_headers if name.lower() != b"baggage"]
    if remaining:
        headers["baggage"] = remaining
        raw.append((b"baggage", remaining.encode("latin-1")))
    served._message = message._replace(headers=type(message.headers)(headers), raw_headers=tuple(raw))
    served._headers = served._message.headers


def _read_of(content: Any) -> int:
    """How much the application has read of a request's body. Of one that aiohttp has decompressed: what was sent."""
    compressed = getattr(content, "total_compressed_bytes", None)  # a request without a body has a reader without it
    return int(compressed if compressed is not None else getattr(content, "_cursor", 0))


def _payload(data: Any) -> int:
    return len(data.encode()) if isinstance(data, str) else len(data)
