"""A program that calls a gRPC service in every way: ``grpc_calls.py sync|async by-hand|zero-code TRUSTED ELSEWHERE``.

Each case is done within ``with upstream(<its name>)``, but for those that are named otherwise.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import sys
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import grpc
from grpc.experimental import ChannelOptions
from opentelemetry import baggage, context, trace
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace import TracerProvider

import otel_usage as usage
from otel_usage import guard

FACE, MODE, TRUSTED, ELSEWHERE = sys.argv[1:5]
NOWHERE: Final = "127.0.0.1:1"
LONGEST: Final = 20
CUSTOMER: Final = "acme-4711"
TRIES: Final = 3


def status_of(call: Callable[[], Any]) -> Any:
    """The status that a call raises."""
    try:
        call()
    except grpc.RpcError as error:
        return error.code()
    raise AssertionError("the call did not fail")


async def async_status_of(call: Any) -> Any:
    try:
        await call
    except grpc.RpcError as error:
        return error.code()
    raise AssertionError("the call did not fail")


class Again(grpc.UnaryUnaryClientInterceptor):
    """Calls again what was not available."""

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        for _ in range(TRIES - 1):
            call = continuation(details, request)
            if call.code() is not grpc.StatusCode.UNAVAILABLE:
                break
        return continuation(details, request) if call.code() is grpc.StatusCode.UNAVAILABLE else call


class AsyncAgain(grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        for _ in range(TRIES - 1):
            call = await continuation(details, request)
            if await call.code() is not grpc.StatusCode.UNAVAILABLE:
                return call
        return await continuation(details, request)


def for_the_customer() -> Any:
    """With baggage of the application's own: in the metadata, and where its instrumentations find it."""
    usage.identify(customer_id=CUSTOMER, tier=2, auth_kind="jwt")
    return {"metadata": (("baggage", "own=1,usage.customer.id=somebody-else"), ("kept", "1")), "timeout": LONGEST}


