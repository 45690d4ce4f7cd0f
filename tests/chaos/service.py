"""The service under test: one ASGI application, and one client of telemetry around it, named by ``CHAOS_VARIANT``.

Run with ``uvicorn --factory tests.chaos.service:create``, with as many workers as you like. ``/work`` answers 200 and
is recorded; ``/health`` is answered beside the client of telemetry, so that asking leaves no trace in what is counted.

Every variant is set up as its documentation recommends and has its defaults otherwise. What a client can only do when
it is told that the process ends is called when the lifespan ends: uvicorn then ends the process by the signal that
stopped it, and what is registered with ``atexit`` does not run.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
from collections.abc import Awaitable, Callable
from typing import Any

from tests.chaos.processes import resident_bytes

Scope, Receive, Send = Any, Any, Any
App = Callable[[Scope, Receive, Send], Awaitable[None]]

REQUEST_ID = "chaos.request_id"
"""The attribute that holds the request's id where the variant lets us choose its name."""

SINK = "CHAOS_SINK"
VARIANT = "CHAOS_VARIANT"
FIRST_DELAY = "CHAOS_FIRST_DELAY"
LONGEST_DELAY = "CHAOS_LONGEST_DELAY"
SCHEDULE_DELAY = "CHAOS_SCHEDULE_DELAY"
"""Seconds, for ``otel_usage`` only and only for scaled tests. Unset: its defaults."""


def create() -> App:
    """The application of the variant that the environment names."""
    return with_health(VARIANTS[os.environ[VARIANT]]())


# -- the application ---------------------------------------------------------------------------------------------------


async def work(scope: Scope, receive: Receive, send: Send) -> None:
    """What the service is for: a small answer."""
    await answer(send, b'{"ok":true}')


async def answer(send: Send, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def request_id(scope: Scope) -> str:
    return next((value.decode() for name, value in scope["headers"] if name == b"x-request-id"), "")


def with_lifespan(app: App, close: Callable[[], object] = lambda: None) -> App:
    """``app``, for http; and a lifespan that calls ``close`` at its end, aside from the loop."""

    async def served(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await app(scope, receive, send)
            return
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await asyncio.to_thread(close)
        await send({"type": "lifespan.shutdown.complete"})

    return served


def with_health(app: App) -> App:
    """``app``, with ``/health`` beside it."""

    async def served(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == "/health":
            await answer(send, json.dumps(health()).encode())
        else:
            await app(scope, receive, send)

    return served


def health() -> dict[str, Any]:
    found: dict[str, Any] = {"pid": os.getpid(), "rss": resident_bytes(os.getpid())}
    if os.environ[VARIANT] == "otel_usage":
        import otel_usage as usage

        now = usage.health()
        found |= dataclasses.asdict(now)
        found["ledger"]["balanced"] = now.ledger.balanced
    return found


# -- the variants ------------------------------------------------------------------------------------------------------


def none() -> App:
    return with_lifespan(work)


def otel_usage() -> App:
    import otel_usage as usage

    be_quick()
    config = usage.UsageConfig.from_env()
    if SCHEDULE_DELAY in os.environ:
        config = dataclasses.replace(config, schedule_delay=float(os.environ[SCHEDULE_DELAY]))
    usage.instrument(config)
    return usage.UsageMiddleware(with_lifespan(work))


def be_quick() -> None:
    """Shorten the waits of the circuit breaker for scaled tests, which cannot wait for a minute.

    They are no settings of the package, on purpose: nobody has to know them. So the defaults of the policy are patched
    here, before anything is made of them: the breaker's own default policy, and the pause after a 401 and its kin.
    """
    if FIRST_DELAY not in os.environ:
        return
    from otel_usage import circuit_breaker
    from otel_usage.delivery import gate

    first, longest = float(os.environ[FIRST_DELAY]), float(os.environ[LONGEST_DELAY])
    policy = circuit_breaker.BreakerPolicy(first_delay=first, longest_delay=longest)
    circuit_breaker.CircuitBreaker.__init__.__defaults__ = (policy,)
    assert gate.PROBE_PERIOD
    gate.PROBE_PERIOD = longest


def batch() -> App:
    """OpenTelemetry's own: BatchSpanProcessor and the official OTLP/HTTP exporter."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.trace import SpanKind

    provider = TracerProvider(resource=Resource.create({"service.name": "chaos"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{os.environ[SINK]}/v1/traces")))
    tracer = provider.get_tracer("chaos")

    async def traced(scope: Scope, receive: Receive, send: Send) -> None:
        attributes = {REQUEST_ID: request_id(scope), "http.request.method": "GET", "http.route": "/work"}
        with tracer.start_as_current_span("GET /work", kind=SpanKind.SERVER, attributes=attributes):
            await work(scope, receive, send)

    return with_lifespan(traced, provider.shutdown)


def logfire() -> App:
    """Logfire with its disk retry. Its metrics and its console are not what is compared, and are off."""
    import logfire as client

    client.configure(
        send_to_logfire=True,
        token="chaos-token",
        service_name="chaos",
        console=False,
        metrics=False,
        advanced=client.AdvancedOptions(base_url=os.environ[SINK]),
    )

    async def traced(scope: Scope, receive: Receive, send: Send) -> None:
        with client.span("GET /work", **{REQUEST_ID: request_id(scope)}):
            await work(scope, receive, send)

    return with_lifespan(traced, client.shutdown)


def apitally() -> App:
    """Apitally, on Starlette: it has no adapter for a bare ASGI application.

    Request headers are captured, which is not its default: they hold the id that spans are counted by. It starts and
    ends with the lifespan by itself; its endpoint and token are read from the environment.
    """
    import apitally as client
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    async def endpoint(request: Any) -> JSONResponse:
        return JSONResponse({"ok": True})

    app = Starlette(routes=[Route("/work", endpoint)])
    client.init(app, env="prod", capture_request_headers=True)
    return app


VARIANTS: dict[str, Callable[[], App]] = {
    "otel_usage": otel_usage,
    "batch": batch,
    "logfire": logfire,
    "apitally": apitally,
    "none": none,
}
