"""Real servers on loopback sockets, on threads and in processes, for the length of a ``with`` block."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import uvicorn
import waitress

from otel_usage.instrumentation.entries import _ServedASGI, _ServedWSGI

APPS: Final = Path(__file__).parent / "apps"
_DISABLED: Final = "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"
_SLOW: Final = "anthropic,google-genai,langchain,openai"
"""Instrumentations that take a process six seconds to load, for clients that few of these programs have."""
_WORKER: Final = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_PORTS: Final = itertools.cycle(range(10_000 + 2_000 * _WORKER, 12_000 + 2_000 * _WORKER))
PROGRAMS: Final = Path(sys.executable).parent


def free_port() -> int:
    """A port of loopback that nobody has now. Of those, each process of the test's own has a range of its own, beneath
    the one that systems take the ports of connections from: no other takes it before its server does.
    """
    while True:
        with closing(socket.socket()) as probe, suppress(OSError):
            port = next(_PORTS)
            probe.bind(("127.0.0.1", port))
            return port


def _disabled(said: str | None) -> str:
    """The instrumentations that a program is not to have. None said: but the slow ones. An empty one: none."""
    return _SLOW if said is None else f"{_SLOW},{said}" if said else ""


@contextmanager
def program_process(
    command: Sequence[str], log: Path, directory: Path = APPS, **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program of this Python's environment in a directory, with hardly anything in its environment. Whatever is
    left of its session is killed at the end.
    """
    env = {
        "PATH": f"{PROGRAMS}{os.pathsep}{os.defpath}",
        "PYTHONDONTWRITEBYTECODE": "1",
        **{name: os.environ[name] for name in ("PYTHONPATH", "XDG_STATE_HOME") if name in os.environ},
        **environment,
        _DISABLED: _disabled(environment.get(_DISABLED)),
    }
    whole = [str(PROGRAMS / command[0]), *command[1:]]
    with (
        log.open("ab") as output,
        subprocess.Popen(
            whole, env=env, cwd=directory, stdout=output, stderr=output, start_new_session=True
        ) as process,
    ):
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                with suppress(subprocess.TimeoutExpired):
                    process.wait(15)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # of its own session: nothing else is in it


@contextmanager
def server_process(
    command: Sequence[str], port: int, tmp_path: Path, directory: Path = APPS, **environment: str
) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Run a program as :func:`program_process` does, until it listens. Yields the process and its log."""
    log = tmp_path / f"{Path(command[0]).name}-{port}.log"
    with program_process(command, log, directory, **environment) as process:
        deadline = time.monotonic() + 60
        while not listens(port):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        yield process, log


def listens(port: int) -> bool:
    """Whether connections to a port of loopback are accepted."""
    with suppress(OSError), closing(socket.create_connection(("127.0.0.1", port), 1)):
        return True
    return False


def listening() -> socket.socket:
    """A socket that listens on a free port of loopback."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", 0))
    sock.listen(128)
    return sock


@contextmanager
def serve_asgi(app: Any, *, ours: bool = True, **settings: Any) -> Iterator[str]:
    """Serve an ASGI app with uvicorn, on a thread. Yields its URL. Not ``ours``: usage has no entry at the server."""
    sock = listening()
    config = uvicorn.Config(app, log_level="critical", **{"timeout_graceful_shutdown": 3, **settings})
    if not ours:
        config.load()
        config.loaded_app = _without_entry(config.loaded_app)
    server = uvicorn.Server(config)
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
def serve_wsgi(app: Any, *, ours: bool = True, **settings: Any) -> Iterator[str]:
    """Serve a WSGI app with waitress, on threads. Yields its URL. ``ours`` as for ASGI."""
    sock = listening()
    server = waitress.create_server(app, sockets=[sock], threads=4, **settings)
    if not ours:
        server.application = _without_entry(server.application)
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


def serve_aiohttp(app: Any, **settings: Any) -> AbstractContextManager[str]:
    """Serve an application of aiohttp's, or a handler without one, on a loop of its own. Yields its URL."""
    from aiohttp import web

    async def start(sock: socket.socket) -> Callable[[], Awaitable[None]]:
        settings.update(shutdown_timeout=3)
        whole = isinstance(app, web.Application)
        running: Any = web.AppRunner(app, **settings) if whole else web.ServerRunner(web.Server(app), **settings)
        await running.setup()
        await web.SockSite(running, sock).start()
        return running.cleanup  # type: ignore[no-any-return]  # of either

    return _serve_on_a_loop(start)


def serve_sanic(app: Any) -> AbstractContextManager[str]:
    """The same for Sanic."""

    async def start(sock: socket.socket) -> Callable[[], Awaitable[None]]:
        server = await app.create_server(sock=sock, return_asyncio_server=True, access_log=False)
        await server.startup()
        await server.before_start()
        await server.after_start()

        async def stop() -> None:
            await server.before_stop()
            server.close()
            await server.wait_closed()
            for connection in list(server.connections):
                connection.close()
            await server.after_stop()

        return stop

    return _serve_on_a_loop(start)


@contextmanager
def _serve_on_a_loop(start: Callable[[socket.socket], Awaitable[Callable[[], Awaitable[None]]]]) -> Iterator[str]:
    """Serve on a thread with a loop of its own. ``start`` begins, and returns what ends it."""
    sock = listening()
    started, stopping = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        stop = await start(sock)
        started.set()
        await stopping.wait()
        await stop()

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(serve())

    thread = threading.Thread(target=run, name="test-loop", daemon=True)
    thread.start()
    try:
        assert started.wait(10), "the server did not start within 10 s"
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"
    finally:
        with suppress(RuntimeError):  # it has ended by itself: the thread has said why
            loop.call_soon_threadsafe(stopping.set)
        thread.join(15)
        sock.close()
        assert not thread.is_alive(), "the server did not stop within 15 s"


def _without_entry(app: Any) -> Any:
    return app.app if isinstance(app, (_ServedASGI, _ServedWSGI)) else app