class Sync:
    """By ``grpc``."""

    def __init__(self) -> None:
        self.channel = grpc.insecure_channel(TRUSTED)
        self.elsewhere = grpc.insecure_channel(ELSEWHERE)
        self.nowhere = grpc.insecure_channel(NOWHERE)
        options = [(ChannelOptions.SingleThreadedUnaryStream, 1)]
        self.single = grpc.insecure_channel(TRUSTED, options=options)

    def close(self) -> None:
        for channel in (self.channel, self.elsewhere, self.nowhere, self.single):
            channel.close()

    def called(self) -> None:
        assert self.channel.unary_unary("/shop.Shop/echo")(b"abc", timeout=LONGEST) == b"abcabc"

    def called_with_its_call(self) -> None:
        answer, call = self.channel.unary_unary("/shop.Shop/echo").with_call(b"abc", timeout=LONGEST)
        assert (answer, call.code()) == (b"abcabc", grpc.StatusCode.OK)

    def called_for_the_future(self) -> None:
        future = self.channel.unary_unary("/shop.Shop/echo").future(b"abc", timeout=LONGEST)
        assert future.result(LONGEST) == b"abcabc"

    def streamed(self) -> None:
        assert b"".join(self.channel.unary_stream("/shop.Shop/count")(b"3", timeout=LONGEST)) == b"000000000100002"

    def streamed_by_one_thread(self) -> None:
        assert b"".join(self.single.unary_stream("/shop.Shop/count")(b"3", timeout=LONGEST)) == b"000000000100002"

    def joined(self) -> None:
        join = self.channel.stream_unary("/shop.Shop/join")
        assert join(iter((b"ab", b"c")), timeout=LONGEST) == b"ab+c"

    def joined_for_the_future(self) -> None:
        join = self.channel.stream_unary("/shop.Shop/join")
        assert join.future(iter((b"ab", b"c")), timeout=LONGEST).result(LONGEST) == b"ab+c"

    def doubled(self) -> None:
        double = self.channel.stream_stream("/shop.Shop/double")
        assert list(double(iter((b"ab", b"c")), timeout=LONGEST)) == [b"abab", b"cc"]

    def serialized(self) -> None:
        echo = self.channel.unary_unary("/shop.Shop/echo", str.encode, bytes.decode)
        assert echo("grüß", timeout=LONGEST) == "grüßgrüß"

    def missing(self) -> None:
        call = self.channel.unary_unary("/shop.Shop/missing")
        assert status_of(lambda: call(b"abc", timeout=LONGEST)) is grpc.StatusCode.NOT_FOUND

    def unknown(self) -> None:
        call = self.channel.unary_unary("/shop.Shop/nothing")
        assert status_of(lambda: call(b"abc", timeout=LONGEST)) is grpc.StatusCode.UNIMPLEMENTED

    def broken_late(self) -> None:
        answers = self.channel.unary_stream("/shop.Shop/broken_late")(b"abc", timeout=LONGEST)
        assert status_of(lambda: list(answers)) is grpc.StatusCode.UNKNOWN

    def refused(self) -> None:
        call = self.nowhere.unary_unary("/shop.Shop/echo")
        assert status_of(lambda: call(b"abc", timeout=LONGEST)) is grpc.StatusCode.UNAVAILABLE

    def timed_out(self) -> None:
        answers = self.channel.unary_stream("/shop.Shop/endless")(b"abc", timeout=0.5)
        assert status_of(lambda: list(answers)) is grpc.StatusCode.DEADLINE_EXCEEDED

    def cancelled(self) -> None:
        answers = self.channel.unary_stream("/shop.Shop/endless")(b"abc", timeout=LONGEST)
        next(answers)
        # The official instrumentation, where it is on, hands out a generator.
        (answers.close if inspect.isgenerator(answers) else answers.cancel)()

    def dropped(self) -> None:
        answers = self.channel.unary_stream("/shop.Shop/endless")(b"abc", timeout=LONGEST)
        next(answers)
        del answers
        gc.collect()  # the official instrumentation keeps what it yields from in a cycle

    def again(self) -> None:
        channel = grpc.intercept_channel(self.channel, Again())
        call = channel.unary_unary("/shop.Shop/unavailable")
        assert status_of(lambda: call(b"abc", timeout=LONGEST)) is grpc.StatusCode.UNAVAILABLE

    def concurrent(self) -> None:
        call = self.channel.unary_unary("/shop.Shop/echo")

        def one(n: int) -> None:
            with usage.upstream("concurrent", f"call-{n}"):
                assert len(call(b"x" * (100 + n), timeout=LONGEST)) == 2 * (100 + n)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(one, range(8)))

    def unnamed(self) -> None:
        self.called()

    def told(self) -> None:
        with usage.usage_span("work"):
            self.channel.unary_unary("/shop.Shop/seen")(b"told", **for_the_customer())

    def untold(self) -> None:
        with usage.usage_span("work"):
            self.elsewhere.unary_unary("/shop.Shop/seen")(b"untold", **for_the_customer())

    def suppressed(self) -> None:
        with suppress_instrumentation():
            self.called()

    def after(self) -> None:
        self.called()
        self.streamed()


