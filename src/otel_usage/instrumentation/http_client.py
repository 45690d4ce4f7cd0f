"""Python's http.client, beneath urllib3 and urllib: the body of a response, counted to the last byte, also of one that
breaks off.

Only what one of them sends is looked at, which leaves its :class:`Exchange` on the connection. The response of it gets
another class until its body is over, and then its own again: nothing stands between the application and it, and the
responses of others stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from http.client import HTTPResponse, IncompleteRead
from io import DEFAULT_BUFFER_SIZE, BufferedReader, BytesIO
from typing import TYPE_CHECKING, Any, Final

from ..attempt import UpstreamAttempt, UpstreamNaming
from ..guard import guarded
from .hooks import Function, Hook
from .outgoing import body_for, headers_for

if TYPE_CHECKING:
    from ..recorder import Recorder

EXCHANGE: Final = "_otel_usage_exchange"
"""Where a connection holds the exchange that is on its way, and a response the one that it is read for."""

_PIECE: Final = 65536
"""Bytes of a body that are read at once."""


class Exchange(UpstreamAttempt):
    """An attempt over a connection of http.client's."""

    def __init__(  # noqa: PLR0917  # by position, as that of its base
        self,
        recorder: Recorder,
        name: tuple[UpstreamNaming, int],
        method: str,
        place: tuple[str | None, int | None],
        encoding: str,
        began: tuple[int, int] | None = None,
    ) -> None:
        """``name`` is what :func:`attempted` says; ``place``: host and port; ``encoding``: how the library sends text;
        ``began``: as for any attempt.
        """
        super().__init__(recorder, name[0], method, place[0], began)
        self.resend_count = name[1]
        self._port = place[1]
        self._encoding = encoding
        self._in_memory = 0
        self.chunk = False
        """Whether the next bytes that are read are a chunk's, by a library that reads chunks itself."""
        self.held = False
        """Whether that the response is closed does not mean that its body is over."""

    def outgoing(self, headers: Mapping[Any, Any] | None, body: Any, block: int) -> tuple[Any, Any]:
        """The headers and the body to be sent in place of the application's. ``block``: bytes to read of a file."""
        headers = headers_for(self, headers, self._port)
        body, self._in_memory = body_for(self, body, block, self._encoding)
        return headers, body

    def asked(self) -> None:
        """The whole request has been sent."""
        self.sent += self._in_memory
        self._in_memory = 0

    @guarded(None)
    def arrived(self, response: Any, observed: Function) -> None:
        """The response's head is here. ``observed`` makes of its class the one that it has until its body is over."""
        self.responded(response.status)
        if response.length == 0 or response.isclosed():
            self.complete = True
            self.finish()
            return
        self.expected = response.length
        try:
            response.__class__ = observed(type(response))
        except TypeError:  # one of another layout, which nobody is known to have
            self.complete = True
            self.finish()
            return
        setattr(response, EXCHANGE, self)

    @guarded(None)
    def elsewhere(self, response: Any) -> None:
        """The response has not come by way of http.client, as that of a recording or of HTTP/2: it is here, whole."""
        self.asked()
        self.responded(response.status)
        self.received = getattr(response, "_fp_bytes_read", 0) or len(getattr(response, "_data", None) or b"")
        self.complete = True
        self.finish()

    @guarded(None)
    def broken(self, error: BaseException) -> None:
        """There is no response, or it broke off."""
        self.failed(error)
        self.finish()


@guarded(None)
def over(response: Any, error: BaseException | None = None) -> None:
    """The body is over. The response is left as the application would have it."""
    exchange = vars(response).get(EXCHANGE)
    if exchange is None or exchange.held:
        return
    delattr(response, EXCHANGE)
    response.__class__ = response.__class__.__base__
    if error is not None:
        exchange.failed(error)
    exchange.finish()


