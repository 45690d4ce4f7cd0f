"""A broker, a service that enqueues, and a worker, as real processes, and what the sink has got of them in the end."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
import redis

from otel_usage.testing import AxiomStub, ReceivedSpan
from tests.conftest import TOKEN
from tests.needs import needed_program
from tests.servers import free_port, program_process, serve_asgi, server_process

from .declared import PROGRAMS, Queue

_MODES: Final[dict[str, dict[str, str]]] = {"by-hand": {"BY_HAND": "1"}, "zero-code": {}}
KEY: Final = "k1:0123456789abcdef0123456789abcdef"


@contextmanager
def broker(directory: Path) -> Iterator[str]:
    """A Redis of one's own. Yields its URL."""
    port = free_port()
    quiet = ("--save", "", "--appendonly", "no")
    command = [needed_program("redis-server"), "--port", str(port), "--bind", "127.0.0.1", *quiet]
    with server_process(command, port, directory, directory):
        yield f"redis://127.0.0.1:{port}/0"


async def _upstream(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


@dataclass
class World:
    """The processes of one queue, and what is asked of them."""

    queue: Queue
    mode: str
    directory: Path
    redis: str
    upstream: str
    sink: AxiomStub
    settings: dict[str, str] = field(default_factory=dict)
    """Variables of the service and of the worker, in place of what they have else."""

    @property
    def _environment(self) -> dict[str, str]:
        return {
            "USAGE_TELEMETRY": "1",
            "USAGE_OTLP_ENDPOINT": self.sink.url,
            "AXIOM_API_TOKEN": TOKEN,
            "USAGE_BAGGAGE_KEY": KEY,
            "QUEUE": self.queue.module,
            "REDIS_URL": self.redis,
            "UPSTREAM": self.upstream,
            **_MODES[self.mode],
            **self.settings,
        }

    def _command(self, *command: str) -> list[str]:
        return [*(["opentelemetry-instrument"] if self.mode == "zero-code" else []), *command]

    @contextmanager
    def service(self, **settings: str) -> Iterator[str]:
        """The service, as long as it runs. Yields its URL."""
        port = free_port()
        command = self._command("uvicorn", "shop:app", "--port", str(port), "--log-level", "warning")
        environment = {**self._environment, **settings, "OTEL_SERVICE_NAME": "shop"}
        with server_process(command, port, self.directory, PROGRAMS, **environment):
            yield f"http://127.0.0.1:{port}"

    @contextmanager
    def worker(self, **settings: str) -> Iterator[None]:
        """A worker, until it is told to end by SIGTERM and has ended."""
        parts = (*self.queue.worker, *(self.queue.by_hand if self.mode == "by-hand" else ()))
        command = self._command(*(part.format(redis=self.redis) for part in parts))
        log = self.directory / "worker.log"
        environment = {**self._environment, **settings, "OTEL_SERVICE_NAME": "worker"}
        with program_process(command, log, PROGRAMS, **environment) as process:
            try:
                yield
            except AssertionError as error:
                error.add_note(log.read_text())
                raise
            process.terminate()
            process.wait(30)

    def run(self, program: str, **given: str) -> str:
        """What a program prints that knows no usage, and is given some variables."""
        log = self.directory / f"{program}.log"
        environment = {**self._environment, "USAGE_TELEMETRY": "0", **given}
        with program_process(["python", f"{program}.py"], log, PROGRAMS, **environment) as process:
            assert process.wait(60) == 0, log.read_text()
        return log.read_text()

    def ran(self, case: str, times: int = 1) -> None:
        """Wait until a job has been run as often, and no longer than a minute."""
        deadline = time.monotonic() + 60
        while (found := int(self.stored(f"ran:{case}") or 0)) < times:
            assert time.monotonic() < deadline, f"the job of the case {case} has been run {found} times, not {times}"
            time.sleep(0.02)

    def stored(self, key: str) -> bytes | None:
        """What a job has left behind."""
        with redis.Redis.from_url(self.redis) as store:
            return store.get(key)

    def refused(self, case: str) -> dict[str, int]:
        """What the process that has run a job had refused to believe until then."""
        found: dict[str, int] = json.loads(self.stored(f"dropped:{case}") or b"{}")
        return found

    @property
    def jobs(self) -> list[ReceivedSpan]:
        """The spans of jobs that have arrived, by their start."""
        found = [span for span in self.sink.unique_spans if span.attributes["usage.kind"] == "custom"]
        return sorted((span for span in found if span.name in self._names), key=lambda span: span.start_time)

    @property
    def _names(self) -> set[str]:
        return {self.queue.job.format(job) for job in ("note", "calls", "says", "fails", "flaky", "nested")}


@contextmanager
def world(queue: Queue, mode: str, directory: Path, **settings: str) -> Iterator[World]:
    """A broker, an upstream and a sink, and a service and a worker that may be started."""
    with pytest.MonkeyPatch.context() as patch, AxiomStub(token=TOKEN) as sink:
        patch.setenv("XDG_STATE_HOME", str(directory))  # a module's fixture is set up before the one of each test
        with broker(directory) as url, serve_asgi(_upstream, lifespan="off") as upstream:
            yield World(queue, mode, directory, url, upstream, sink, settings)


def ask(url: str, *path: str) -> None:
    """A request of the service, answered well."""
    with urllib.request.urlopen("/".join((url, *path)), timeout=30) as answer:
        assert answer.status == 200
        answer.read()
