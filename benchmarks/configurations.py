"""The things that are compared, each built in a process of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
from fastapi import FastAPI

UPSTREAM = "http://upstream.example/v2/lookup?sku="


@dataclass(frozen=True)
class Built:
    """An application, and what delivers all that it has recorded."""

    app: Any
    flush: Callable[[], object]


def _application(client: httpx.AsyncClient | None) -> FastAPI:
    app = FastAPI()

    @app.get("/v1/items/{id}")
    async def item(id: int) -> dict[str, Any]:
        if client is not None:
            return {"id": id, "name": "widget", "n": (await client.get(f"{UPSTREAM}{id}")).json()["n"]}
        return {"id": id, "name": "widget", "price": 9.5, "tags": ["a", "b"]}

    return app


def _client(variant: str) -> httpx.AsyncClient | None:
    """Variant A serves one route; B makes one call to a mock transport for each request."""
    if variant == "A":
        return None
    return httpx.AsyncClient(transport=httpx.MockTransport(lambda _request: httpx.Response(200, json={"n": 7})))


def bare(variant: str, sink: str) -> Built:
    return Built(_application(_client(variant)), lambda: None)


def otel_usage(variant: str, sink: str) -> Built:
    """Everything on: the hooks, an identity for each request, redaction, gzip, delivery."""
    import otel_usage as usage

    config = usage.UsageConfig(
        otlp_endpoint=sink, key_pepper="bench:0123456789abcdef", queue_size=1 << 18, spool="memory"
    )
    usage.instrument(config)
    app = _application(_client(variant))
    app.add_middleware(Identify)
    return Built(app, lambda: usage.flush(60))


class Identify:
    """What every application has, a middleware that knows who is calling, with the one line that tells usage."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        import otel_usage as usage

        usage.identify(customer_id="acme", tier=2, auth_kind="user_api_key", principal="sk_live_0123456789abcdef")
        await self.app(scope, receive, send)


def stock_otel(variant: str, sink: str) -> Built:
    """The official instrumentations of FastAPI and httpx, BatchSpanProcessor, and the official OTLP/HTTP exporter."""
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
    from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider()
    provider.add_span_processor(
        BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{sink}/v1/traces"), max_queue_size=1 << 18)
    )
    trace.set_tracer_provider(provider)
    client = _client(variant)
    if client is not None:
        HTTPXClientInstrumentor.instrument_client(client)
    app = _application(client)
    FastAPIInstrumentor.instrument_app(app)
    return Built(app, lambda: provider.force_flush(60_000))


CONFIGURATIONS: dict[str, Callable[[str, str], Built]] = {
    "bare": bare,
    "otel_usage": otel_usage,
    "stock_otel": stock_otel,
}
