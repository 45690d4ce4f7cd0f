"""What else measures or meters a FastAPI application, each with the defaults of its documentation."""

from __future__ import annotations

import logging
from typing import Any

from benchmarks.application import CUSTOMERS, application, key_of, upstream_client
from benchmarks.built import Built
from benchmarks.own import FLUSH_SECONDS, QUEUE


def logfire(variant: str, sink: str) -> Built:
    """Sent to our sink by the official exporter, since its own goes to its makers' service. Nothing on the console."""
    import logfire
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    processor = BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{sink}/v1/traces"), max_queue_size=QUEUE)
    logfire.configure(
        send_to_logfire=False,
        console=False,
        service_name="bench",
        additional_span_processors=[processor],
        inspect_arguments=False,
    )
    client = upstream_client(variant)
    app = application(client)
    logfire.instrument_fastapi(app)
    if client is not None:
        logfire.instrument_httpx(client)
    return Built(app, lambda: processor.force_flush(FLUSH_SECONDS * 1000))


def apitally(variant: str, sink: str) -> Built:
    from apitally.fastapi import init
    from apitally.shared import activation, export
    from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor

    export.BATCH_MAX_QUEUE_SIZE = QUEUE
    client = upstream_client(variant)
    app = application(client)
    init(app, write_token=f"apt_{'a' * 24}", env="dev", otlp_endpoint=sink)
    if client is not None:
        HTTPXClientInstrumentor.instrument_client(client)

    def flush() -> None:
        activation.span_processor.downstream.force_flush()  # into its file; it sends the file at the end

    return Built(app, flush, activation.shutdown)


def moesif(variant: str, sink: str) -> Built:
    from moesifasgi import MoesifMiddleware

    made: list[Any] = []

    class Kept(MoesifMiddleware):  # type: ignore[misc]  # is untyped
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            made.append(self)

    app = application(upstream_client(variant))
    settings = {
        "APPLICATION_ID": "x" * 40,
        "BASE_URI": sink,
        "CAPTURE_OUTGOING_REQUESTS": variant == "B",
        "IDENTIFY_USER": lambda request, response: CUSTOMERS[key_of(request.scope)],
    }
    app.add_middleware(Kept, settings=settings)
    # It sets the root logger to INFO, by which httpx would log every call.
    logging.getLogger("httpx").setLevel(logging.WARNING)

    def flush() -> None:
        workers = made[0].event_logger.worker_pool
        while not workers.event_queue.empty():
            workers.batcher.create_batch()

    def finish() -> None:
        flush()
        # Its thread may be about to send what it has taken from the queue.
        scheduler = made[0].event_logger.worker_pool.scheduler
        if scheduler is not None:
            scheduler.shutdown(wait=True)

    return Built(app, flush, finish)


def starlette_exporter(variant: str, sink: str) -> Built:
    from starlette_exporter import PrometheusMiddleware

    app = application(upstream_client(variant))
    app.add_middleware(PrometheusMiddleware)
    return Built(app, counted=lambda: _total("starlette_requests_total"))


def prometheus(variant: str, sink: str) -> Built:
    from prometheus_fastapi_instrumentator import Instrumentator

    app = application(upstream_client(variant))
    Instrumentator().instrument(app)
    return Built(app, counted=lambda: _total("http_requests_total"))


def _total(name: str) -> int:
    """The sum of a counter over its labels."""
    from prometheus_client import REGISTRY

    samples = [sample for metric in REGISTRY.collect() for sample in metric.samples]
    return int(sum(sample.value for sample in samples if sample.name == name))
