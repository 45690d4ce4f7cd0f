"""A small HTTP/1.1 server for one handler, on the standard library alone."""

from __future__ import annotations

import ipaddress
import logging
import math
import re
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from types import TracebackType
from typing import Any, Final, Protocol, Self

from .messages import Request, Response, error_response
from .otlp import MAX_BODY_BYTES

_LOG: Final = logging.getLogger(__name__)

_POLL_SECONDS: Final = 0.05
_IDLE_SECONDS: Final = 60.0
_JOIN_SECONDS: Final = 5.0
_DISCARD_BYTES: Final = 64 * 1024 * 1024
_DISCARD_SECONDS: Final = 1.0
_MAX_CONNECTIONS: Final = 256
_LENGTH: Final = re.compile("[0-9]{1,18}")
_METHODS_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH"})
_STATUSES_WITHOUT_BODY: Final = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})
_LOCAL_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class Transmission(Protocol):
    """An answer that writes to the connection itself. The connection is closed after it."""

    def transmit(self, connection: socket.socket, closing: threading.Event) -> None:
        """Write whatever it is. A wait must end as soon as ``closing`` is set. An OSError is the client's going."""
        ...


Handler = Callable[[Request], Response | Transmission]
"""Answers one request. Called from many threads. What it raises is logged and answered with a 500."""


Admission = Callable[[Request], Response | None]
"""Looks at a request without its body. None: it may go on; else the answer."""


