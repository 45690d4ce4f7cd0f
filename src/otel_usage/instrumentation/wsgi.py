"""WSGI: one request span for each request, from the call to the end of the response's iterable (PEP 3333)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from types import MethodType
from typing import TYPE_CHECKING, Any, Final

from ..baggage import NOTHING, restore_baggage, shed_baggage
from ..guard import guarded
from ..request import UsageRequest
from ..runtime import active
from ..scope import Recording, current, enter, leave
from .carrier import PEER_KEY, REQUEST_KEY, SCOPE_KEY, headers_of, joining, peer_of, reached, request_of
from .hooks import Function

if TYPE_CHECKING:
    from ..attribution import Attribution
    from ..recorder import Recorder

Environ = dict[str, Any]
StartResponse = Callable[..., Callable[[bytes], object]]
WSGIApp = Callable[[Environ, StartResponse], Iterable[bytes]]

_BAGGAGE: Final = "HTTP_BAGGAGE"


class UsageWSGIMiddleware:
    """Observes a WSGI application: ``app = UsageWSGIMiddleware(app)``, outermost, so that it sees every answer.

    Nothing it does can fail a request. When usage is off, it calls the application and nothing else.
    """

    def __init__(self, app: WSGIApp) -> None:
        self.app = app

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        return observe(self.app, environ, start_response)


def entry(original: Function) -> Function:
    """The layer of an application's entry, which is a method that takes what every WSGI application does."""

    def call(self: Any, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        if REQUEST_KEY in environ:  # the server's entry has seen it already, or an application's around this one
            reached(environ)
            return original(self, environ, start_response)  # type: ignore[no-any-return]  # as every WSGI application
        return observe(MethodType(original, self), environ, start_response)

    return call


def observe(app: WSGIApp, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Call ``app`` and record the request, which ends when the server closes the iterable that is returned."""
    exchange = _begin(environ, start_response)
    if not isinstance(exchange, Exchange):
        with joining(exchange):
            return app(environ, start_response)
    token, shed = enter(exchange.request), shed_baggage()
    try:
        body = app(environ, exchange.start_response)
    except BaseException as error:
        exchange.failed(error)
        exchange.close()
        raise
    finally:
        restore_baggage(shed)
        leave(token)
    return _SizedBody(exchange, body) if hasattr(body, "__len__") else _Body(exchange, body)


@guarded(None)
def _begin(environ: Environ, start_response: StartResponse) -> Exchange | UsageRequest | None:
    """What observes the request; the request itself where a bridge has brought it here; None: nothing more to do."""
    recorder = active()
    if recorder is None or REQUEST_KEY in environ:
        return None
    around = request_of(environ)
    if around is not None:
        environ[REQUEST_KEY] = around
        return around
    exchange = Exchange(recorder, environ, start_response)
    environ[REQUEST_KEY] = exchange.request
    return exchange


@lru_cache(maxsize=4)
def _by_variable(names: frozenset[str]) -> dict[str, str]:
    """The environ's key of each header (PEP 3333, after RFC 3875)."""
    return {f"HTTP_{name.upper().replace('-', '_')}": name for name in names}


def _headers(environ: Environ, names: frozenset[str]) -> dict[str, str]:
    """The headers of these names. An environ has `X-A` and `X_A` in one, so a bridge's are read from its scope."""
    scope = environ.get(SCOPE_KEY)
    if scope is not None:
        return headers_of(scope["headers"], names)
    return {name: environ[key] for key, name in _by_variable(names).items() if key in environ}


def _peer(environ: Environ) -> str | None:
    """The address of the connection's peer. None or empty: it is not known."""
    scope = environ.get(SCOPE_KEY)
    return peer_of(scope) if scope is not None else environ.get(PEER_KEY, environ.get("REMOTE_ADDR"))


def _take_baggage(recorder: Recorder, environ: Environ) -> Attribution | None:
    """What a service of ours vouches for. What is ours in the header is not the application's to see or pass on."""
    received = recorder.baggage.received(environ[_BAGGAGE]) or NOTHING
    if received.remaining:
        environ[_BAGGAGE] = received.remaining
    else:
        del environ[_BAGGAGE]
    return received.attribution


class Exchange:
    """One request and its response, as they pass by."""

    def __init__(self, recorder: Recorder, environ: Environ, start_response: StartResponse) -> None:
        headers = _headers(environ, recorder.headers)
        method = environ.get("REQUEST_METHOD", "GET")
        attribution = _take_baggage(recorder, environ) if _BAGGAGE in environ else None
        peer = _peer(environ) if recorder.needs_peer else None
        self.request = UsageRequest(recorder, method, headers, peer, environ, attribution=attribution)
        self.length: int | None = None
        self._handed_over = False
        self._start_response = start_response
        self._closed = False
        stream = environ.get("wsgi.input")
        if stream is not None:
            environ["wsgi.input"] = _CountedInput(stream, self.request)

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], object]:
        """The application starts its response, or another in place of one that has failed."""
        headers = self._with_dev_header(headers)
        write = self._start_response(status, headers, exc_info) if exc_info else self._start_response(status, headers)
        self._started(status, headers)

        def counted_write(data: bytes) -> object:
            done = write(data)
            self.sent(data)
            return done

        return counted_write

    @guarded(None)
    def sent(self, data: bytes) -> None:
        """A part of the body went to the server, which keeps the body of an answer to HEAD to itself."""
        self._handed_over = self._handed_over or bool(data)
        self.request.response_sent(0 if self.request.method == "HEAD" else len(data))

    @guarded(None)
    def exhausted(self) -> None:
        """The application has no more parts. Fewer bytes than it has promised are not the whole response."""
        if self._closed:
            return
        request = self.request
        request.complete = self.bodiless or self.length is None or request.sent >= self.length

    @property
    def bodiless(self) -> bool:
        """Whether the response is its head, whatever the application makes of it (RFC 9112, section 6.3)."""
        return self.request.method == "HEAD" or self.request.status in (204, 304)

    @guarded(None)
    def failed(self, error: BaseException) -> None:
        """The application raised."""
        if self._closed:
            return
        if not self._handed_over and not self.request.complete:
            self.request.status = None  # the head waits for the body's first byte (PEP 3333): the server answers 500
        self.request.failed(error)

    @guarded(None)
    def close(self) -> None:
        """The server is done with the response: its span is made, once."""
        if not self._closed:
            self._closed = True
            self.request.close()
            if self.request.recorder.delivers_each:
                self.request.recorder.deliver()

    def _with_dev_header(self, headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
        recorder = self.request.recorder
        if not recorder.config.dev_header:
            return headers
        # A new list: an application may use its own for every request.
        return [*headers, ("x-usage-telemetry", recorder.status())]

    @guarded(None)
    def _started(self, status: str, headers: list[tuple[str, str]]) -> None:
        found = {name.lower(): value for name, value in headers if name.lower() in ("cache-control", "content-length")}
        length = found.get("content-length", "")
        self.length = int(length) if length.isdigit() else None
        self.request.response_started(int(status[:3]), found.get("cache-control"))


_here: Final = guarded(None)(current)


class _Body:
    """The response's iterable, counted. The request is current while the application makes a part of it, or the
    ``usage_span`` that an earlier part has begun.
    """

    def __init__(self, exchange: Exchange, body: Iterable[bytes]) -> None:
        self._exchange = exchange
        self.body = body
        self._parts: Iterator[bytes] | None = None
        self._inside: Recording = exchange.request

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        token, shed = enter(self._inside), shed_baggage()
        try:
            if self._parts is None:
                self._parts = iter(self.body)
            part = next(self._parts)
        except StopIteration:
            self._exchange.exhausted()
            raise
        except BaseException as error:
            self._exchange.failed(error)
            raise
        finally:
            self._inside = _here() or self._exchange.request
            restore_baggage(shed)
            leave(token)
        self._exchange.sent(part)
        return part

    def close(self) -> None:
        """What a server calls at the end of every request, also of one whose client is gone."""
        token, shed = enter(self._inside), shed_baggage()
        try:
            close = getattr(self.body, "close", None)
            if close is not None:
                close()
        except BaseException as error:
            self._exchange.failed(error)
            raise
        finally:
            restore_baggage(shed)
            leave(token)
            self._finish()

    @guarded(None)
    def _finish(self) -> None:
        request, length = self._exchange.request, self._exchange.length
        if request.status is not None and request.error is None and self._exchange.bodiless:
            request.complete = True  # a server may ask for no part of what it will not send
        if length is not None and request.status is not None and request.sent >= length:
            request.complete = True  # a server that was given a length may stop at the last byte
        if not request.complete and request.error is None and request.status is not None:
            request.client_gone = True
        self._exchange.close()

    def __del__(self) -> None:
        # PEP 3333 has every server call close(); one that forgets must not make a request vanish.
        self._finish()


class _SizedBody(_Body):
    """A body of known length: servers make a Content-Length of a single part (PEP 3333)."""

    def __len__(self) -> int:
        return len(self.body)  # type: ignore[arg-type]  # observe() has looked


def in_one(body: Iterable[bytes]) -> Iterable[bytes]:
    """A list that an application returned, as one, for a server that makes a Content-Length of nothing else."""
    if not (isinstance(body, _SizedBody) and isinstance(body.body, list)):
        return body
    try:
        return list(body)  # no code of the application's runs for it
    finally:
        body.close()


class _CountedInput:
    """``wsgi.input`` with its bytes counted. Anything but reading goes to the stream itself."""

    def __init__(self, stream: Any, request: UsageRequest) -> None:
        self._stream = stream
        self._request = request

    # Some servers' streams take the size by its name, others do not: each says so itself.

    def read(self, *args: Any, **named: Any) -> bytes:
        return self._count(self._stream.read(*args, **named))

    def readline(self, *args: Any, **named: Any) -> bytes:
        return self._count(self._stream.readline(*args, **named))

    def readlines(self, *args: Any, **named: Any) -> list[bytes]:
        lines: list[bytes] = self._stream.readlines(*args, **named)
        self._counted(sum(map(len, lines)))
        return lines

    def __iter__(self) -> Iterator[bytes]:
        return map(self._count, self._stream)

    def __next__(self) -> bytes:
        return self._count(next(self._stream))

    def __enter__(self) -> _CountedInput:
        self._stream.__enter__()
        return self

    def __exit__(self, *error: Any) -> Any:
        return self._stream.__exit__(*error)

    def __getattr__(self, name: str) -> Any:
        if name == "_stream":  # of a copy that has none yet
            raise AttributeError(name)
        found = getattr(self._stream, name)  # first: what the stream lacks, this lacks too
        if name in ("readinto", "readinto1"):
            return lambda buffer: self._counted(found(buffer))
        return (lambda *args, **named: self._count(found(*args, **named))) if name == "read1" else found

    def _counted(self, size: int | None) -> int | None:
        if self._request.closed_at is None:
            self._request.received += size or 0
        return size

    def _count(self, data: bytes) -> bytes:
        self._counted(len(data))
        return data