@cache
def _observed(kind: type[Any]) -> type[Any]:
    """A class of responses that tell their exchange what is read of them."""

    class Observed(kind):  # type: ignore[misc]  # the base is only known at run time
        def read(self, *args: Any, **kwargs: Any) -> Any:
            return _read(self, kind.read, args, kwargs)

        def read1(self, *args: Any, **kwargs: Any) -> Any:
            return _read(self, kind.read1, args, kwargs)

        def readinto(self, *args: Any, **kwargs: Any) -> Any:
            return _read(self, kind.readinto, args, kwargs)

        def peek(self, *args: Any, **kwargs: Any) -> Any:
            return _read(self, kind.peek, args, kwargs, taken=False)

        def readline(self, *args: Any, **kwargs: Any) -> Any:
            if self.chunked:
                return kind.readline(self, *args, **kwargs)  # by way of the methods above
            return _read(self, kind.readline, args, kwargs)

        def _safe_read(self, amt: int) -> Any:
            exchange = vars(self).get(EXCHANGE)
            if exchange is None or not exchange.chunk:
                return kind._safe_read(self, amt)
            exchange.chunk = False
            return _read(self, kind._safe_read, (amt,), {})

        def close(self) -> None:
            try:
                kind.close(self)
            finally:
                over(self)

    return disguised(Observed)


def disguised(observed: type[Any]) -> type[Any]:
    """The class, by the name of the one that it stands in for."""
    kind = observed.__bases__[0]
    observed.__name__, observed.__qualname__, observed.__module__ = kind.__name__, kind.__qualname__, kind.__module__
    return observed


def _read(response: Any, read: Function, args: tuple[Any, ...], named: dict[str, Any], *, taken: bool = True) -> Any:
    """Read with a method of the response's own class. Its errors are the exchange's, too.

    ``taken``: what is read is not there to be read again.
    """
    exchange, file = vars(response).get(EXCHANGE), response.fp
    if exchange is None or file is None:
        return read(response, *args, **named)
    pieces = None
    if isinstance(file, BufferedReader):  # as every socket's is; somebody may have put another in its place
        response.fp = pieces = _Pieces(file, response)
    try:
        data = read(response, *args, **named)
    except BaseException as error:
        exchange.received += pieces.came if pieces is not None else 0
        over(response, error)
        raise
    finally:
        if pieces is not None and response.fp is pieces:
            response.fp = file
    if taken and data:
        exchange.received += data if isinstance(data, int) else len(data)
    if response.length == 0:
        over(response)
    elif response.fp is None:
        short = response.length or (response.chunked and response.chunk_left is not None)  # as after the last chunk
        exchange.complete = not short
        over(response, IncompleteRead(b"") if short else None)
    return data


class _Pieces:
    """The file beneath a response. It is read as the body comes, so that where that breaks off it is known how much has
    come, which the file itself would throw away.
    """

    __slots__ = ("_file", "_response", "came")

    def __init__(self, file: BufferedReader, response: Any) -> None:
        self._file = file
        self._response = response
        self.came = 0

    def read(self, size: int = -1) -> bytes:
        part = self._piece(size)
        if not part or len(part) == size:
            return part
        whole = BytesIO()  # which hands out what is in it without another copy, as large as the body may be
        while part:
            whole.write(part)
            size -= len(part) if size > 0 else 0
            part = self._piece(size)
        return whole.getvalue()

    def _piece(self, size: int) -> bytes:
        if 0 < size < DEFAULT_BUFFER_SIZE:
            self._file.peek()  # has the buffer filled where it is empty, which `read1` goes past: to ask for each byte
        part = self._file.read1(_PIECE if size < 0 else min(size, _PIECE))
        if self._response.chunk_left != 0:  # it is where http.client reads the end of a chunk's line
            self.came += len(part)
        return part

    def readinto(self, buffer: Any) -> int:
        count = self._file.readinto(buffer)
        self.came += count
        return count

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _request(original: Function) -> Function:
    def request(
        self: Any, method: str, url: str, body: Any = None, headers: Any = {}, *, encode_chunked: bool = False  # noqa: B006
    ) -> Any:  # fmt: skip
        exchange = vars(self).get(EXCHANGE)
        if exchange is not None:
            headers, body = _outgoing(exchange, headers, body, self.blocksize) or (headers, body)
        return original(self, method, url, body, headers, encode_chunked=encode_chunked)

    return request


_outgoing: Final = guarded(None)(Exchange.outgoing)


def _getresponse(original: Function) -> Function:
    def getresponse(self: Any) -> Any:
        exchange = vars(self).pop(EXCHANGE, None)
        if exchange is None:
            return original(self)
        exchange.asked()
        response = original(self)
        if isinstance(response, HTTPResponse):
            exchange.arrived(response, _observed)
        return response

    return getresponse


TESTED: Final[dict[str, str]] = {}

HOOKS: Final = (
    Hook("http.client", "HTTPConnection.request", _request),
    Hook("http.client", "HTTPConnection.getresponse", _getresponse),
)
