"""The jobs as arq's coroutines."""

from __future__ import annotations

import os
import time
from typing import Any

import httpx
import work  # which switches usage on, where that is done by hand
from arq import ArqRedis, Retry, create_pool
from arq.connections import RedisSettings
from arq.jobs import serialize_job


async def note(ctx: dict[str, Any], case: str, secret: str) -> str:
    return work.note(case, secret)


async def calls(ctx: dict[str, Any], case: str, secret: str) -> None:
    async with httpx.AsyncClient() as client:
        (await client.get(os.environ["UPSTREAM"])).raise_for_status()
    work.note(case, secret)


async def says(ctx: dict[str, Any], case: str, secret: str) -> None:
    work.says(case)


async def fails(ctx: dict[str, Any], case: str, secret: str) -> None:
    work.fails(case)


async def flaky(ctx: dict[str, Any], case: str, secret: str) -> None:
    try:
        work.flaky(case)
    except work.Broken as error:
        raise Retry(defer=0.1) from error


async def nested(ctx: dict[str, Any], case: str, secret: str) -> None:
    await ctx["redis"].enqueue_job("note", f"{case}-inner", secret)
    work.note(case, secret)


SETTINGS = RedisSettings.from_dsn(work.REDIS)


class WorkerSettings:
    """What the ``arq`` program reads."""

    functions = (note, calls, says, fails, flaky, nested)
    redis_settings = SETTINGS
    poll_delay = 0.05


async def _pool() -> ArqRedis:
    return await create_pool(SETTINGS)


async def enqueue(job: str, case: str) -> None:
    pool = await _pool()
    await pool.enqueue_job(job, case, work.SECRET)
    await pool.aclose()


async def enqueue_carrying(job: str, case: str, job_id: str, field: str, token: str) -> None:
    pool = await _pool()
    now = int(time.time() * 1000)
    value = serialize_job(job, (case, work.SECRET), {}, None, now) + f"\n{field}:{token}".encode()
    await pool.psetex(f"arq:job:{job_id}", 600_000, value)
    await pool.zadd("arq:queue", {job_id: now})
    await pool.aclose()


async def held() -> list[Any]:
    """What the broker holds."""
    pool = await _pool()
    found = [await pool.get(key) for key in await pool.keys("arq:job:*")]
    await pool.aclose()
    return found
