"""Measures one configuration in this process and prints one line of JSON.

The ASGI callable is called in a loop, without a server: a server's own cost would drown what is compared. CPU is that
of the whole process, threads and the final flush included.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import resource
import sys
import time
from typing import Any

from benchmarks.configurations import CONFIGURATIONS

WARM_UP = 500
HEADERS = [
    (b"host", b"api.example.com"),
    (b"user-agent", b"python-client/2.1"),
    (b"accept", b"application/json"),
    (b"x-api-key", b"sk_live_0123456789abcdef"),
    (b"x-request-id", b"0f8fad5bd9cb469fa16570867728950e"),
]


def scope_of(number: int) -> dict[str, Any]:
    path = f"/v1/items/{number % 997}"
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 50000),
        "scheme": "http",
        "method": "GET",
        "root_path": "",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": list(HEADERS),
        "state": {},
    }


async def receive() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


async def serve(app: Any, requests: int) -> None:
    statuses: set[int] = set()

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            statuses.add(message["status"])

    for number in range(requests):
        await app(scope_of(number), receive, send)
    assert statuses == {200}, statuses


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def measure(name: str, variant: str, requests: int, sink: str) -> dict[str, Any]:
    built = CONFIGURATIONS[name](variant, sink)
    await serve(built.app, WARM_UP)
    built.flush()
    gc.collect()
    cpu, thread = cpu_seconds(), time.thread_time()
    await serve(built.app, requests)
    thread = time.thread_time() - thread
    built.flush()
    cpu = cpu_seconds() - cpu
    return {
        "configuration": name,
        "variant": variant,
        "cpu_us": cpu / requests * 1e6,
        "request_thread_us": thread / requests * 1e6,
    }


if __name__ == "__main__":
    configuration, chosen_variant, count, endpoint = sys.argv[1:]
    print(json.dumps(asyncio.run(measure(configuration, chosen_variant, int(count), endpoint))), flush=True)
    os._exit(0)  # what is measured is over; the end of the interpreter is not part of it
