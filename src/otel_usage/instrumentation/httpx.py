"""httpx and httpx2: one upstream span for each attempt that a transport makes, its bytes counted to the last one.

The same transport methods that the official instrumentation wraps. Redirects and retries reach them one by one, so each
is an attempt of its own. A transport of the application's own is seen where it hands requests on to one of the
library's, and not where it answers them itself.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from contextvars import ContextVar, Token
from functools import cache, cached_property, lru_cache
from typing import Any, Final, NamedTuple

from ..attempt import UpstreamAttempt
from ..guard import guarded, settle
from .calls import PORTS, attempted, length_of_body, listening
from .hooks import Function, Hook

_SENDS: Final = "otel_usage.sends"
"""Where a request's extensions hold how often it was sent. Redirects copy them, retries reuse them."""


def _hooks(module: str) -> tuple[Hook, ...]:
    """A hook for each transport of a library with httpx's interface."""

    def sync(transport: str, *, whole: bool = False) -> Hook:
        return Hook(module, f"{transport}.handle_request", _Method(module, _SYNC, whole).layer)

    def asynchronous(transport: str, *, whole: bool = False) -> Hook:
        return Hook(module, f"{transport}.handle_async_request", _Method(module, _ASYNC, whole).async_layer)

    return (
        sync("HTTPTransport"),
        sync("MockTransport", whole=True),
        sync("WSGITransport", whole=True),
        asynchronous("AsyncHTTPTransport"),
        asynchronous("MockTransport", whole=True),
        asynchronous("ASGITransport"),
    )


_SYNC, _ASYNC = 0, 1


class _Method:
    """A method by which one of a library's transports sends."""

    def __init__(self, module: str, flavour: int, whole: bool) -> None:
        """``whole``: it takes the body with `Request.read()`, from memory if it is there."""
        self._module = module
        self._flavour = flavour
        self.whole = whole

    @cached_property
    def parts(self) -> _Parts:
        """What stands in for its streams."""
        return _parts(self._module)[self._flavour]

    def layer(self, original: Function) -> Function:
        """Around the method, if it is sync."""
        begin = self._begin

        def handle_request(self: Any, request: Any) -> Any:
            sending = begin(self, request)
            if sending is None:
                return original(self, request)
            try:
                response = original(self, sending.copy)
            except BaseException as error:
                sending.broken(error)
                raise
            sending.arrived(response)
            return response

        return handle_request

    def async_layer(self, original: Function) -> Function:
        """Around the method, if it is async."""
        begin = self._begin

        async def handle_async_request(self: Any, request: Any) -> Any:
            sending = begin(self, request)
            if sending is None:
                return await original(self, request)
            try:
                response = await original(self, sending.copy)
            except BaseException as error:
                sending.broken(error)
                raise
            sending.arrived(response)
            return response

        return handle_async_request

    def _begin(self, transport: Any, request: Any) -> _Sending | None:
        try:
            recorder = listening()
            if recorder is None:
                return None
            around = _SENDING.get()
            if around is not None and around[0] is transport and around[1] is request:
                return None  # this very call is observed already, by a hook that a foreign wrapper has kept in place
            parts = self.parts  # before anything is counted: it is what can fail
            extensions = request.extensions
            sends = extensions.get(_SENDS, 0)
            names, resent = attempted(extensions.get("usage"), sends)
            sending = _Sending(recorder, names, request.method, request.url.host)
            if resent:
                sending.resend_count = resent
            # Another dict, because somebody who sends the same request at this moment may be reading the one it has.
            request.extensions = {**extensions, _SENDS: sends + 1}
            sending.transport = self
            sending.request = request
            sending.copy = copy = self._changed(request, sending, parts, recorder.baggage.tells)
            sending.token = _SENDING.set((transport, copy))
            return sending
        except Exception as error:  # as `guarded` does, whose wrapper takes 0.06 µs
            settle("instrumentation.httpx._Method._begin", error)
            return None

    def _changed(self, request: Any, attempt: UpstreamAttempt, parts: _Parts, tells: bool) -> Any:
        """The request as it is to be sent: the application's own, or a copy of it where it needs a stream that counts,
        or other headers to this host. The application's stays as it is, whoever else sends it at the same time.
        """
        # Once through `raw` takes 0.5 µs. The first `in request.headers` takes 1.2: it decodes every header.
        baggage: list[str] = []
        has_body = False
        for header, value in request.headers.raw:
            if len(header) not in _LENGTHS:
                continue  # most go no further: 0.1 µs less
            name = header.lower()
            if name == _BAGGAGE:
                baggage.append(value.decode("latin-1"))
            elif name in _FRAMING:
                has_body = True
        headers = _headers(request, attempt, parts, ",".join(baggage)) if baggage or tells else request.headers
        # A body in memory has a stream that is sync and async at once: leave it so.
        counts = has_body and not (self.whole and hasattr(request, "_content"))
        if headers is request.headers and not counts:
            return request
        copy = _copy(request)
        copy.headers = headers
        if counts:
            copy.stream = parts.request_stream(request.stream, attempt)
        return copy


