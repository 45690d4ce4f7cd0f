"""``python -m benchmarks.one NAME VARIANT REQUESTS SINK``: one configuration in this process; prints a line of JSON.

CPU is that of the whole process, threads and the final flush included; beside it, that of the request's own thread.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import resource
import sys
import time
from typing import Any, Final

from benchmarks.configurations import BY_NAME
from benchmarks.cores import stay_on
from benchmarks.traffic import serve, start_up

WARM_UP: Final = 500
"""Requests before it is measured. What they leave to be sent is sent before, too."""


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def measure(name: str, variant: str, requests: int, sink: str) -> dict[str, Any]:
    built = BY_NAME[name].build(variant, sink)
    up = await start_up(built.app)
    await serve(built.app, WARM_UP)
    built.flush()
    gc.collect()
    cpu, thread = cpu_seconds(), time.thread_time()
    await serve(built.app, requests, WARM_UP)
    thread = time.thread_time() - thread
    built.end()
    cpu = cpu_seconds() - cpu
    up.cancel()
    return {
        "cpu_us": cpu / requests * 1e6,
        "request_thread_us": thread / requests * 1e6,
        "served": requests + WARM_UP,
        "counted": built.counted(),
    }


def main() -> None:
    name, variant, requests, sink = sys.argv[1:]
    stay_on(first=True)
    print(json.dumps(asyncio.run(measure(name, variant, int(requests), sink))), flush=True)
    os._exit(0)  # what is measured is over; the end of the interpreter is not part of it


if __name__ == "__main__":
    main()
