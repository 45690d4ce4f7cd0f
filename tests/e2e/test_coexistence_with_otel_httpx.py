"""Beside the official instrumentation of httpx, in every order: both see each call once, and neither sees the other."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from types import ModuleType
from typing import Any, Final

import httpx
import httpx2
import pytest
from opentelemetry.instrumentation.httpx import (
    AsyncOpenTelemetryTransport,
    AsyncOpenTelemetryTransportHttpx2,
    HTTPX2ClientInstrumentor,
    HTTPXClientInstrumentor,
    SyncOpenTelemetryTransport,
    SyncOpenTelemetryTransportHttpx2,
)
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import otel_usage as usage
from otel_usage.testing import AxiomStub
from tests.servers import serve_asgi

ORDERS: Final = [
    order
    for order in itertools.permutations(("ours+", "ours-", "theirs+", "theirs-"))
    if order.index("ours+") < order.index("ours-") and order.index("theirs+") < order.index("theirs-")
]
"""Every way to interleave switching usage on and off with switching the official instrumentation on and off."""

Switch = Callable[..., None]

TLS: Final = ssl.create_default_context()
"""What a client makes for itself otherwise, in 20 ms."""


class Upstream:
    """An ASGI application that remembers the headers of the last call."""

    def __init__(self) -> None:
        self.url = ""
        self.headers: dict[str, str] = {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        while (await receive()).get("more_body"):
            pass
        await send(
            {"type": "http.response.start", "status": int(scope["path"].strip("/")), "headers": [(b"x-who", b"me")]}
        )
        await send({"type": "http.response.body", "body": b"hello"})


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    app = Upstream()
    with serve_asgi(app, lifespan="off") as url:
        app.url = url
        yield app


class Library:
    """One library, sync or async, with its official instrumentation."""

    def __init__(self, module: ModuleType, *, asynchronous: bool) -> None:
        self.module, self.asynchronous = module, asynchronous
        kinds = {httpx: HTTPXClientInstrumentor, httpx2: HTTPX2ClientInstrumentor}
        self.instrumentor = kinds[module]()
        self.transport = module.AsyncHTTPTransport if asynchronous else module.HTTPTransport
        self.method = "handle_async_request" if asynchronous else "handle_request"

    @property
    def wrapping_transport(self) -> type:
        """The official transport that wraps another."""
        if self.module is httpx:
            return AsyncOpenTelemetryTransport if self.asynchronous else SyncOpenTelemetryTransport
        return AsyncOpenTelemetryTransportHttpx2 if self.asynchronous else SyncOpenTelemetryTransportHttpx2

    @property
    def function(self) -> object:
        """What stands on the transport now."""
        return vars(self.transport)[self.method]

    @contextlib.asynccontextmanager
    async def client(self, **settings: Any) -> AsyncIterator[Any]:
        settings.setdefault("verify", TLS)
        if self.asynchronous:
            async with self.module.AsyncClient(**settings) as client:
                yield client
        else:
            with self.module.Client(**settings) as client:
                yield client

    async def get(self, client: Any, url: str) -> Any:
        answer = client.get(url)
        return await answer if self.asynchronous else answer


@pytest.fixture(
    params=[(httpx, False), (httpx, True), (httpx2, False), (httpx2, True)],
    ids=["httpx", "httpx-async", "httpx2", "httpx2-async"],
)
def library(request: pytest.FixtureRequest) -> Iterator[Library]:
    module, asynchronous = request.param
    found = Library(module, asynchronous=asynchronous)
    original = found.function
    yield found
    assert found.function is original, "whatever was switched on and off, the very same function is back"


class Tracing:
    """The application's own tracing, and what it has recorded."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    def take(self) -> list[ReadableSpan]:
        """The spans since this was last asked."""
        spans = list(self._exporter.get_finished_spans())
        self._exporter.clear()
        return spans


@pytest.fixture
def tracing() -> Iterator[Tracing]:
    found = Tracing()
    yield found
    found.provider.shutdown()


def described(spans: list[ReadableSpan]) -> list[dict[str, Any]]:
    """Everything that a span says, but for ids, times and the frames of a stack."""
    return [
        {
            "name": span.name,
            "kind": span.kind,
            "parent": span.parent is not None,
            "attributes": dict(span.attributes or {}),
            "status": (span.status.status_code, span.status.description),
            "links": len(span.links),
            "scope": span.instrumentation_scope,
            "resource": dict(span.resource.attributes),
            "events": [
                (event.name, {k: v for k, v in (event.attributes or {}).items() if k != "exception.stacktrace"})
                for event in span.events
            ],
        }
        for span in spans
    ]


def recorded(stub: AxiomStub) -> int:
    """How many usage spans there are since this was last asked."""
    usage.flush(5)
    count = len(stub.spans)
    stub.clear()
    return count


