"""What docs/caches-and-limits.md shows is what happens."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import otel_usage as usage
from otel_usage.schema import CACHE_STATUSES, LIMIT_DECISIONS, REASONS
from otel_usage.testing import AxiomStub
from tests.servers import serve_asgi

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "caches-and-limits.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
EXAMPLES = {path.relative_to(ROOT).as_posix(): path.read_text() for path in ROOT.glob("examples/limiters/with_*.py")}


def block(containing: str) -> str:
    (found,) = [text for text in BLOCKS if containing in text]
    return str(found)


def recorded(stub: AxiomStub) -> tuple[list[Any], list[Any]]:
    """The cache statuses of calls and of events."""
    usage.uninstrument()
    spans = stub.unique_spans
    calls = [span.attributes.get("usage.cache.status") for span in spans if span.kind == "client"]
    assert {span.name for span in spans if span.kind == "client"} == {"yahoo-finance quote"}
    return calls, [event.attributes["usage.cache.status"] for span in spans for event in span.events]


def test_every_example_is_shown_as_it_is() -> None:
    limits = PAGE.partition("\n## Limits\n")[2]
    for file, shown in re.findall(r"`(examples/\S+)`.*?```python\n(.*?)```", limits, re.DOTALL):
        assert shown in EXAMPLES.pop(file)
    assert not EXAMPLES


def test_the_words_are_those_of_the_schema() -> None:
    assert set(re.findall(r"\| `([a-z-]+)` \|$", PAGE, re.MULTILINE)) == set(CACHE_STATUSES)
    assert all(f"`{decision}`" in PAGE for decision in LIMIT_DECISIONS)
    assert set(re.findall(r"\brate_limit_\w+", PAGE)) <= set(REASONS)


def test_the_cached_client_makes_one_call_and_one_event(
    usage_on: None, stub: AxiomStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where hishel keeps what it stores

    async def quotes(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"cache-control", b"max-age=60")]})
        await send({"type": "http.response.body", "body": b"12.5"})

    with serve_asgi(quotes, lifespan="off") as url, usage.usage_span("work"):
        exec(block("CacheClient"), {"url": url})
    assert recorded(stub) == (["miss"], ["fresh"])


def test_the_cache_of_ones_own_makes_one_call_and_one_event(usage_on: None, stub: AxiomStub) -> None:
    names: dict[str, Any] = {"usage": usage, "cache": {}, "fetch": lambda symbol: 12.5}
    exec(block("record_cache"), names)
    with usage.usage_span("work"):
        assert [names["quote"]("ACME") for _ in range(2)] == [12.5, 12.5]
    assert recorded(stub) == (["miss"], ["fresh"])
