"""A stack at work: its process, the requests that are made of it, and the spans that came of them."""

from __future__ import annotations

import contextlib
import itertools
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx

from otel_usage.testing import AxiomStub, ReceivedSpan
from tests.conftest import TOKEN
from tests.servers import free_port, server_process

from .stacks import Stack

APPS: Final = Path(__file__).parent / "apps"
MODES: Final = ("zero-code", "by-hand")
PATIENCE: Final = 10.0
"""Seconds until a span that has not come will not come."""

_TLS: Final = ssl.create_default_context()
"""What a client makes for itself otherwise, in 20 ms."""

_numbers: Final = itertools.count(1)


class Service:
    """A stack that serves. Each request has an id of its own, by which its span is found."""

    def __init__(self, stack: Stack, mode: str, port: int, sink: AxiomStub, process: subprocess.Popen[bytes]) -> None:
        self.stack, self.mode, self.port, self.sink = stack, mode, port, sink
        self.url = f"http://127.0.0.1:{port}"
        self.asked: list[str] = []
        self._process = process

    def new_id(self) -> str:
        """The id for another request, which its ``x-request-id`` says."""
        number = f"request-{next(_numbers)}"
        self.asked.append(number)
        return number

    def ask(self, method: str, path: str, **options: Any) -> tuple[httpx.Response, ReceivedSpan]:
        """The answer, and the request's one span."""
        number = self.new_id()
        headers = {"x-request-id": number, **options.pop("headers", {})}
        with httpx.Client(base_url=self.url, timeout=20, verify=_TLS) as client:
            answer = client.request(method, path, headers=headers, **options)
        return answer, self.span(number)

    def span(self, number: str) -> ReceivedSpan:
        """The span of a request that has been made."""
        return self.spans_of("usage.client.request_id", number)[0]

    def spans_of(self, key: str, value: str, count: int = 1) -> list[ReceivedSpan]:
        """The spans of which an attribute has this value: so many at least."""
        return self._wait(lambda span: span.attributes.get(key) == value, count)

    def children_of(self, span: ReceivedSpan, count: int = 1) -> list[ReceivedSpan]:
        """The spans beneath one: so many at least."""
        return self._wait(lambda each: each.parent_span_id == span.span_id, count)

    def _wait(self, wanted: Any, count: int) -> list[ReceivedSpan]:
        deadline = time.monotonic() + PATIENCE
        while len(found := [span for span in self.sink.unique_spans if wanted(span)]) < count:
            assert time.monotonic() < deadline, f"{len(found)} of {count} spans came"
            time.sleep(0.01)
        return found

    def stop(self) -> None:
        """Stop it, as an operator does."""
        self._process.terminate()
        self._process.wait(20)


@contextlib.contextmanager
def serving(stack: Stack, mode: str, upstream: str, folder: Path) -> Iterator[Service]:
    """Serve a stack in a process of its own."""
    port = free_port()
    command = [part.format(app=stack.app, port=port) for part in stack.command]
    if mode == "zero-code":
        command.insert(0, "opentelemetry-instrument")
    with AxiomStub(token=TOKEN) as sink:
        environment = {
            "MODE": mode,
            "UPSTREAM": upstream,
            "USAGE_TELEMETRY": "1",
            "USAGE_OTLP_ENDPOINT": sink.url,
            "AXIOM_API_TOKEN": TOKEN,
            "OTEL_TRACES_EXPORTER": "none",
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_LOGS_EXPORTER": "none",
            **stack.environment,
        }
        with server_process(command, port, folder, APPS, **environment) as (process, _):
            yield Service(stack, mode, port, sink, process)
