"""The jobs as Dramatiq's actors."""

from __future__ import annotations

from typing import Any

import dramatiq
import work  # which switches usage on, where that is done by hand
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import AsyncIO

broker = RedisBroker(url=work.REDIS)
broker.add_middleware(AsyncIO())
dramatiq.set_broker(broker)


@dramatiq.actor
def note(case: str, secret: str) -> None:
    work.note(case, secret)


@dramatiq.actor
async def calls(case: str, secret: str) -> None:
    work.calls(case)


@dramatiq.actor
def says(case: str, secret: str) -> None:
    work.says(case)


@dramatiq.actor(max_retries=0)
def fails(case: str, secret: str) -> None:
    work.fails(case)


@dramatiq.actor(max_retries=1, min_backoff=50)
def flaky(case: str, secret: str) -> None:
    work.flaky(case)


@dramatiq.actor
def nested(case: str, secret: str) -> None:
    note.send(f"{case}-inner", secret)
    work.note(case, secret)


async def enqueue(job: str, case: str) -> None:
    broker.get_actor(job).send(case, work.SECRET)


async def chained(first: str, then: str) -> None:
    """The second is enqueued by the worker, when the first has succeeded."""
    then_note = note.message_with_options(args=(then, work.SECRET), pipe_ignore=True)
    dramatiq.pipeline([note.message(first, work.SECRET), then_note]).run()


async def enqueue_carrying(job: str, case: str, job_id: str, field: str, token: str) -> None:
    message = broker.get_actor(job).message_with_options(args=(case, work.SECRET), **{field: token})
    broker.enqueue(message.copy(message_id=job_id))


async def held() -> list[Any]:
    """What the broker holds."""
    return list(broker.client.hgetall("dramatiq:default.msgs").values())