_SENDING: Final[ContextVar[tuple[Any, Any] | None]] = ContextVar("otel_usage.sending", default=None)
"""The transport and the request that it is sending."""


def _copy(request: Any) -> Any:
    """Another request with all that this one has, also where a class of the application's keeps it in slots."""
    kind = type(request)
    copied = object.__new__(kind)
    vars(copied).update(vars(request))
    for name in _slots(kind):  # type: ignore[arg-type]  # a class is hashable
        if hasattr(request, name):
            setattr(copied, name, getattr(request, name))
    return copied


@lru_cache  # finding that there are none, as in the library's own class, takes 1 µs
def _slots(kind: type) -> tuple[str, ...]:
    found: list[str] = []
    for base in kind.__mro__:
        slots = vars(base).get("__slots__", ())
        found += (slots,) if isinstance(slots, str) else slots
    return tuple(name for name in found if name not in ("__dict__", "__weakref__"))


class _Sending(UpstreamAttempt):
    """An attempt by one of the library's transports: one object for both, which costs half of two."""

    transport: _Method
    request: Any
    """The application's. None: the transport is done with it."""
    copy: Any
    """What is sent in its place, or itself."""
    token: Token[tuple[Any, Any] | None]

    @guarded(None)
    def broken(self, error: BaseException) -> None:
        """The transport raised: there is no response."""
        self._over()
        self.request = self.copy = None  # what waits for delivery must not keep what was sent
        self.failed(error)
        self.finish()

    def arrived(self, response: Any) -> None:
        """The response's head is here; its body is still to be read, unless it was made whole, as by a mock."""
        try:
            self._over()
            self.responded(response.status_code)
            if self.transport.whole:
                self.sent = len(self.copy.content)
            # What waits for delivery must not keep what was sent.
            self.request = self.copy = None
            if response.is_closed:
                # Downloaded are 0 bytes of one that was made of bytes, and of one that was closed unread.
                self.received = response.num_bytes_downloaded or len(getattr(response, "_content", b""))
                self.complete = True
                self.finish()
            else:
                head = (self.method or "", response.status_code, response.headers.raw)
                response.stream = self.transport.parts.response_stream(response.stream, self, head)
        except Exception as error:  # as in `_begin`
            settle("instrumentation.httpx._Sending.arrived", error)

    def _over(self) -> None:
        """The transport is done with the copy."""
        try:  # noqa: SIM105  # `suppress` takes 0.2 µs, and this nothing
            _SENDING.reset(self.token)
        except ValueError:
            pass  # a coroutine may be closed in another context; there is nothing to undo there
        del self.token  # it holds the context, with whatever the application has put there, and this waits in a queue
        if self.copy is not self.request:
            self._give_back()

    @guarded(None)
    def _give_back(self) -> None:
        """What the transport has read of the body is the application's too, as after `Request.read()`."""
        if hasattr(self.copy, "_content") and not hasattr(self.request, "_content"):
            self.request._content = self.copy._content
            if not isinstance(self.copy.stream, _Request):
                self.request.stream = self.copy.stream


_BAGGAGE: Final = b"baggage"
_LENGTH: Final = b"content-length"
_FRAMING: Final = (_LENGTH, b"transfer-encoding")
"""The headers of a message that has a body."""
_LENGTHS: Final = frozenset(map(len, (_BAGGAGE, *_FRAMING)))


