"""A gRPC service that knows hardly anything of usage: ``rpc.py sync|async|migrated by-hand|zero-code PORT UPSTREAM``.

``migrated`` is what gRPC calls a server of ``grpc.aio`` with sync handlers. Its messages are bytes. Beside it, on the
port above, stands one that takes a single RPC at a time. SIGTERM ends both.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import grpc
import httpx
from opentelemetry import baggage, trace
from opentelemetry.sdk.trace import TracerProvider

import otel_usage as usage

FACE, MODE, PORT, UPSTREAM = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
REFUSED: Final = "refuse"
"""The metadata that the interceptor turns away."""


def identify(context: Any) -> None:
    customer = dict(context.invocation_metadata()).get("customer")
    if customer:
        usage.identify(customer_id=customer, tier=1, auth_kind="user_api_key", provenance="verified")


def seen(context: Any) -> bytes:
    """What the service can see of baggage, and the trace of its own that it is in."""
    theirs = [f"{item.key}={item.value}" for item in context.invocation_metadata() if item.key == "baggage"]
    ambient = ",".join(baggage.get_all())
    trace_id = trace.format_trace_id(trace.get_current_span().get_span_context().trace_id)
    return f"{','.join(theirs)}|{ambient}|{trace_id}".encode()


def call_upstream(path: str) -> bytes:
    with usage.upstream("pricing"):
        return httpx.get(UPSTREAM + path).content


def fail(context: Any) -> None:
    raise LookupError("nothing of this may leave")


class Sync:
    """Handlers that are functions."""

    def echo(self, request: bytes, context: Any) -> bytes:
        identify(context)
        return request * 2

    def seen(self, request: bytes, context: Any) -> bytes:
        return seen(context)

    def upstream(self, request: bytes, context: Any) -> bytes:
        answer = call_upstream("/bytes/100")
        identify(context)
        return answer

    def background(self, request: bytes, context: Any) -> bytes:
        identify(context)
        threading.Thread(target=call_upstream, args=("/bytes/50",)).start()
        return b""

    def missing(self, request: bytes, context: Any) -> bytes:
        context.abort(grpc.StatusCode.NOT_FOUND, "no such thing")
        raise AssertionError

    def unavailable(self, request: bytes, context: Any) -> bytes:
        context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
        raise AssertionError

    def forbidden(self, request: bytes, context: Any) -> bytes:
        context.set_code(grpc.StatusCode.PERMISSION_DENIED)
        return b""

    def rejected(self, request: bytes, context: Any) -> bytes:
        usage.reject("tier_403")
        context.set_code(grpc.StatusCode.PERMISSION_DENIED)
        return b""

    def broken(self, request: bytes, context: Any) -> bytes:
        identify(context)
        fail(context)
        raise AssertionError

    def count(self, request: bytes, context: Any) -> Iterator[bytes]:
        for n in range(int(request)):
            yield b"%05d" % n

    def write(self, request: bytes, context: Any) -> Iterator[bytes]:
        return self.count(request, context)

    def broken_late(self, request: bytes, context: Any) -> Iterator[bytes]:
        yield b"first"
        fail(context)

    def join(self, requests: Iterator[bytes], context: Any) -> bytes:
        identify(context)
        return b"+".join(requests)

    def double(self, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        for request in requests:
            identify(context)
            yield request * 2

    def endless(self, request: bytes, context: Any) -> Iterator[bytes]:
        gone = threading.Event()
        context.add_callback(gone.set)
        yield b"12345"
        gone.wait(30)


class Async(Sync):
    """Handlers that are coroutines, or async generators."""

    async def echo(self, request: bytes, context: Any) -> bytes:
        await asyncio.sleep(0)
        return super().echo(request, context)

    async def seen(self, request: bytes, context: Any) -> bytes:
        return seen(context)

    async def upstream(self, request: bytes, context: Any) -> bytes:
        async with httpx.AsyncClient() as client:
            with usage.upstream("pricing"):
                answer = (await client.get(f"{UPSTREAM}/bytes/100")).content
        identify(context)
        return answer

    async def background(self, request: bytes, context: Any) -> bytes:
        return super().background(request, context)

    async def missing(self, request: bytes, context: Any) -> bytes:
        await context.abort(grpc.StatusCode.NOT_FOUND, "no such thing")
        raise AssertionError

    async def unavailable(self, request: bytes, context: Any) -> bytes:
        await context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
        raise AssertionError

    async def forbidden(self, request: bytes, context: Any) -> bytes:
        return super().forbidden(request, context)

    async def rejected(self, request: bytes, context: Any) -> bytes:
        return super().rejected(request, context)

    async def broken(self, request: bytes, context: Any) -> bytes:
        return super().broken(request, context)

    async def count(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        for n in range(int(request)):
            yield b"%05d" % n

    async def write(self, request: bytes, context: Any) -> None:
        for n in range(int(request)):
            await context.write(b"%05d" % n)

    async def broken_late(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield b"first"
        fail(context)

    async def join(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        identify(context)
        return b"+".join([request async for request in requests])

    async def double(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            identify(context)
            yield request * 2

    async def endless(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield b"12345"
        await asyncio.sleep(30)


def unreadable(message: bytes) -> Any:
    raise ValueError("this is no such message")


def handlers(service: Any) -> dict[str, Any]:
    made: dict[str, Any] = {
        **{name: grpc.unary_unary_rpc_method_handler(getattr(service, name)) for name in (
            "echo", "seen", "upstream", "background", "missing", "unavailable", "forbidden", "rejected", "broken",
        )},
        **{name: grpc.unary_stream_rpc_method_handler(getattr(service, name)) for name in (
            "count", "write", "broken_late", "endless",
        )},
        "join": grpc.stream_unary_rpc_method_handler(service.join),
        "double": grpc.stream_stream_rpc_method_handler(service.double),
        "unreadable": grpc.unary_unary_rpc_method_handler(service.echo, unreadable),
        "unwritable": grpc.unary_unary_rpc_method_handler(service.echo, None, unreadable),
    }  # fmt: skip
    return made


def refusal(details: Any) -> Callable[..., Any] | None:
    """Turns a call away before the server is asked whether there is such a method."""
    if REFUSED not in dict(details.invocation_metadata):
        return None
    usage.identify(customer_id="refused", auth_kind="jwt", provenance="verified")
    return lambda _, context: context.abort(grpc.StatusCode.UNAUTHENTICATED, "who are you?")


class Guard(grpc.ServerInterceptor):
    def intercept_service(self, continuation: Any, details: Any) -> Any:
        turned_away = refusal(details)
        return grpc.unary_unary_rpc_method_handler(turned_away) if turned_away else continuation(details)


class AsyncGuard(grpc.aio.ServerInterceptor):
    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        turned_away = refusal(details)
        if turned_away is None:
            return await continuation(details)

        async def turn_away(request: bytes, context: Any) -> None:
            await turned_away(request, context)

        return grpc.unary_unary_rpc_method_handler(turn_away)


def with_handlers(server: Any, port: int) -> Any:
    made = handlers(Async() if FACE == "async" else Sync())
    registered = {"echo": made.pop("echo")}  # as generated code does with all
    server.add_registered_method_handlers("shop.Registered", registered)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.Shop", {**made, **registered}),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    return server


def serve() -> None:
    limited = with_handlers(grpc.server(ThreadPoolExecutor(4), maximum_concurrent_rpcs=1), PORT + 1)
    server = with_handlers(grpc.server(ThreadPoolExecutor(16), interceptors=(Guard(),)), PORT)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    limited.start()
    server.start()
    stop.wait()
    for each in (server, limited):
        each.stop(5).wait()


async def serve_async() -> None:
    limited = with_handlers(grpc.aio.server(maximum_concurrent_rpcs=1), PORT + 1)
    server = with_handlers(grpc.aio.server(interceptors=(AsyncGuard(),)), PORT)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await limited.start()
    await server.start()
    await stop.wait()
    for each in (server, limited):
        await each.stop(5)


if __name__ == "__main__":
    if MODE == "by-hand":
        usage.instrument()
    else:
        trace.set_tracer_provider(TracerProvider())  # so that the official instrumentations, which are on, make spans
    if FACE == "sync":
        serve()
    else:
        asyncio.run(serve_async())
