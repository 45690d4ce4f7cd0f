"""The upstream of the suite: a server on a socket of its own that answers, and fails, in every way that one may.

It is made of nothing but the standard library, so that what a client sends and receives is in no other library's hands,
and a connection can be reset in the middle of a body. ``/<what>/<argument>`` is also how S3's clients write
``/<bucket>/<key>``.
"""

from __future__ import annotations

import contextlib
import gzip
import socket
import struct
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

GZIPPED: Final = gzip.compress(b"z" * 100_000, mtime=0)
STORED: Final = b"<stored/>"
"""The answer to what is sent: XML, which S3's clients insist on."""
PROMISED, KEPT = 5000, 1000
"""Bytes of a body that breaks off: as its head promises, and as they come."""
FAILURES: Final = 2
"""How often ``/flaky/<key>`` fails before it succeeds."""
PATIENCE: Final = 30
"""Seconds that an answer is withheld at most: clients under test give up long before."""


class Upstream(ThreadingHTTPServer):
    """What is remembered of the calls."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.asked: Counter[str] = Counter()
        """How often each path was asked for."""
        self.baggage: dict[str, list[list[str]]] = defaultdict(list)
        """The lines of baggage of each call, by path."""
        self.closing = threading.Event()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone is what is tested here."""


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Upstream

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _any(self) -> None:
        path = self.path.partition("?")[0]
        what, _, argument = path.strip("/").partition("/")
        self.server.asked[path] += 1
        self.server.baggage[path].append(self.headers.get_all("baggage") or [])
        self._read_body()
        getattr(self, f"_{what}")(argument)

    do_GET = do_POST = do_PUT = do_HEAD = _any

    def _read_body(self) -> None:
        if self.headers.get("expect") == "100-continue":
            self.send_response_only(100)
            self.end_headers()
        if self.headers.get("transfer-encoding") == "chunked":
            while size := int(self.rfile.readline().split(b";")[0], 16):
                self.rfile.read(size + 2)
            while self.rfile.readline().strip():
                pass
        else:
            self.rfile.read(int(self.headers.get("content-length", 0)))

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))

    def _begin_chunks(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def _bytes(self, size: str) -> None:
        self._answer(200, b"x" * int(size))

    def _stored(self, _: str) -> None:
        self._answer(200, STORED)

    def _status(self, status: str) -> None:
        self._answer(int(status))

    def _redirect(self, hops: str) -> None:
        self._answer(307, b"moved", Location=f"/redirect/{int(hops) - 1}" if int(hops) > 1 else "/bytes/10")

    def _flaky(self, key: str) -> None:
        failed = self.server.asked[f"/flaky/{key}"] <= FAILURES
        self._answer(503 if failed else 200, b"flaky")

    def _chunks(self, count: str) -> None:
        self._begin_chunks()
        for _ in range(int(count)):
            self._chunk(b"y" * 1000)
        self._chunk(b"")

    def _endless(self, _: str) -> None:
        self._begin_chunks()
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            self._chunk(b"e" * 1000)

    def _gzip(self, _: str) -> None:
        self._answer(200, GZIPPED, Content_Encoding="gzip")

    def _hang(self, _: str) -> None:
        self.server.closing.wait(PATIENCE)
        self.close_connection = True

    def _cut(self, how: str) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(PROMISED))
        self.end_headers()
        self.wfile.write(b"c" * KEPT)
        self.close_connection = True
        if how == "reset":
            # What was sent is at the client before the reset is, which may throw away what has not been read.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            socket.socket(fileno=self.connection.detach()).close()  # at once, whatever else holds on to it


@contextlib.contextmanager
def upstream() -> Iterator[Upstream]:
    """An upstream that listens, for the length of a ``with`` block."""
    with Upstream() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, name="test-upstream")
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            server.shutdown()
            thread.join(10)
