"""aiohttp as a client: one upstream span for each attempt that a session makes, its bytes counted to the last one.

A session takes middlewares for a call. Ours is the innermost, so that it sees each redirect, each time that another
middleware sends the request again, and connections that fail. ``trace_request_ctx={"usage": {…}}`` names one call, as
httpx's extensions do. The upgrade to a WebSocket is an attempt that ends with its handshake.

A response is over when its stream has come to its end, which says so, or when it is closed before: by the application,
by aiohttp after an error, or when nobody holds it any more.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import wrapt

from ..attempt import UpstreamAttempt
from ..guard import guarded
from .calls import attempted, listening
from .hooks import Function, Hook

_ATTEMPT: Final = "_otel_usage_attempt"
"""Where a request that is sent, and a response that is read, hold the attempt."""

_BAGGAGE: Final = "baggage"
_REDIRECTS: Final = (301, 302, 303, 307, 308)


def _request(original: Function) -> Function:
    """Around all that a session does for one call."""
    takes_middlewares = "middlewares" in inspect.signature(original).parameters  # aiohttp 3.12

    async def request(self: Any, method: Any, str_or_url: Any, **kwargs: Any) -> Any:
        if takes_middlewares and listening() is not None:
            kwargs = _observed(self, kwargs) or kwargs
        return await original(self, method, str_or_url, **kwargs)

    return request


@guarded(None)
def _observed(session: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    """The call's arguments, with our middleware next to the connection."""
    given = kwargs.get("middlewares")  # in the place of the session's own
    said = kwargs.get("trace_request_ctx")
    middlewares = session._middlewares if given is None else given
    ours = _Call(said.get("usage") if isinstance(said, Mapping) else None, kwargs.get("allow_redirects", True))
    return {**kwargs, "middlewares": (*middlewares, ours)}


