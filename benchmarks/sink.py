"""The sink, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from types import TracebackType
from typing import Self

from benchmarks.environments import ROOT

_TIMEOUT = 60.0
"""Seconds for an answer. To count what arrived takes a moment."""


class SinkProcess:
    """``with SinkProcess() as sink:``, and send to ``sink.url``."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.sink_server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        assert self._process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self._process.stdout.readline())}"
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.communicate()

    def reset(self) -> None:
        """Forget what arrived."""
        self._get("/reset")

    def stats(self) -> dict[str, int]:
        """See ``sink_server.stats``."""
        return self._get("/stats")

    def _get(self, path: str) -> dict[str, int]:
        with urllib.request.urlopen(f"{self.url}{path}", timeout=_TIMEOUT) as answer:
            found: dict[str, int] = json.load(answer)
        return found
