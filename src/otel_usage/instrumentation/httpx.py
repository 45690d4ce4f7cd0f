"""httpx and httpx2: one upstream span for each attempt that a transport makes, its bytes counted to the last one.

The same transport methods that the official instrumentation wraps. Redirects and retries reach them one by one, so each
is an attempt of its own. A transport of the application's own is seen where it hands requests on to one of the
library's, and not where it answers them itself. Tested with httpx 0.28 and httpx2 2.16.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from contextvars import ContextVar
from functools import cached_property
from typing import Any, Final

from opentelemetry.instrumentation.utils import is_http_instrumentation_enabled

from ..attempt import UpstreamAttempt, UpstreamNaming, naming
from ..guard import guarded
from ..runtime import active
from .hooks import Hook

_SENDS: Final = "otel_usage.sends"
"""Where a request's extensions hold how often it was sent. Redirects copy them, retries reuse them."""


class _Library:
    """The hooks of one library with httpx's interface."""

    def __init__(self, module: str) -> None:
        self._module = module

    def hooks(self) -> tuple[Hook, ...]:
        """A hook for each transport that the library ships."""
        sync = ("HTTPTransport", "MockTransport", "WSGITransport")
        asynchronous = ("AsyncHTTPTransport", "MockTransport", "ASGITransport")
        return (
            *(Hook(self._module, f"{transport}.handle_request", self._handle) for transport in sync),
            *(
                Hook(self._module, f"{transport}.handle_async_request", self._handle_async)
                for transport in asynchronous
            ),
        )

    @cached_property
    def _streams(self) -> tuple[tuple[type, type], tuple[type, type]]:
        # Read from the loaded modules, so that the hook never imports what the application has not.
        return _stream_classes(sys.modules[self._module])

    def _handle(self, wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        sending = self._begin(instance, args[0] if args else kwargs.get("request"), _SYNC)
        if sending is None:
            return wrapped(*args, **kwargs)
        try:
            response = wrapped(sending.copy)
        except BaseException as error:
            sending.failed(error)
            raise
        finally:
            sending.over()
        sending.responded(response)
        return response

    async def _handle_async(self, wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        sending = self._begin(instance, args[0] if args else kwargs.get("request"), _ASYNC)
        if sending is None:
            return await wrapped(*args, **kwargs)
        try:
            response = await wrapped(sending.copy)
        except BaseException as error:
            sending.failed(error)
            raise
        finally:
            sending.over()
        sending.responded(response)
        return response

    @guarded(None)
    def _begin(self, transport: Any, request: Any, flavour: int) -> _Sending | None:
        recorder = active()
        if recorder is None or not is_http_instrumentation_enabled() or _within(transport, request):
            return None
        library = sys.modules[self._module]
        streams = self._streams[flavour]  # before anything is counted: it is what can fail
        attempt = UpstreamAttempt(recorder, _name(request.extensions), request.method, request.url.host)
        attempt.resend_count = request.extensions.get(_SENDS, 0)
        # Another dict, because somebody who sends the same request at this moment may be reading the one that it has.
        request.extensions = {**request.extensions, _SENDS: attempt.resend_count + 1}
        return _Sending(library, request, attempt, streams, transport)


_SYNC, _ASYNC = 0, 1

_SENDING: Final[ContextVar[tuple[Any, Any] | None]] = ContextVar("otel_usage.sending", default=None)
"""The transport and the request that it is sending."""


def _within(transport: Any, request: Any) -> bool:
    """Whether this very call is observed already: by a hook beneath a foreign wrapper, where it could not be removed
    when usage was switched off and on again.
    """
    sending = _SENDING.get()
    return sending is not None and sending[0] is transport and sending[1] is request


def _name(extensions: dict[str, Any]) -> UpstreamNaming:
    """``extensions={"usage": {…}}`` names one call, ``with upstream(…)`` all calls within; the nearer goes first."""
    around = naming()
    if around is not None:
        around.attempts += 1
    around = around or UpstreamNaming()
    own = extensions.get("usage")
    if not isinstance(own, dict):
        return around
    return UpstreamNaming(
        own.get("provider", around.provider),
        own.get("operation", around.operation),
        own.get("cache_status", around.cache_status),
    )


def _copy(request: Any) -> Any:
    """Another request with all that this one has, also where a class of the application's keeps it in slots."""
    copied = object.__new__(type(request))
    vars(copied).update(vars(request))
    for base in type(request).__mro__:
        slots = vars(base).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if hasattr(request, name) and name not in ("__dict__", "__weakref__"):
                setattr(copied, name, getattr(request, name))
    return copied


class _Sending:
    """A request on its way through a transport: a copy of the application's where it needs a stream that counts, or
    other headers to this host. The application's stays as it is, whoever else sends it at the same time.
    """

    def __init__(
        self, library: Any, request: Any, attempt: UpstreamAttempt, streams: tuple[Any, Any], transport: Any
    ) -> None:
        self._library = library
        request_stream, self._response_stream = streams
        # Such a transport takes the body with `Request.read()`, from memory if it is there.
        self._whole = whole = isinstance(transport, (library.MockTransport, library.WSGITransport))
        self._attempt = attempt
        self._request = request
        in_memory = whole and hasattr(request, "_content")  # its stream is sync and async at once: leave it so
        has_body = "content-length" in request.headers or "transfer-encoding" in request.headers
        headers = self._headers(request)
        self.copy = request
        if headers is not request.headers or (has_body and not in_memory):
            self.copy = _copy(request)
            self.copy.headers = headers
            if has_body and not in_memory:
                self.copy.stream = request_stream(request.stream, attempt)
        self._counting = self.copy.stream
        self._token = _SENDING.set((transport, self.copy))

    def _headers(self, request: Any) -> Any:
        """Baggage goes as it may go to this host: where the connection leads, whatever the request's headers say."""
        url, raw = request.url, request.headers.raw
        header = ",".join(value.decode("latin-1") for name, value in raw if name.lower() == _BAGGAGE)
        host, port = url.raw_host.decode("ascii"), url.port or _PORTS.get(url.scheme)
        own, ours = self._attempt.baggage(header, host, port)
        if own != header:
            raw = [(name, value) for name, value in raw if name.lower() != _BAGGAGE]
            raw += [(_BAGGAGE, own.encode("latin-1"))] if own else []
        elif not ours:
            return request.headers
        return self._library.Headers([*raw, *([(_BAGGAGE, ours.encode("ascii"))] if ours else ())])

    @guarded(None)
    def over(self) -> None:
        """The transport is done with the copy."""
        # What it has read of the body is the application's too, as after `Request.read()`.
        if hasattr(self.copy, "_content") and not hasattr(self._request, "_content"):
            self._request._content = self.copy._content
            if self.copy.stream is not self._counting:
                self._request.stream = self.copy.stream
        with suppress(ValueError):  # a coroutine may be closed in another context; there is nothing to undo there
            _SENDING.reset(self._token)

    @guarded(None)
    def failed(self, error: BaseException) -> None:
        """The transport raised: there is no response."""
        self._attempt.failed(error)
        self._attempt.finish()

    @guarded(None)
    def responded(self, response: Any) -> None:
        """The response's head is here; its body is still to be read, unless it was made whole, as by a mock."""
        attempt = self._attempt
        attempt.responded(response.status_code)
        if self._whole:
            attempt.sent = len(self.copy.content)
        if response.is_closed:
            # Downloaded are 0 bytes of one that was made of bytes, and of one that was closed unread.
            attempt.received = response.num_bytes_downloaded or len(getattr(response, "_content", b""))
            attempt.complete = True
            attempt.finish()
        else:
            attempt.expected = _length(self._request, response)
            response.stream = self._response_stream(response.stream, attempt)


_BAGGAGE: Final = b"baggage"
_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}


def _length(request: Any, response: Any) -> int | None:
    """Bytes of the body, where the response's head says so (RFC 9112, section 6.3)."""
    if request.method == "HEAD" or response.status_code in (101, 204, 304):
        return 0
    length = response.headers.get("content-length", "")
    return int(length) if length.isdecimal() else None


@guarded(None)
def _finish(attempt: UpstreamAttempt) -> None:
    attempt.finish()


def _stream_classes(library: Any) -> tuple[tuple[type, type], tuple[type, type]]:  # noqa: C901  # four small classes
    """Counting streams for a request and its response, sync and async, of the base classes that the library's clients
    insist on.
    """

    class RequestStream(library.SyncByteStream):  # type: ignore[misc]  # the base is only known at run time
        def __init__(self, stream: Any, attempt: UpstreamAttempt) -> None:
            self._stream, self._attempt = stream, attempt

        def __iter__(self) -> Iterator[bytes]:
            for chunk in self._stream:
                yield chunk
                self._attempt.sent += len(chunk)

        def close(self) -> None:
            self._stream.close()

    class AsyncRequestStream(library.AsyncByteStream):  # type: ignore[misc]  # as above
        def __init__(self, stream: Any, attempt: UpstreamAttempt) -> None:
            self._stream, self._attempt = stream, attempt

        async def __aiter__(self) -> AsyncIterator[bytes]:
            async for chunk in self._stream:
                yield chunk
                self._attempt.sent += len(chunk)

        async def aclose(self) -> None:
            await self._stream.aclose()

    class ResponseStream(library.SyncByteStream):  # type: ignore[misc]  # as above
        def __init__(self, stream: Any, attempt: UpstreamAttempt) -> None:
            self._stream, self._attempt = stream, attempt

        def __iter__(self) -> Iterator[bytes]:
            with _Reading(self._attempt):
                for chunk in self._stream:
                    self._attempt.received += len(chunk)
                    yield chunk

        def close(self) -> None:
            try:
                self._stream.close()
            finally:
                _finish(self._attempt)

        def __del__(self) -> None:
            _finish(self._attempt)  # the application never closed its response

    class AsyncResponseStream(library.AsyncByteStream):  # type: ignore[misc]  # as above
        def __init__(self, stream: Any, attempt: UpstreamAttempt) -> None:
            self._stream, self._attempt = stream, attempt

        async def __aiter__(self) -> AsyncIterator[bytes]:
            with _Reading(self._attempt):
                async for chunk in self._stream:
                    self._attempt.received += len(chunk)
                    yield chunk

        async def aclose(self) -> None:
            try:
                await self._stream.aclose()
            finally:
                _finish(self._attempt)

        def __del__(self) -> None:
            _finish(self._attempt)  # the application never closed its response

    return (RequestStream, ResponseStream), (AsyncRequestStream, AsyncResponseStream)


class _Reading:
    """The reading of a response's body: to its end, to an error, or given up half-way (GeneratorExit)."""

    def __init__(self, attempt: UpstreamAttempt) -> None:
        self._attempt = attempt

    def __enter__(self) -> None:
        return None

    @guarded(None)
    def __exit__(self, exc_type: type[BaseException] | None, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, GeneratorExit):
            return  # it may be given up before it is closed
        if error is None:
            self._attempt.complete = True
        else:
            self._attempt.failed(error)
        self._attempt.finish()


HOOKS: Final = (*_Library("httpx").hooks(), *_Library("httpx2").hooks())