@pytest.mark.parametrize("order", ORDERS, ids=" ".join)
class TestEveryOrder:
    """Of switching both on and off."""

    def test_each_call_is_seen_once_by_whoever_is_on_and_their_spans_do_not_change(
        self,
        order: tuple[str, ...],
        library: Library,
        tracing: Tracing,
        upstream: Upstream,
        stub: AxiomStub,
        switch_on: Switch,
    ) -> None:
        urls = (f"{upstream.url}/200?key=1", f"{upstream.url}/503")

        async def call(client: Any) -> list[dict[str, Any]]:
            for url in urls:
                assert (await library.get(client, url)).content == b"hello"
            spans = tracing.take()
            if spans:
                assert upstream.headers["traceparent"].split("-")[2] == f"{spans[-1].context.span_id:016x}"
            else:
                assert "traceparent" not in upstream.headers
            return described(spans)

        async def main() -> None:
            library.instrumentor.instrument(tracer_provider=tracing.provider)
            async with library.client() as client:
                without_us = await call(client)
            library.instrumentor.uninstrument()
            assert len(without_us) == 2

            on = set()
            async with library.client() as outliving:
                for step in order:
                    who = step[:-1]
                    if step.endswith("+"):
                        on.add(who)
                    else:
                        on.remove(who)
                    steps = {
                        "ours+": switch_on,
                        "ours-": usage.uninstrument,
                        "theirs+": lambda: library.instrumentor.instrument(tracer_provider=tracing.provider),
                        "theirs-": library.instrumentor.uninstrument,
                    }
                    steps[step]()
                    async with library.client() as fresh:
                        for client in (outliving, fresh):
                            assert await call(client) == (without_us if "theirs" in on else [])
                            assert recorded(stub) == (2 if "ours" in on else 0), f"after {step}"

        asyncio.run(main())

    def test_a_client_that_is_instrumented_by_itself_is_seen_once_if_usage_was_on_before(
        self,
        order: tuple[str, ...],
        library: Library,
        tracing: Tracing,
        upstream: Upstream,
        stub: AxiomStub,
        switch_on: Switch,
    ) -> None:
        # instrument_client() keeps the transport's function as it finds it, on the transport object, for good: a hook
        # that comes later is beneath nothing that this client calls. "Call instrument() before clients are made".
        seen_by_us = order.index("ours+") < order.index("theirs+")

        async def main() -> None:
            on = set()
            async with library.client() as client:
                for step in order:
                    on.add(step[:-1]) if step.endswith("+") else on.remove(step[:-1])
                    match step:
                        case "ours+":
                            switch_on()
                        case "ours-":
                            usage.uninstrument()
                        case "theirs+":
                            library.instrumentor.instrument_client(client, tracer_provider=tracing.provider)
                        case "theirs-":
                            library.instrumentor.uninstrument_client(client)
                    await library.get(client, f"{upstream.url}/200")
                    assert len(tracing.take()) == ("theirs" in on)
                    assert recorded(stub) == ("ours" in on and seen_by_us), f"after {step}"
                    async with library.client() as other:
                        await library.get(other, f"{upstream.url}/200")
                    assert tracing.take() == []
                    assert recorded(stub) == ("ours" in on), f"another client, after {step}"

        asyncio.run(main())


def test_a_client_that_is_instrumented_by_itself_is_seen_once_after_usage_was_switched_off_and_on(
    library: Library, tracing: Tracing, upstream: Upstream, stub: AxiomStub, switch_on: Switch
) -> None:
    async def main() -> None:
        switch_on()
        async with library.client() as client:
            library.instrumentor.instrument_client(client, tracer_provider=tracing.provider)
            for _ in range(3):
                usage.uninstrument()
                await library.get(client, f"{upstream.url}/200")
                assert recorded(stub) == 0
                switch_on()
                await library.get(client, f"{upstream.url}/200")
                assert recorded(stub) == 1
                assert len(tracing.take()) == 2
        usage.uninstrument()

    asyncio.run(main())


@pytest.mark.parametrize("usage_first", [True, False])
def test_their_wrapping_transport_and_ours_see_each_call_once(
    library: Library, tracing: Tracing, upstream: Upstream, stub: AxiomStub, switch_on: Switch, usage_first: bool
) -> None:
    async def main() -> None:
        if usage_first:
            switch_on()
        transport = library.wrapping_transport(library.transport(verify=TLS), tracer_provider=tracing.provider)
        async with library.client(transport=transport) as client:
            if not usage_first:
                await library.get(client, f"{upstream.url}/200")
                without_us = described(tracing.take())
                switch_on()
            await library.get(client, f"{upstream.url}/200")
            spans = tracing.take()
            assert len(spans) == 1
            assert recorded(stub) == 1
            assert usage_first or described(spans) == without_us
        usage.uninstrument()

    asyncio.run(main())


def test_a_call_that_fails_leaves_the_same_span_and_the_same_error(
    library: Library, tracing: Tracing, stub: AxiomStub, switch_on: Switch
) -> None:
    async def fail(url: str) -> list[dict[str, Any]]:
        async with library.client() as client:
            with pytest.raises(library.module.ConnectError):
                await library.get(client, url)
        return described(tracing.take())

    async def main() -> None:
        with contextlib.closing(socket.socket()) as unused:
            unused.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{unused.getsockname()[1]}/"
            library.instrumentor.instrument(tracer_provider=tracing.provider)
            without_us = await fail(url)
            switch_on()
            assert await fail(url) == without_us
            assert recorded(stub) == 1
            usage.uninstrument()
            assert await fail(url) == without_us
            library.instrumentor.uninstrument()

    asyncio.run(main())


def test_the_hooks_of_their_instrumentation_are_called_with_what_they_always_get(
    tracing: Tracing, upstream: Upstream, stub: AxiomStub, switch_on: Switch
) -> None:
    seen: list[Any] = []

    def on_request(span: Any, request: Any) -> None:
        seen.append((request.method, str(request.url), dict(request.extensions)))

    def on_response(span: Any, request: Any, response: Any) -> None:
        seen.append(
            (response.status_code, response.headers["x-who"], isinstance(response.stream, httpx.SyncByteStream))
        )

    def call() -> list[Any]:
        with httpx.Client(verify=TLS) as client:
            client.get(f"{upstream.url}/200")
        found = list(seen)
        seen.clear()
        return found

    instrumentor = HTTPXClientInstrumentor()
    instrumentor.instrument(tracer_provider=tracing.provider, request_hook=on_request, response_hook=on_response)
    try:
        without_us = call()
        switch_on()
        assert call() == without_us
        assert recorded(stub) == 1
    finally:
        usage.uninstrument()
        instrumentor.uninstrument()
