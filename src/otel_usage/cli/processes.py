"""Servers in processes of their own, for the length of a ``with`` block."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from .command import CommandError

_START_SECONDS: Final = 30.0
_STOP_SECONDS: Final = 15.0
_LAST_LINES: Final = 5


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextmanager
def server_process(command: Sequence[str], port: int, environment: Mapping[str, str], log: Path) -> Iterator[str]:
    """Run ``command`` with ``--port``, wait until it accepts connections, and yield its URL. Ends it by SIGTERM.

    Raises:
        CommandError: it ended, or does not accept connections in time. Shows the last lines of ``log``.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=dict(environment),
        )
    try:
        _await(process, port, command, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await(process: subprocess.Popen[bytes], port: int, command: Sequence[str], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    last = " | ".join(log.read_text(errors="replace").splitlines()[-_LAST_LINES:])
    raise CommandError(f"{Path(command[0]).name} did not start on port {port}: {last}")
