"""Processes of a run: started, asked for their memory, stopped by signals, and never left behind."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final

ROOT: Final = Path(__file__).parents[2]
START_SECONDS: Final = 30.0
EXIT_SECONDS: Final = 90.0
"""How long a service may take to end after SIGTERM before it is killed."""


def resident_bytes(pid: int) -> int:
    """The memory of ``pid`` and of its children (uvicorn's workers). 0 where there is none to be read."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    own = next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS:")), 0)
    return own + sum(map(resident_bytes, children_of(pid)))


def children_of(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Service:
    """The service as a process of its own; what it says goes to a file."""

    def __init__(self, environment: dict[str, str], log: Path, *, workers: int = 1) -> None:
        self.port = free_port()
        self._log: IO[bytes] = log.open("ab")
        settings = ["--port", str(self.port), "--workers", str(workers), "--no-access-log", "--log-level", "warning"]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "--factory", "tests.chaos.service:create", *settings],
            cwd=ROOT,
            env=environment,
            stdout=self._log,
            stderr=self._log,
            stdin=subprocess.DEVNULL,
        )
        self._wait_until_it_answers()

    @property
    def rss(self) -> int:
        return resident_bytes(self._process.pid)

    def health(self) -> dict[str, Any]:
        """What ``/health`` says. With several workers: one of them."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", "/health")
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def terminate(self) -> float:
        """SIGTERM, and the seconds until the process was gone. One that stays is killed, after ``EXIT_SECONDS``."""
        began = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
        self._log.close()
        return time.monotonic() - began

    def kill(self) -> None:
        """SIGKILL, to the workers too, which would outlive their parent."""
        if self._process.poll() is None:
            workers = children_of(self._process.pid)
            self._process.kill()
            for worker in workers:
                with suppress(ProcessLookupError):
                    os.kill(worker, signal.SIGKILL)
        self._process.wait()
        self._log.close()

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            try:
                self.health()
            except (OSError, http.client.HTTPException):
                time.sleep(0.05)
            else:
                return
        self.kill()
        raise RuntimeError(
            f"the service did not start; {Path(self._log.name).name} says:\n{tail(Path(self._log.name))}"
        )


def tail(log: Path, lines: int = 30) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
