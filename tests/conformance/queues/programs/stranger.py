"""Somebody who can write into the broker: enqueues jobs that carry what it is given. Knows no usage."""

from __future__ import annotations

import asyncio
import json
import os
from importlib import import_module

queue = import_module(os.environ["QUEUE"])


async def main() -> None:
    for case, job_id, field, token in json.loads(os.environ["GIVEN"]):
        await queue.enqueue_carrying("note", case, job_id, field, token)


asyncio.run(main())
