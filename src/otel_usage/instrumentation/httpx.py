"""httpx and httpx2: one upstream span for each attempt that a transport makes, its bytes counted to the last one.

The same transport methods that the official instrumentation wraps. Redirects and retries reach it one by one, so each is
an attempt of its own. Tested with httpx 0.28 and httpx2 2.16.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
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
    def _streams(self) -> tuple[type, type, type, type]:
        # Read from the loaded modules, so that the hook never imports what the application has not.
        return _stream_classes(sys.modules[self._module])

    def _handle(self, wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        request = args[0] if args else kwargs.get("request")
        attempt = _begin(request)
        if attempt is None:
            return wrapped(*args, **kwargs)
        body = self._count_request(request, attempt, 0)
        try:
            response = wrapped(*args, **kwargs)
        except BaseException as error:
            _failed(attempt, error)
            raise
        finally:
            body.restore()
        self._responded(response, attempt, 2)
        return response

    async def _handle_async(self, wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        request = args[0] if args else kwargs.get("request")
        attempt = _begin(request)
        if attempt is None:
            return await wrapped(*args, **kwargs)
        body = self._count_request(request, attempt, 1)
        try:
            response = await wrapped(*args, **kwargs)
        except BaseException as error:
            _failed(attempt, error)
            raise
        finally:
            body.restore()
        self._responded(response, attempt, 3)
        return response

    def _count_request(self, request: Any, attempt: UpstreamAttempt, flavour: int) -> _RequestBody:
        body = _RequestBody(request)
        if "content-length" in request.headers or "transfer-encoding" in request.headers:
            body.count(self._streams[flavour], attempt)
        return body

    @guarded(None)
    def _responded(self, response: Any, attempt: UpstreamAttempt, flavour: int) -> None:
        attempt.responded(response.status_code)
        if response.is_closed:  # made whole, as by a mock: its stream is not read again
            attempt.received, attempt.complete = response.num_bytes_downloaded, True
            attempt.finish()
        else:
            response.stream = self._streams[flavour](response.stream, attempt)


@guarded(None)
def _begin(request: Any) -> UpstreamAttempt | None:
    recorder = active()
    if recorder is None or not is_http_instrumentation_enabled():
        return None
    attempt = UpstreamAttempt(recorder, _name(request.extensions), request.method, request.url.host)
    attempt.resend_count = request.extensions.get(_SENDS, 0)
    request.extensions[_SENDS] = attempt.resend_count + 1
    return attempt


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


@guarded(None)
def _failed(attempt: UpstreamAttempt, error: BaseException) -> None:
    attempt.failed(error)
    attempt.finish()


@guarded(None)
def _finish(attempt: UpstreamAttempt) -> None:
    attempt.finish()


class _RequestBody:
    """A request's body, and the counting stream that stands in its place while it is sent."""

    def __init__(self, request: Any) -> None:
        self._request = request
        self._own = request.stream
        self._counted: Any = None

    def count(self, stream_class: type, attempt: UpstreamAttempt) -> None:
        self._request.stream = self._counted = stream_class(self._own, attempt)

    def restore(self) -> None:
        # A transport may have put a stream of its own here, as httpx's Request.read() does: that one stays.
        if self._counted is not None and self._request.stream is self._counted:
            self._request.stream = self._own


def _stream_classes(library: Any) -> tuple[type, type, type, type]:  # noqa: C901  # four small classes, not one function
    """Counting streams for requests (sync, async) and responses (sync, async), of the base classes that the library's
    clients insist on.
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

    return RequestStream, AsyncRequestStream, ResponseStream, AsyncResponseStream


class _Reading:
    """The reading of a response's body: to its end, to an error, or given up half-way (GeneratorExit)."""

    def __init__(self, attempt: UpstreamAttempt) -> None:
        self._attempt = attempt

    def __enter__(self) -> None:
        return None

    def __exit__(self, exc_type: type[BaseException] | None, error: BaseException | None, traceback: object) -> None:
        if error is None:
            self._attempt.complete = True
        elif not isinstance(error, GeneratorExit):
            _failed(self._attempt, error)


HOOKS: Final = (*_Library("httpx").hooks(), *_Library("httpx2").hooks())
