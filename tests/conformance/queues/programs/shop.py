"""A service whose requests enqueue jobs, each for the customer that is called like its case."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module

import work  # which switches usage on, where that is done by hand
from fastapi import FastAPI

import otel_usage as usage

queue = import_module(os.environ["QUEUE"])


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    await queue.enqueue("note", "outside")  # of any request
    await queue.enqueue("says", "says-outside")
    yield


app = FastAPI(lifespan=lifespan)


def identify(case: str) -> None:
    usage.identify(customer_id=case, tier=2, plan="api_pro", auth_kind="jwt")


@app.get("/enqueue/{job}/{case}")
async def enqueue(job: str, case: str) -> str:
    identify(case)
    await queue.enqueue(job, case)
    return work.SECRET


@app.get("/from-a-thread/{case}")
def from_a_thread(case: str) -> None:
    """A sync endpoint, which the framework calls on a thread of its pool."""
    identify(case)
    asyncio.run(queue.enqueue("note", case))


@app.get("/too-soon/{case}")
async def too_soon(case: str) -> None:
    await queue.enqueue("note", case)
    identify(case)


@app.get("/within/{case}")
async def within(case: str) -> None:
    """In a named step of the request."""
    identify(case)
    with usage.usage_span("shop.step"):
        await queue.enqueue("note", case)


@app.get("/chain/{case}")
async def chain(case: str) -> None:
    identify(case)
    await queue.chained(case, f"{case}-then")


@app.get("/at-once/{job}/{case}")
async def at_once(job: str, case: str) -> None:
    identify(case)
    await queue.at_once(job, case)
