"""The examples of limiters, as real servers: what was decided rides on the one span of its request."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx
import pytest

from otel_usage.testing import AxiomStub, ReceivedSpan
from tests.conftest import TOKEN
from tests.outside import Outside
from tests.servers import free_port, server_process

EXAMPLES: Final = Path(__file__).parents[2] / "examples"

Decisions = list[tuple[str, str]]
"""Limiter and decision of each."""


class Example(NamedTuple):
    """One of ``examples/limiters``: it refuses the third request of a day, and a stricter limit would the second."""

    module: str
    server: str
    reason: str
    says: tuple[Decisions, Decisions, Decisions]
    """What is decided of three requests."""


SHADOW: Final = ("stricter", "shadow")
ALLOW: Final = ("per_day", "allow")
DENY: Final = ("per_day", "deny")

QUIET: Final = ([], [SHADOW], [SHADOW, DENY])
"""Those that are let through are not recorded one by one."""
LIMITERS: Final = (
    Example("with_slowapi", "uvicorn", "rate_limit_429_endpoint", QUIET),
    Example("with_fastapi_limiter", "uvicorn", "rate_limit_429_endpoint", QUIET),
    Example("with_django_ratelimit", "gunicorn", "rate_limit_429_endpoint", QUIET),
    Example("with_limits", "gunicorn", "rate_limit_429_global", ([ALLOW], [SHADOW, ALLOW], [SHADOW, DENY])),
)


def test_each_example_is_tested() -> None:
    files = {path.stem for path in (EXAMPLES / "limiters").glob("with_*.py")}
    assert files == {example.module for example in LIMITERS}


@pytest.mark.parametrize("example", LIMITERS, ids=lambda example: example.module)
def test_what_limiters_decide_rides_on_the_one_request_span(example: Example, stub: AxiomStub, tmp_path: Path) -> None:
    answers = answers_of(example, stub, tmp_path, USAGE_TELEMETRY="1")
    assert [answer.status_code for answer in answers] == [200, 200, 429], "what only watches changes nothing"
    spans = sorted(stub.unique_spans, key=lambda span: span.start_time)
    assert [span.kind for span in spans] == ["server"] * 3
    assert [span.attributes["http.response.status_code"] for span in spans] == [200, 200, 429]
    assert [span.attributes["usage.reason"] for span in spans] == ["ok", "ok", example.reason]
    assert tuple(map(decisions, spans)) == example.says


@pytest.mark.parametrize("example", LIMITERS, ids=lambda example: example.module)
def test_where_usage_is_off_the_limits_are_the_same(example: Example, stub: AxiomStub, tmp_path: Path) -> None:
    answers = answers_of(example, stub, tmp_path)
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert stub.spans == []


def answers_of(example: Example, stub: AxiomStub, tmp_path: Path, **environment: str) -> list[httpx.Response]:
    """The answers to three requests, from a server that has ended since, and so has delivered everything."""
    port = free_port()
    where = ["--port", str(port)] if example.server == "uvicorn" else ["--bind", f"127.0.0.1:{port}"]
    command = ["opentelemetry-instrument", example.server, f"limiters.{example.module}:app", *where]
    towards = {"USAGE_OTLP_ENDPOINT": stub.url, "AXIOM_API_TOKEN": TOKEN, **environment}
    found = os.pathsep.join(filter(None, (str(EXAMPLES), os.environ.get("PYTHONPATH"))))
    with server_process(command, port, tmp_path, PYTHONPATH=found, **towards) as (process, log):
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", transport=Outside()) as client:
            answers = [client.get("/quotes") for _ in range(3)]
        process.terminate()
        process.wait(15)
        assert "Traceback" not in log.read_text()
    return answers


def decisions(span: ReceivedSpan) -> list[tuple[Any, Any]]:
    assert {event.name for event in span.events} <= {"usage.limit"}
    return [(event.attributes["usage.limit.name"], event.attributes["usage.limit.decision"]) for event in span.events]
