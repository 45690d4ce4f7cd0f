"""Blocks that end in another context than the one that they began in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import otel_usage as usage
from otel_usage import blocks


def _depth() -> int:
    block, count = blocks._HERE.get(), 0
    while block is not None:
        block, count = block.around, count + 1
    return count


async def _answers() -> AsyncIterator[int]:
    with usage.upstream("llm"):
        for number in range(5):
            await asyncio.sleep(0)
            yield number


def test_a_worker_that_gives_up_streams_does_not_gather_their_blocks() -> None:
    async def worker() -> int:
        for _ in range(50):
            async for _ in _answers():
                break  # the event loop closes it, in a context of its own
            await asyncio.sleep(0)
        return _depth()

    assert asyncio.run(worker()) <= 3


def test_a_block_within_one_that_has_ended_has_what_is_around_both() -> None:
    outer, ended, inner = object(), object(), object()
    outermost = blocks.begin(outer, "outer")
    blocks.begin(ended, 1).ended = True
    latest = blocks.begin(inner, 2)
    assert blocks.said(str) == "outer"
    blocks.end(inner, latest)
    assert blocks.here() is outermost
    blocks.end(outer, outermost)
    assert blocks.here() is None
