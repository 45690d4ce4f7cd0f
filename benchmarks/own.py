"""The bare application, this package, and OpenTelemetry's official instrumentations."""

from __future__ import annotations

from typing import Any, Final

from benchmarks.application import CUSTOMERS, KnowsCaller, application, key_of, upstream_client
from benchmarks.built import Built

QUEUE: Final = 1 << 18
"""Spans. Whoever bounds a queue gets this one: what is dropped costs less, and no comparison is one of drops."""
FLUSH_SECONDS: Final = 60


def bare(variant: str, sink: str) -> Built:
    return Built(application(upstream_client(variant)))


def otel_usage(variant: str, sink: str) -> Built:
    """Everything on: the hooks, an identity for each request, a keyed hash of its key, redaction, gzip, delivery."""
    import otel_usage as usage
    from otel_usage.config import SpoolMode

    class TellsCaller(KnowsCaller):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                key = key_of(scope)
                scope["state"]["key"], scope["state"]["customer"] = key, (customer := CUSTOMERS[key])
                usage.identify(customer_id=customer, tier=2, auth_kind="user_api_key", principal=key)
            await self.app(scope, receive, send)

    usage.instrument(
        usage.UsageConfig(
            otlp_endpoint=sink, key_pepper="bench:0123456789abcdef", queue_size=QUEUE, spool=SpoolMode.MEMORY
        )
    )
    app = application(upstream_client(variant), TellsCaller)
    return Built(app, lambda: usage.flush(FLUSH_SECONDS), switch=_switch)


def _switch(on: bool) -> None:
    # The hooks of the running pipeline have no public switch of their own: uninstrument() would end its threads too.
    from otel_usage import pipeline

    assert pipeline._running is not None
    hooks = pipeline._running._hooks
    hooks.install() if on else hooks.remove()


def stock_otel(variant: str, sink: str, exclude_spans: list[Any] | None = None) -> Built:
    """The official instrumentations of FastAPI and httpx, BatchSpanProcessor, and the official OTLP/HTTP exporter."""
    from opentelemetry import trace
    from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
    from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor

    provider = provider_to(sink)
    trace.set_tracer_provider(provider)
    client = upstream_client(variant)
    if client is not None:
        HTTPXClientInstrumentor.instrument_client(client)
    app = application(client)
    FastAPIInstrumentor.instrument_app(app, exclude_spans=exclude_spans)
    return Built(app, lambda: provider.force_flush(FLUSH_SECONDS * 1000))


def stock_otel_excl(variant: str, sink: str) -> Built:
    """The same without a span for each ASGI message."""
    return stock_otel(variant, sink, ["send", "receive"])


def provider_to(sink: str) -> Any:
    """BatchSpanProcessor and the official OTLP/HTTP exporter, both with their defaults but for the queue."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": "bench"}))
    exporter = OTLPSpanExporter(endpoint=f"{sink}/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=QUEUE))
    return provider
