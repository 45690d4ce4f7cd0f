"""A Collector as a process: the shipped file as it is, with ports and places of the test's own from the environment."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Final

from tests.conftest import TOKEN
from tests.needs import needed_collector
from tests.servers import free_port

CONFIGS: Final = Path(__file__).parents[2] / "collector-config"
PATIENCE: Final = 60.0
"""Seconds that anything may take that takes one when nobody else wants the processor."""


class Collector:
    """One Collector, which may be ended and started again at the same place: it is another process then."""

    def __init__(
        self, binary: str, config: Path, directory: Path, *, overlay: Path | None = None, **environment: str
    ) -> None:
        """``overlay``: a file that is merged into the first, as an operator's own is."""
        self.grpc, self.http, self.health = free_port(), free_port(), free_port()
        self.log = directory / "collector.log"
        self.process: subprocess.Popen[bytes] | None = None
        storage = directory / "storage"
        storage.mkdir(exist_ok=True)
        configs = [config] if overlay is None else [config, overlay]
        self._command = [binary, *(word for path in configs for word in ("--config", str(path)))]
        self._environment = {
            "AXIOM_API_TOKEN": TOKEN,
            "OTELCOL_GRPC_PORT": str(self.grpc),
            "OTELCOL_HTTP_PORT": str(self.http),
            "OTELCOL_HEALTH": f"127.0.0.1:{self.health}",
            "OTELCOL_METRICS_PORT": str(free_port()),
            "OTELCOL_STORAGE": str(storage),
            **environment,
        }

    @property
    def url(self) -> str:
        """Where it takes OTLP over HTTP."""
        return f"http://127.0.0.1:{self.http}"

    @property
    def metrics_url(self) -> str:
        """Where it says how it does, to Prometheus."""
        host = self._environment.get("OTELCOL_LISTEN", "127.0.0.1")
        return f"http://{host}:{self._environment['OTELCOL_METRICS_PORT']}/metrics"

    def start(self) -> None:
        """Run it, until it says that it is well."""
        self.launch()
        assert self.process is not None
        deadline = time.monotonic() + PATIENCE
        while not self.well():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.05)

    def launch(self) -> None:
        """Run it, whatever comes of it."""
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                self._command, env=self._environment, stdout=output, stderr=output, start_new_session=True
            )

    def well(self) -> bool:
        """Whether its health check says so."""
        with suppress(OSError), closing(HTTPConnection("127.0.0.1", self.health, timeout=1)) as connection:
            connection.request("GET", "/")
            return connection.getresponse().status == 200
        return False

    def kill(self) -> None:
        """End it without a word."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Ask it to end, and wait until it has: it tries to hand over what it holds in memory."""
        self._end(signal.SIGTERM)

    @property
    def levels(self) -> set[str]:
        """The levels of what it has logged."""
        return {line.split("\t")[1] for line in self.said().splitlines() if line.count("\t") > 1}

    def said(self) -> str:
        """All that it has logged."""
        return self.log.read_text(errors="replace")

    def _end(self, how: signal.Signals) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(how)
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(PATIENCE)
                raise


@contextmanager
def collector(config: Path, directory: Path, *, overlay: Path | None = None, **environment: str) -> Iterator[Collector]:
    """A Collector with a file, which runs within the block. ``environment`` is all that it has beside its places."""
    made = Collector(needed_collector(), config, directory, overlay=overlay, **environment)
    try:
        made.start()
        yield made
    finally:
        made.kill()