def _headers(request: Any, attempt: UpstreamAttempt, parts: _Parts, baggage: str) -> Any:
    """Baggage goes as it may go to this host: where the connection leads, whatever the request's headers say."""
    url = request.url
    host, port = url.raw_host.decode("ascii"), url.port or PORTS.get(url.scheme)
    own, ours = attempt.baggage(baggage, host, port)
    if own == baggage and not ours:
        return request.headers
    raw = request.headers.raw
    if own != baggage:
        raw = [(name, value) for name, value in raw if name.lower() != _BAGGAGE]
        raw += [(_BAGGAGE, own.encode("latin-1"))] if own else []
    return parts.headers([*raw, *([(_BAGGAGE, ours.encode("ascii"))] if ours else ())])


_Head = tuple[str, int, list[tuple[bytes, bytes]]]
"""The request's method, the response's status and its headers: what says how long its body is."""


def _length(method: str, status: int, headers: list[tuple[bytes, bytes]]) -> int | None:
    return length_of_body(method, status, [value for name, value in headers if name.lower() == _LENGTH])


class _Parts(NamedTuple):
    """Classes of one library, and ours of the base classes that its clients insist on."""

    headers: Any
    request_stream: Any
    response_stream: Any


class _Request:
    """A request's body, whose bytes are counted for the attempt."""

    def __init__(self, stream: Any, attempt: UpstreamAttempt) -> None:
        self._stream, self._attempt = stream, attempt


class _Response:
    """A response's body. It is read to its end, to an error, or given up half-way."""

    def __init__(self, stream: Any, attempt: UpstreamAttempt, head: _Head) -> None:
        self._stream, self._attempt, self._head = stream, attempt, head

    @guarded(None)
    def _broken(self, error: BaseException) -> None:
        if isinstance(error, GeneratorExit):
            return  # it may be given up before it is closed
        self._attempt.failed(error)
        self._over()

    def _over(self) -> None:
        try:
            if not self._attempt.complete:  # most are read to their end, and need not be asked: 0.4 µs less
                self._attempt.expected = _length(*self._head)
            self._attempt.finish()
        except Exception as error:  # as in `_begin`
            settle("instrumentation.httpx._Response._over", error)

    __del__ = _over  # the application never closed its response


@cache
def _parts(module: str) -> tuple[_Parts, _Parts]:  # noqa: C901  # four small classes
    """Those for sync calls, and those for async ones."""
    library: Any = sys.modules[module]  # so that the hook never imports what the application has not

    class RequestStream(_Request, library.SyncByteStream):  # type: ignore[misc]  # the base is only known at run time
        def __iter__(self) -> Iterator[bytes]:
            attempt = self._attempt
            for chunk in self._stream:
                yield chunk
                attempt.sent += len(chunk)

        def close(self) -> None:
            self._stream.close()

    class AsyncRequestStream(_Request, library.AsyncByteStream):  # type: ignore[misc]  # as above
        async def __aiter__(self) -> AsyncIterator[bytes]:
            attempt = self._attempt
            async for chunk in self._stream:
                yield chunk
                attempt.sent += len(chunk)

        async def aclose(self) -> None:
            await self._stream.aclose()

    class ResponseStream(_Response, library.SyncByteStream):  # type: ignore[misc]  # as above
        def __iter__(self) -> Iterator[bytes]:
            attempt = self._attempt
            try:
                for chunk in self._stream:
                    attempt.received += len(chunk)
                    yield chunk
            except BaseException as error:
                self._broken(error)
                raise
            attempt.complete = True
            self._over()

        def close(self) -> None:
            try:
                self._stream.close()
            finally:
                self._over()

    class AsyncResponseStream(_Response, library.AsyncByteStream):  # type: ignore[misc]  # as above
        async def __aiter__(self) -> AsyncIterator[bytes]:
            attempt = self._attempt
            try:
                async for chunk in self._stream:
                    attempt.received += len(chunk)
                    yield chunk
            except BaseException as error:
                self._broken(error)
                raise
            attempt.complete = True
            self._over()

        async def aclose(self) -> None:
            try:
                await self._stream.aclose()
            finally:
                self._over()

    return (
        _Parts(library.Headers, RequestStream, ResponseStream),
        _Parts(library.Headers, AsyncRequestStream, AsyncResponseStream),
    )


TESTED: Final = {"httpx": "0.28", "httpx2": "2.16"}

HOOKS: Final = (*_hooks("httpx"), *_hooks("httpx2"))
