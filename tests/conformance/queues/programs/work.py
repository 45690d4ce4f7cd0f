"""What the jobs of every queue do, and how they say that it is done: the program of each queue calls these."""

from __future__ import annotations

import json
import os
from typing import Final

import httpx
import redis

import otel_usage as usage

REDIS: Final = os.environ["REDIS_URL"]
SECRET: Final = "an argument that stays here"

if os.environ.get("BY_HAND"):
    usage.instrument()  # before anything is made of a queue's library, which may be imported already


class Broken(Exception):
    """What a job fails of."""


def note(case: str, secret: str) -> str:
    """Say that the job was run, and what usage has refused to believe in this process until now."""
    with redis.Redis.from_url(REDIS) as store:
        dropped = {key: n for key, n in usage.health().attributes_dropped.items() if key.startswith("job:")}
        store.set(f"dropped:{case}", json.dumps(dropped))
        store.incr(f"ran:{case}")
    return f"a result of {secret}"


def calls(case: str) -> None:
    httpx.get(os.environ["UPSTREAM"]).raise_for_status()
    note(case, SECRET)


def says(case: str) -> None:
    usage.identify(customer_id=case, tier=3, auth_kind="internal")
    usage.meter("pages", 3, unit="page")
    with usage.usage_span("work.step"):
        usage.record_llm("openai", "gpt-5", input_tokens=7)
    note(case, SECRET)


def fails(case: str) -> None:
    note(case, SECRET)
    raise Broken(SECRET)


def flaky(case: str) -> None:
    """Fail the first time."""
    note(case, SECRET)
    with redis.Redis.from_url(REDIS) as store:
        first = store.get(f"ran:{case}") == b"1"
    if first:
        raise Broken(SECRET)