class Async(Sync):
    """By ``grpc.aio``. What is only sync is left to the base."""

    def __init__(self) -> None:
        self.channel = grpc.aio.insecure_channel(TRUSTED)
        self.elsewhere = grpc.aio.insecure_channel(ELSEWHERE)
        self.nowhere = grpc.aio.insecure_channel(NOWHERE)

    async def close(self) -> None:
        for channel in (self.channel, self.elsewhere, self.nowhere):
            await channel.close()

    called_with_its_call = called_for_the_future = streamed_by_one_thread = joined_for_the_future = None

    async def called(self) -> None:
        assert await self.channel.unary_unary("/shop.Shop/echo")(b"abc", timeout=LONGEST) == b"abcabc"

    async def streamed(self) -> None:
        answers = self.channel.unary_stream("/shop.Shop/count")(b"3", timeout=LONGEST)
        assert b"".join([answer async for answer in answers]) == b"000000000100002"

    async def joined(self) -> None:
        join = self.channel.stream_unary("/shop.Shop/join")
        assert await join(iter((b"ab", b"c")), timeout=LONGEST) == b"ab+c"

    async def doubled(self) -> None:
        async def requests() -> AsyncIterator[bytes]:
            yield b"ab"
            yield b"c"

        double = self.channel.stream_stream("/shop.Shop/double")
        assert [answer async for answer in double(requests(), timeout=LONGEST)] == [b"abab", b"cc"]

    async def serialized(self) -> None:
        echo = self.channel.unary_unary("/shop.Shop/echo", str.encode, bytes.decode)
        assert await echo("grüß", timeout=LONGEST) == "grüßgrüß"

    async def missing(self) -> None:
        call = self.channel.unary_unary("/shop.Shop/missing")
        assert await async_status_of(call(b"abc", timeout=LONGEST)) is grpc.StatusCode.NOT_FOUND

    async def unknown(self) -> None:
        call = self.channel.unary_unary("/shop.Shop/nothing")
        assert await async_status_of(call(b"abc", timeout=LONGEST)) is grpc.StatusCode.UNIMPLEMENTED

    async def _all(self, answers: Any) -> list[bytes]:
        return [answer async for answer in answers]

    async def broken_late(self) -> None:
        answers = self.channel.unary_stream("/shop.Shop/broken_late")(b"abc", timeout=LONGEST)
        assert await async_status_of(self._all(answers)) is grpc.StatusCode.UNKNOWN

    async def refused(self) -> None:
        call = self.nowhere.unary_unary("/shop.Shop/echo")
        assert await async_status_of(call(b"abc", timeout=LONGEST)) is grpc.StatusCode.UNAVAILABLE

    async def timed_out(self) -> None:
        answers = self.channel.unary_stream("/shop.Shop/endless")(b"abc", timeout=0.5)
        assert await async_status_of(self._all(answers)) is grpc.StatusCode.DEADLINE_EXCEEDED

    async def cancelled(self) -> None:
        answers = self.channel.unary_stream("/shop.Shop/endless")(b"abc", timeout=LONGEST)
        await anext(aiter(answers))
        assert answers.cancel()

    async def dropped(self) -> None:
        async with grpc.aio.insecure_channel(TRUSTED) as channel:  # which keeps the call until then
            answers = channel.unary_stream("/shop.Shop/endless")(b"abc", timeout=LONGEST)
            await anext(aiter(answers))
            del answers

    async def again(self) -> None:
        async with grpc.aio.insecure_channel(TRUSTED, interceptors=[AsyncAgain()]) as channel:
            call = channel.unary_unary("/shop.Shop/unavailable")
            assert await async_status_of(call(b"abc", timeout=LONGEST)) is grpc.StatusCode.UNAVAILABLE

    async def concurrent(self) -> None:
        call = self.channel.unary_unary("/shop.Shop/echo")

        async def one(n: int) -> None:
            with usage.upstream("concurrent", f"call-{n}"):
                assert len(await call(b"x" * (100 + n), timeout=LONGEST)) == 2 * (100 + n)

        await asyncio.gather(*map(one, range(8)))

    async def unnamed(self) -> None:
        await self.called()

    async def told(self) -> None:
        with usage.usage_span("work"):
            await self.channel.unary_unary("/shop.Shop/seen")(b"told", **for_the_customer())

    async def untold(self) -> None:
        with usage.usage_span("work"):
            await self.elsewhere.unary_unary("/shop.Shop/seen")(b"untold", **for_the_customer())

    async def suppressed(self) -> None:
        with suppress_instrumentation():
            await self.called()

    async def after(self) -> None:
        await self.called()
        await self.streamed()


CASES: Final = tuple(
    name for name in vars(Sync) if not name.startswith("_") and name not in ("close", "suppressed", "after")
)
UNNAMED: Final = ("unnamed", "concurrent")


async def done(result: Any) -> Any:
    return await result if inspect.isawaitable(result) else result


async def perform() -> None:
    calls = Async() if FACE == "async" else Sync()
    token = context.attach(baggage.set_baggage("team", "blue"))
    for case in CASES:
        do = getattr(calls, case)
        if do is None:
            continue
        if case in UNNAMED:
            await done(do())
            continue
        with usage.upstream(case):
            await done(do())
    context.detach(token)
    await done(calls.suppressed())
    assert usage.flush(10).complete
    usage.uninstrument()
    await done(calls.after())
    await done(calls.close())


if __name__ == "__main__":
    if MODE == "by-hand":
        usage.instrument()
    else:
        trace.set_tracer_provider(TracerProvider())  # so that the official instrumentations, which are on, make spans
    asyncio.run(perform())
    assert guard.internal_errors() == {}, guard.internal_errors()
