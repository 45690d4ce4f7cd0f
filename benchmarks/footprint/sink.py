"""A sink in a process of its own, which takes whatever comes: its work must not share an interpreter with what is
measured.

``Sink`` is the handle; ``python -m benchmarks.footprint.sink`` is what it starts. It is told the status to answer with
on its standard input, a line each, and ends with it. It can keep the bodies, as they were on the wire.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path
from typing import Self

from otel_usage.local.http_server import HttpServer
from otel_usage.local.messages import Request, Response

from .children import ROOT, environment

ANSWER = {"Content-Type": "application/x-protobuf"}


class Sink:
    """A running sink. ``with Sink() as sink:`` and point ``otlp_endpoint`` at ``sink.url``."""

    def __init__(self, keep: Path | None = None) -> None:
        """``keep``: the directory that bodies are written into, one file each, in order. None: they are not kept."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.footprint.sink", *([str(keep)] if keep else [])],
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        """``http://127.0.0.1:port``."""

    def answer(self, status: int) -> None:
        """Answer every request with ``status`` from now on."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{status}\n")
        self._process.stdin.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._process.communicate(timeout=15)  # which closes its input


class Answering:
    """The sink's handler."""

    def __init__(self, keep: Path | None) -> None:
        self.status = 200
        self._keep = keep
        self._numbers = itertools.count()

    def __call__(self, request: Request) -> Response:
        if self._keep is not None and request.body is not None:
            (self._keep / f"{next(self._numbers):06d}.gz").write_bytes(request.body)
        return Response(self.status, ANSWER)


def main(keep: str | None = None) -> None:
    answering = Answering(Path(keep) if keep else None)
    with HttpServer(answering) as server:
        print(server.url, flush=True)
        for line in sys.stdin:
            answering.status = int(line)


if __name__ == "__main__":
    main(*sys.argv[1:])
