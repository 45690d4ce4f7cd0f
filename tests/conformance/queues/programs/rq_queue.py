"""The jobs as RQ's functions."""

from __future__ import annotations

from typing import Any

import work  # which switches usage on, where that is done by hand
from redis import Redis
from rq import Queue, Retry
from rq.job import Job

connection = Redis.from_url(work.REDIS)
queue = Queue("jobs", connection=connection)


def note(case: str, secret: str) -> str:
    return work.note(case, secret)


def calls(case: str, secret: str) -> None:
    work.calls(case)


def says(case: str, secret: str) -> None:
    work.says(case)


def fails(case: str, secret: str) -> None:
    work.fails(case)


def flaky(case: str, secret: str) -> None:
    work.flaky(case)


def nested(case: str, secret: str) -> None:
    queue.enqueue(note, f"{case}-inner", secret)
    work.note(case, secret)


async def enqueue(job: str, case: str) -> None:
    queue.enqueue(globals()[job], case, work.SECRET, retry=Retry(max=1) if job == "flaky" else None)


async def at_once(job: str, case: str) -> None:
    """Within the caller."""
    Queue("jobs", connection=connection, is_async=False).enqueue(globals()[job], case, work.SECRET)


async def enqueue_carrying(job: str, case: str, job_id: str, field: str, token: str) -> None:
    made = Job.create(f"rq_queue.{job}", (case, work.SECRET), id=job_id, connection=connection, origin=queue.name)
    made.save()
    connection.hset(made.key, field, token)
    queue.enqueue_job(made)


async def held() -> list[Any]:
    """What the broker holds."""
    return [connection.hgetall(key) for key in connection.keys("rq:job:*")]
