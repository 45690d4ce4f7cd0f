"""What the handlers of several apps do, each in a way of its own."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator

import httpx
from setting import CHUNK, PAUSE, SECRET, UPSTREAM

import otel_usage as usage


def chunks(count: int, *, breaks: bool = False) -> Iterator[bytes]:
    for _ in range(count):
        yield CHUNK
        time.sleep(PAUSE)
    if breaks:
        raise RuntimeError(SECRET)


async def chunks_async(count: int, *, breaks: bool = False) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield CHUNK
        await asyncio.sleep(PAUSE)
    if breaks:
        raise RuntimeError(SECRET)


def events() -> Iterator[bytes]:
    for number in range(3):
        yield b"data: %d\n\n" % number
        time.sleep(PAUSE)


async def events_async() -> AsyncIterator[bytes]:
    for number in range(3):
        yield b"data: %d\n\n" % number
        await asyncio.sleep(PAUSE)


def identify(customer: str) -> None:
    usage.identify(customer_id=customer, tier=1)


def identify_around_a_pause(customer: str) -> None:
    time.sleep(PAUSE)
    identify(customer)
    time.sleep(PAUSE)
    usage.identify(plan="pro")


async def identify_around_a_pause_async(customer: str) -> None:
    await asyncio.sleep(PAUSE)
    identify(customer)
    await asyncio.sleep(PAUSE)
    usage.identify(plan="pro")


def identify_on_a_thread(customer: str) -> None:
    worker = threading.Thread(target=identify, args=(customer,))
    worker.start()
    worker.join()


def call_upstream() -> str:
    return str(len(httpx.get(UPSTREAM).content))


async def call_upstream_async() -> str:
    async with httpx.AsyncClient() as client:
        return str(len((await client.get(UPSTREAM)).content))


def afterwards() -> None:
    time.sleep(PAUSE)
    with usage.usage_span("afterwards"):
        call_upstream()


async def afterwards_async() -> None:
    await asyncio.sleep(PAUSE)
    with usage.usage_span("afterwards"):
        await call_upstream_async()


def start_afterwards() -> None:
    threading.Thread(target=afterwards).start()


_tasks: set[asyncio.Task[None]] = set()


def start_afterwards_async() -> None:
    task = asyncio.create_task(afterwards_async())
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
