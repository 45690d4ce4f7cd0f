"""``with model_call(…)``: what is said of the model calls within, wherever those are made."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import otel_usage as usage
from otel_usage.testing import AxiomStub
from tests.outside import facts


def steps(stub: AxiomStub) -> dict[Any, tuple[Any, ...]]:
    """Stage and fallback index of each model."""
    assert usage.flush(5.0).complete
    assert usage.health().internal_errors == {}
    spans = [span for span in stub.unique_spans if span.attributes["usage.kind"] == "llm"]
    return {
        span.attributes["gen_ai.request.model"]: facts(span, "usage.llm.stage", "usage.llm.fallback_index")
        for span in spans
    }


def record(model: str) -> None:
    usage.record_llm("openai", model)


def test_the_nearest_says_and_leaves_the_rest_to_those_around(usage_on: None, stub: AxiomStub) -> None:
    record("before")
    with usage.model_call(stage="brief", fallback_index=0):
        record("outer")
        with usage.upstream("openai", "chat"), usage.model_call(fallback_index=1):
            record("inner")
        with usage.model_call(stage="check"):
            usage.record_llm("openai", "said", stage="own", fallback_index=9)
            record("other")
        record("outer again")
    record("after")
    assert steps(stub) == {
        "before": (None, None), "outer": ("brief", 0), "inner": ("brief", 1), "said": ("own", 9), "other": ("check", 0),
        "outer again": ("brief", 0), "after": (None, None),
    }  # fmt: skip


def in_a_thread(work: Callable[[], None]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join(20)


def in_a_pool(work: Callable[[], None]) -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(work).result(20)


def in_a_task(work: Callable[[], None]) -> None:
    async def outer() -> None:
        async def inner() -> None:
            work()

        await asyncio.create_task(inner())

    asyncio.run(outer())


@pytest.mark.parametrize("place", [in_a_thread, in_a_pool, in_a_task])
def test_work_that_is_handed_on_takes_it_along(
    usage_on: None, stub: AxiomStub, place: Callable[[Callable[[], None]], None]
) -> None:
    with usage.model_call(stage="brief"):
        place(lambda: record("within"))
    place(lambda: record("after"))
    assert steps(stub) == {"within": ("brief", None), "after": (None, None)}


def test_work_that_outlasts_it_is_named_no_more(usage_on: None, stub: AxiomStub) -> None:
    over = threading.Event()

    def work() -> None:
        assert over.wait(20)
        record("late")

    with usage.model_call(stage="brief"):
        thread = threading.Thread(target=work)
        thread.start()
    over.set()
    thread.join(20)
    assert steps(stub) == {"late": (None, None)}


def test_a_generator_that_another_context_closes_leaves_nothing_behind(usage_on: None, stub: AxiomStub) -> None:
    def stream() -> Iterator[int]:
        with usage.model_call(stage="stream"):
            yield 1

    begun = stream()
    next(begun)
    record("while it is open")
    in_a_thread(begun.close)
    record("closed")
    assert steps(stub) == {"while it is open": ("stream", None), "closed": (None, None)}


def test_tasks_may_share_one(usage_on: None, stub: AxiomStub) -> None:
    shared = usage.model_call(stage="brief")

    async def both() -> None:
        turn = asyncio.Event()

        async def first() -> None:
            with shared:
                await turn.wait()
                record("first")

        async def second() -> None:
            with shared:
                pass
            turn.set()

        await asyncio.gather(first(), second())

    asyncio.run(both())
    assert steps(stub) == {"first": ("brief", None)}


def test_what_is_no_stage_is_dropped_and_counted(usage_on: None, stub: AxiomStub) -> None:
    with usage.model_call(stage=7, fallback_index="first"):  # type: ignore[arg-type]
        record("m")
    assert steps(stub) == {"m": (None, None)}
    assert {"usage.llm.stage", "usage.llm.fallback_index"} <= set(usage.health().attributes_dropped)


def test_while_usage_is_off_it_does_nothing() -> None:
    with usage.model_call(stage="brief"):
        record("m")
    assert usage.health().internal_errors == {}