class HttpServer:
    """Serves one handler until it is closed. Each connection has a thread and is kept alive, 256 of them at most: for
    one more, the one that has kept us waiting longest is closed, so that nobody takes up all of them by opening them.

    A request with a body needs ``Content-Length``: a chunked body is answered with 411. Bound to a loopback address, a
    ``Host`` that is not a name of this machine is answered with 403, so that no web page can reach it by rebinding a
    name of its own. Nothing is logged about single requests.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        max_body_bytes: int = MAX_BODY_BYTES,
        admit: Admission | None = None,
    ) -> None:
        """``port`` 0: any free one. ``max_body_bytes``: a longer body is not read, and the handler gets None for it.

        ``admit`` is asked before a body is read. None: everybody may send one.
        """
        self._handler = handler
        self._admit = admit
        self._host = host
        self._port = port
        self._max_body_bytes = max_body_bytes
        self._listener: _Listener | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port that it listens on, also while it is paused. 0 before it was started, if any was asked for."""
        return self._port

    @property
    def url(self) -> str:
        """``http://host:port``, without a slash at its end."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    def start(self) -> None:
        """Listen and serve.

        Raises:
            OSError: the address cannot be bound, for example because the port is taken.
        """
        self._bind()
        self._serve()

    def pause(self) -> None:
        """Refuse connections, drop those that are open, and keep the port for :meth:`resume`."""
        self._stop()
        self._bind()

    def resume(self) -> None:
        """Listen again after :meth:`pause`."""
        self._serve()

    def close(self) -> None:
        """Stop listening, drop every connection and join every thread. May be called twice."""
        self._stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _bind(self) -> None:
        self._listener = _Listener((self._host, self._port), self._handler, self._admit, self._max_body_bytes)
        self._port = self._listener.server_port

    def _serve(self) -> None:
        assert self._listener is not None  # both callers come after _bind
        self._listener.server_activate()
        self._thread = threading.Thread(
            target=self._listener.serve_forever, args=(_POLL_SECONDS,), name="otel-usage-http", daemon=True
        )
        self._thread.start()

    def _stop(self) -> None:
        listener, thread, self._listener, self._thread = self._listener, self._thread, None, None
        if listener is None:
            return
        if thread is not None:
            listener.shutdown()
            thread.join()
        listener.server_close()
        listener.drop_connections()


@dataclass(slots=True)
class _Open:
    connection: socket.socket
    waiting_since: float | None
    """When it began to wait for its client, in seconds of the monotonic clock. None: it does not."""
    sending: bool = False
    """Whether the client has begun a request."""


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    # The base class forgets its daemon threads. They are tracked below, so that closing can join them.
    block_on_close = False
    request_queue_size = 128

    def __init__(
        self, address: tuple[str, int], handler: Handler, admit: Admission | None, max_body_bytes: int
    ) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, _Connection, bind_and_activate=False)
        self.handler = handler
        self.admit = admit
        self.max_body_bytes = max_body_bytes
        self.closing = threading.Event()
        self._open: dict[threading.Thread, _Open] = {}
        self._lock = threading.Lock()
        try:
            self.server_bind()
        except OSError:
            self.server_close()
            raise
        self.loopback = ipaddress.ip_address(str(self.server_address[0])).is_loopback

    def server_bind(self) -> None:
        # HTTPServer's own would look up the host's full name, which can take seconds without a resolver.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        thread = threading.Thread(
            target=self.process_request_thread,
            args=(request, client_address),
            name="otel-usage-http-connection",
            daemon=True,
        )
        with self._lock:
            room = len(self._open) < _MAX_CONNECTIONS or self._drop_waiting(-math.inf, most=1)
            if room:
                self._open[thread] = _Open(request, time.monotonic())
        if not room:
            self.shutdown_request(request)
            return
        try:
            thread.start()
        except RuntimeError:  # the machine has no more threads
            with self._lock:
                del self._open[thread]
            raise

    def service_actions(self) -> None:
        # A timeout of a socket's is one of each read: who sends a byte a minute is never out of time.
        with self._lock:
            self._drop_waiting(_IDLE_SECONDS)

    def waits(self, *, for_body: bool = False) -> None:
        """The connection of this thread waits for its client's next request, or for the rest of one."""
        self._mark(time.monotonic(), for_body)

    def works(self) -> None:
        """The connection of this thread has read a request."""
        self._mark(None, False)

    def _mark(self, since: float | None, sending: bool) -> None:
        with self._lock:
            here = self._open.get(threading.current_thread())
            if here is not None:
                here.waiting_since, here.sending = since, sending

    def _drop_waiting(self, seconds: float, most: int = _MAX_CONNECTIONS) -> bool:
        """Drop connections that have waited for so long, the longest first, and last those of clients that are sending.
        Returns whether there was one.
        """
        before = time.monotonic() - seconds
        since = [(o.sending, o.waiting_since, id(o), o) for o in self._open.values() if o.waiting_since is not None]
        due = sorted(entry for entry in since if entry[1] < before)[:most]
        for *_, waiting in due:
            waiting.waiting_since = None
            with suppress(OSError):
                waiting.connection.shutdown(socket.SHUT_RDWR)
        return bool(due)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._lock:
                self._open.pop(threading.current_thread(), None)

    def handle_error(self, request: Any, client_address: Any) -> None:
        # What a handler raises has been answered before. What is left is a client that went away.
        _LOG.debug("connection lost", exc_info=True)

    def drop_connections(self) -> None:
        self.closing.set()
        with self._lock:
            still_open = dict(self._open)
        for opened in still_open.values():
            with suppress(OSError):
                opened.connection.shutdown(socket.SHUT_RDWR)
        for thread in still_open:
            thread.join(_JOIN_SECONDS)


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _IDLE_SECONDS
    disable_nagle_algorithm = True
    server: _Listener

    def handle_one_request(self) -> None:
        self.server.waits()
        super().handle_one_request()

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _answer(self) -> None:
        answer = self._refusal() or self._handled()
        if isinstance(answer, Response):
            self.wfile.write(encode_response(answer, close=self.close_connection, head=self.command == "HEAD"))
            if self.close_connection:
                self._discard_unread()
        else:
            self.close_connection = True
            answer.transmit(self.connection, self.server.closing)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _answer

    def _refusal(self) -> Response | None:
        refusal = self._refuse_host() or self._refuse_framing() or self._refuse_sender()
        if refusal is not None:
            # The body is not read, so the next request's start is not known.
            self.close_connection = True
        return refusal

    def _refuse_host(self) -> Response | None:
        host = self.headers.get("Host")
        if host is None and self.request_version != "HTTP/1.0":
            return error_response(400, "missing header Host")
        if host is None or not self.server.loopback or _host_name(host) in _LOCAL_NAMES | {self.server.server_name}:
            return None
        return error_response(403, f"host {host!r} is not a name of this machine")

    def _refuse_framing(self) -> Response | None:
        length = self.headers.get_all("Content-Length", [])
        if "Transfer-Encoding" in self.headers or (not length and self.command in _METHODS_WITH_BODY):
            return error_response(411, "send Content-Length: a chunked body is not read")
        if length and (len(length) > 1 or not _LENGTH.fullmatch(length[0].strip())):
            return error_response(400, "Content-Length is not a number")
        return None

    def _refuse_sender(self) -> Response | None:
        return self.server.admit(self._request(None)) if self.server.admit is not None else None

    def _request(self, body: bytes | None) -> Request:
        path, _, query = self.path.partition("?")
        return Request(self.command, path, self._headers(), body, query)

    def _handled(self) -> Response | Transmission:
        self.server.waits(for_body=True)
        request = self._request(self._body())
        self.server.works()
        try:
            return self.server.handler(request)
        except Exception:
            _LOG.exception("the handler of %s %s failed", request.method, request.path)
            return error_response(500, "internal server error")

    def _body(self) -> bytes | None:
        length = int(self.headers.get("Content-Length", 0))
        if length > self.server.max_body_bytes:
            self.close_connection = True
            return None
        body = self.rfile.read(length)
        if len(body) < length:
            raise ConnectionAbortedError("the client left in the middle of its body")
        return body

    def _headers(self) -> dict[str, str]:
        names = {name.lower() for name in self.headers}
        return {name: ", ".join(self.headers.get_all(name, [])) for name in names}

    def _discard_unread(self) -> None:
        # Closing a socket that holds unread data resets the connection, and the client may lose the answer to it.
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(_DISCARD_SECONDS)
            left = _DISCARD_BYTES
            while left > 0 and (chunk := self.rfile.read1(65536)):
                left -= len(chunk)


def encode_response(response: Response, *, close: bool = False, head: bool = False) -> bytes:
    """The response as it goes over the wire. ``close``: say that the connection ends. ``head``: leave the body out."""
    try:
        phrase = HTTPStatus(response.status).phrase
    except ValueError:
        phrase = ""
    headers = dict(response.headers)
    if response.status not in _STATUSES_WITHOUT_BODY:
        headers["Content-Length"] = str(len(response.body))
    if close:
        headers["Connection"] = "close"
    lines = [f"HTTP/1.1 {response.status} {phrase}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (b"" if head else response.body)


def _host_name(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()
