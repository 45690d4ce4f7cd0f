"""niquests over HTTP/2: several calls on one connection at once, each answered when it is asked for."""

from __future__ import annotations

import asyncio
import sys
from typing import Final

import niquests

import otel_usage as usage
from otel_usage import guard

CALLS: Final = 4


def sync(url: str, trusted: str) -> None:
    with niquests.Session(multiplexed=True) as session:
        answers = []
        for n in range(CALLS):
            with usage.upstream("sync", f"call-{n}"):
                answers.append(session.get(f"{url}/{1000 + n}", verify=trusted))
        session.gather()
        assert [len(answer.content or b"") for answer in answers] == [1000 + n for n in range(CALLS)]
        assert {answer.http_version for answer in answers} == {20}


async def asynchronous(url: str, trusted: str) -> None:
    async with niquests.AsyncSession(multiplexed=True) as session:
        answers = []
        for n in range(CALLS):
            with usage.upstream("async", f"call-{n}"):
                answers.append(await session.get(f"{url}/{1000 + n}", verify=trusted))
        await session.gather()
        assert [len(answer.content or b"") for answer in answers] == [1000 + n for n in range(CALLS)]


if __name__ == "__main__":
    usage.instrument()
    sync(*sys.argv[1:])
    asyncio.run(asynchronous(*sys.argv[1:]))
    assert usage.flush(10).complete
    usage.uninstrument()
    assert guard.internal_errors() == {}, guard.internal_errors()
