"""What every client program does: each case of the contract, with the calls that its library can make.

A program gives its library as a :class:`Calls` and ends in :func:`run`. The same cases run sync and async: what a call
returns is awaited where it can be.
"""

from __future__ import annotations

import argparse
import asyncio
import contextvars
import inspect
import sys
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

import stamina
import tenacity
from opentelemetry import baggage, context
from opentelemetry.instrumentation.utils import suppress_http_instrumentation

import otel_usage as usage
from otel_usage import guard

CUSTOMER: Final = "acme-4711"
PARTS: Final = (b"first-", b"second-", b"third")
"""A streamed body."""
CONCURRENT: Final = 8
TRIES: Final = 3
FORGED: Final = "usage.customer.id=somebody-else"
"""A member that is ours, as an application may have copied it from somewhere."""


class Calls(ABC):
    """The calls of one library. Each may be a coroutine function. A case that needs one that is not there is declared
    as one that the client cannot do.

    Each raises as its library does, and a status is not made an error: the case says what is expected.
    """

    TIMEOUT: Final = 1.0
    """Seconds that a call waits for its answer at most."""

    def __init__(self, retry: tuple[int, ...] = (503,)) -> None:
        self.retry = retry

    def open(self) -> Any:  # noqa: B027  # some need nothing
        """Make what calls are made with, such as a session, before anything else."""

    def close(self) -> Any:  # noqa: B027  # as above
        """Close it."""

    @abstractmethod
    def call(self, method: str, url: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> Any:
        """Make a call, following redirects, and read the answer to its end. Returns its status."""

    def send_parts(self, url: str, parts: Iterator[bytes]) -> Any:
        """POST a body that comes in parts."""
        raise AssertionError("post_streamed is to be declared as a case that cannot be done")

    @abstractmethod
    def read_parts(self, url: str) -> Any:
        """GET an answer and read it part by part, to its end. Returns how many bytes there were."""

    @abstractmethod
    def give_up(self, url: str) -> Any:
        """GET an answer, read a part of it, and close it."""

    def retrying(self, url: str) -> Any:
        """GET with the library's own retries of a 503, twice at most. Returns the status."""
        raise AssertionError("retries is to be declared as a case that cannot be done")


class Run:
    """One run: the calls, and where they go."""

    def __init__(self, calls: Calls, url: str, elsewhere: str, nowhere: str, by_hand: bool) -> None:
        """``url``: the upstream, whose host is trusted. ``elsewhere``: another, which is not. ``nowhere``: nobody."""
        self.calls, self.url, self.elsewhere, self.nowhere, self.by_hand = calls, url, elsewhere, nowhere, by_hand
        self.asynchronous = inspect.iscoroutinefunction(calls.call)

    async def get(self, path: str, *, method: str = "GET", body: bytes | None = None) -> Any:
        return await done(self.calls.call(method, self.url + path, body))


async def done(result: Any) -> Any:
    return await result if inspect.isawaitable(result) else result


async def failing(call: Callable[[], Any]) -> None:
    """A call that must raise."""
    try:
        await done(call())
    except Exception:
        return
    raise AssertionError("the call did not fail")


async def get(run: Run) -> None:
    assert await run.get("/bytes/1234") == 200


async def post(run: Run) -> None:
    assert await run.get("/stored/it", method="POST", body=b"hello") == 200


async def post_streamed(run: Run) -> None:
    await done(run.calls.send_parts(f"{run.url}/stored/it", iter(PARTS)))


async def streamed(run: Run) -> None:
    assert await done(run.calls.read_parts(f"{run.url}/chunks/3")) == 3000


async def streamed_with_a_length(run: Run) -> None:
    assert await done(run.calls.read_parts(f"{run.url}/bytes/200000")) == 200_000


async def given_up(run: Run) -> None:
    await done(run.calls.give_up(f"{run.url}/endless/it"))


async def given_up_with_a_length(run: Run) -> None:
    await done(run.calls.give_up(f"{run.url}/bytes/3000000"))


async def compressed(run: Run) -> None:
    assert await run.get("/gzip/it") == 200


async def head(run: Run) -> None:
    assert await run.get("/bytes/77", method="HEAD") == 200


async def no_content(run: Run) -> None:
    assert await run.get("/status/204") == 204


async def not_found(run: Run) -> None:
    assert await run.get("/status/404") == 404


async def server_error(run: Run) -> None:
    assert await run.get("/status/500") == 500


async def refused(run: Run) -> None:
    await failing(lambda: run.calls.call("GET", f"{run.nowhere}/bytes/1"))


async def cut_short(run: Run) -> None:
    await failing(lambda: run.calls.call("GET", f"{run.url}/cut/short"))


async def reset(run: Run) -> None:
    await failing(lambda: run.calls.call("GET", f"{run.url}/cut/reset"))


async def timed_out(run: Run) -> None:
    await failing(lambda: run.calls.call("GET", f"{run.url}/hang/it"))


async def redirect(run: Run) -> None:
    assert await run.get("/redirect/1") == 200


async def retries(run: Run) -> None:
    assert await done(run.calls.retrying(f"{run.url}/flaky/own")) == 200


class _NotYetError(Exception):
    pass


async def _until_it_works(run: Run, key: str) -> None:
    if await run.get(f"/flaky/{key}") == 503:
        raise _NotYetError


async def with_tenacity(run: Run) -> None:
    async for attempt in tenacity.AsyncRetrying(stop=tenacity.stop_after_attempt(TRIES), wait=tenacity.wait_none()):
        with attempt:
            await _until_it_works(run, "tenacity")


async def with_stamina(run: Run) -> None:
    async for attempt in stamina.retry_context(on=_NotYetError, attempts=TRIES, wait_initial=0, wait_jitter=0):
        with attempt:
            await _until_it_works(run, "stamina")


async def concurrent(run: Run) -> None:
    async def one(n: int) -> None:
        with usage.upstream("concurrent", f"call-{n}"):
            assert await run.get(f"/bytes/{1000 + n}") == 200

    if run.asynchronous:
        await asyncio.gather(*map(one, range(CONCURRENT)))
        return
    with ThreadPoolExecutor(CONCURRENT) as pool:
        here = [contextvars.copy_context() for _ in range(CONCURRENT)]
        list(pool.map(lambda n: here[n].run(asyncio.run, one(n)), range(CONCURRENT)))


async def _for_the_customer(run: Run, url: str) -> None:
    """With baggage of the application's own: in a header, and where its instrumentations find it."""
    token = context.attach(baggage.set_baggage("team", "blue"))
    try:
        with usage.usage_span("work"):
            usage.identify(customer_id=CUSTOMER, tier=2, auth_kind="jwt")
            headers = {"baggage": f"own=1,{FORGED}"}
            assert await done(run.calls.call("GET", url, None, headers)) == 200
    finally:
        context.detach(token)


async def told(run: Run) -> None:
    await _for_the_customer(run, f"{run.url}/bytes/201")


async def untold(run: Run) -> None:
    await _for_the_customer(run, f"{run.elsewhere}/bytes/202")


async def child(run: Run) -> None:
    with usage.usage_span("parent"):
        usage.identify(customer_id=CUSTOMER, tier=2, auth_kind="jwt")
        assert await run.get("/bytes/1") == 200


async def suppressed(run: Run) -> None:
    with suppress_http_instrumentation():
        assert await run.get("/bytes/301") == 200


async def after(run: Run) -> None:
    assert await run.get("/bytes/302") == 200


CASES: Final[tuple[Callable[[Run], Awaitable[None]], ...]] = (
    get, post, post_streamed, streamed, streamed_with_a_length, given_up, given_up_with_a_length, compressed, head,
    no_content, not_found, server_error, refused, cut_short, reset, timed_out, redirect, retries, with_tenacity,
    with_stamina, concurrent, told, untold, child,
)  # fmt: skip
"""Each in a ``with upstream(<its name>)``."""


async def _perform(run: Run, cannot: frozenset[str]) -> None:
    await done(run.calls.open())
    for case in CASES:
        name = case.__name__
        if name in cannot:
            continue
        named: AbstractContextManager[Any] = nullcontext() if case is concurrent else usage.upstream(name)
        try:
            with named:
                await case(run)
        except BaseException as error:
            raise RuntimeError(f"case {name}") from error
    await suppressed(run)
    assert usage.flush(10).complete
    usage.uninstrument()
    with usage.upstream("after"):
        await after(run)
    await done(run.calls.close())


def run(calls: Calls) -> None:
    """Perform every case. Where the program is not instrumented from outside, it switches usage on by hand."""
    parser = argparse.ArgumentParser()
    parser.add_argument("mode", choices=["zero-code", "by-hand"])
    for place in ("url", "elsewhere", "nowhere"):
        parser.add_argument(place)
    parser.add_argument("--cannot", default="")
    parser.add_argument("--flavour", default="")
    given = parser.parse_args()
    by_hand = given.mode == "by-hand"
    if by_hand:
        usage.instrument()
    performed = Run(calls, given.url, given.elsewhere, given.nowhere, by_hand)
    asyncio.run(_perform(performed, frozenset(filter(None, given.cannot.split(",")))))
    assert guard.internal_errors() == {}, guard.internal_errors()
    sys.stdout.flush()


def flavour() -> str:
    """Which of the library's faces is asked for: the last argument. Empty: its only one."""
    return sys.argv[-1].partition("=")[2] if sys.argv[-1].startswith("--flavour=") else ""