class _Call:
    """One call, as a middleware."""

    def __init__(self, names: Any, follows: bool) -> None:
        """``names``: what the application has named the call. ``follows``: where a redirect leads."""
        self._names = names
        self._follows = follows
        self._sent = 0

    async def __call__(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        attempt = self._begin(request)
        if attempt is None:
            return await handler(request)
        try:
            response = await handler(request)
        except BaseException as error:
            attempt.broken(error)
            raise
        finally:
            attempt.give_back()
        attempt.arrived(response)
        return response

    @guarded(None)
    def _begin(self, request: Any) -> _Attempt | None:
        recorder = listening()
        if recorder is None:
            return None
        names, sent = attempted(self._names, self._sent)
        self._sent += 1
        attempt = _Attempt(recorder, names, request.method, request.url.host)
        attempt.resend_count = sent
        attempt.request, attempt.content, attempt.given, attempt.follows = request, None, None, self._follows
        attempt.tell()
        vars(request)[_ATTEMPT] = attempt
        return attempt


class _Attempt(UpstreamAttempt):
    """An attempt, with what is read as long as it is."""

    request: Any
    """None: it has been sent."""
    content: Any
    """The stream of the response's body. None: there is none yet, or it is over."""
    given: list[str] | None
    """The request's own ``baggage`` headers, while there are others in their place."""
    follows: bool

    def tell(self) -> None:
        """Baggage goes as it may go to this host. The headers are the request's, which aiohttp has made for it."""
        url, headers = self.request.url, self.request.headers
        own = headers.getall(_BAGGAGE, [])
        if not own and not self.recorder.baggage.tells:
            return
        before = ",".join(own)
        after, ours = self.baggage(before, url.raw_host, url.port)
        if after != before or ours:
            self.given = own
            _put(headers, after, ours)

    @guarded(None)
    def give_back(self) -> None:
        """The request is with the connection: whoever looks at it or sends it again finds it as it was."""
        request, self.request = self.request, None
        vars(request).pop(_ATTEMPT, None)
        if self.given is not None:
            _put(request.headers, *self.given)

    @guarded(None)
    def broken(self, error: BaseException) -> None:
        """There is no response."""
        self.failed(error)
        self.finish()

    @guarded(None)
    def arrived(self, response: Any) -> None:
        """The response's head is here."""
        self.responded(response.status)
        self.content = response.content
        vars(response)[_ATTEMPT] = self
        self.content.on_eof(self.read)

    @guarded(None)
    def read(self) -> None:
        """The body is here, to its last byte."""
        self.complete = True
        self._over()

    def left(self) -> None:
        """The response is closed before that."""
        if self.content is None:
            return
        error = self.content.exception()
        raised = sys.exc_info()[1]
        if error is None and isinstance(raised, (asyncio.CancelledError, TimeoutError)):
            error = raised  # aiohttp closes it for that; any other is the application's, which had enough
        if error is not None:
            self.failed(error)
        elif self.follows and self.status in _REDIRECTS:
            self.complete = True  # aiohttp goes on without waiting for its body
        self._over()

    def _over(self) -> None:
        content, self.content = self.content, None
        # Of a body that is compressed, its bytes as they came.
        self.received = getattr(content, "total_compressed_bytes", None) or content.total_bytes
        self.finish()


def _put(headers: Any, *lines: str) -> None:
    headers.popall(_BAGGAGE, None)
    for line in filter(None, lines):
        headers.add(_BAGGAGE, line)


def _write_bytes(original: Function) -> Function:
    """Around the sending of a request's body, on a task of its own."""

    async def write_bytes(self: Any, writer: Any, conn: Any, *args: Any, **kwargs: Any) -> None:
        await original(self, _counting(self, writer) or writer, conn, *args, **kwargs)

    return write_bytes


@guarded(None)
def _counting(request: Any, writer: Any) -> Any:
    """The writer with the bytes of the body counted as they are sent: where they are compressed, as that makes them."""
    attempt = vars(request).get(_ATTEMPT)
    if attempt is None:
        return None
    if getattr(writer, "_compress", None) is None:
        return _Writer(writer, attempt)
    writer._compress = _Compressor(writer._compress, attempt)
    return writer


class _Writer(wrapt.ObjectProxy[Any]):
    """A writer of aiohttp's."""

    def __init__(self, writer: Any, attempt: UpstreamAttempt) -> None:
        super().__init__(writer)
        self._self_attempt = attempt

    async def write(self, chunk: Any, **kwargs: Any) -> None:
        await self.__wrapped__.write(chunk, **kwargs)
        self._self_attempt.sent += memoryview(chunk).nbytes

    async def write_eof(self, chunk: bytes = b"") -> None:
        await self.__wrapped__.write_eof(chunk)
        self._self_attempt.sent += len(chunk)


class _Compressor(wrapt.ObjectProxy[Any]):
    """A compressor of aiohttp's."""

    def __init__(self, compressor: Any, attempt: UpstreamAttempt) -> None:
        super().__init__(compressor)
        self._self_attempt = attempt

    async def compress(self, data: Any) -> Any:
        compressed = await self.__wrapped__.compress(data)
        self._self_attempt.sent += len(compressed)
        return compressed

    def flush(self, *args: Any) -> Any:
        compressed = self.__wrapped__.flush(*args)
        self._self_attempt.sent += len(compressed)
        return compressed


def _leaving(original: Function) -> Function:
    """Around what ends a response, be it read or not."""

    def leave(self: Any, *args: Any, **kwargs: Any) -> Any:
        _left(self)
        return original(self, *args, **kwargs)

    return leave


@guarded(None)
def _left(response: Any) -> None:
    attempt = vars(response).pop(_ATTEMPT, None)
    if attempt is not None:
        attempt.left()


NEEDS: Final = {"aiohttp": "3.12"}
"""The first version that has middlewares."""

TESTED: Final = {"aiohttp": "3.14"}

HOOKS: Final = (
    Hook("aiohttp.client", "ClientSession._request", _request),
    Hook("aiohttp.client_reqrep", "ClientRequest.write_bytes", _write_bytes),
    *(Hook("aiohttp.client_reqrep", f"ClientResponse.{end}", _leaving) for end in ("close", "release", "__del__")),
)
