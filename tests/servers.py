"""Real servers on loopback sockets, for the length of a ``with`` block."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
import waitress


def listening() -> socket.socket:
    """A socket that listens on a free port of loopback."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", 0))
    sock.listen(128)
    return sock


@contextmanager
def serve_asgi(app: Any, **settings: Any) -> Iterator[str]:
    """Serve an ASGI app with uvicorn, on a thread. Yields its URL."""
    sock = listening()
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", **{"timeout_graceful_shutdown": 3, **settings}))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, name="test-uvicorn", daemon=True)
    thread.start()
    try:
        deadline = time.monotonic() + 10
        while not server.started and time.monotonic() < deadline:
            time.sleep(0.005)
        assert server.started, "uvicorn did not start within 10 s"
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(15)
        sock.close()
        assert not thread.is_alive(), "uvicorn did not stop within 15 s"


@contextmanager
def serve_wsgi(app: Any) -> Iterator[str]:
    """Serve a WSGI app with waitress, on threads. Yields its URL."""
    sock = listening()
    server = waitress.create_server(app, sockets=[sock], threads=4)
    stopping = threading.Event()

    def serve() -> None:
        # waitress's own loop can only be ended by closing what it is waiting for, which it takes for an error.
        while not stopping.is_set():
            server.asyncore.loop(timeout=0.05, map=server._map, count=1)

    thread = threading.Thread(target=serve, name="test-waitress", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"
    finally:
        server.task_dispatcher.shutdown(timeout=5)  # before the loop, which the last tasks wake
        stopping.set()
        thread.join(15)
        server.asyncore.close_all(server._map)
        server.close()
        assert not thread.is_alive(), "waitress did not stop within 15 s"
