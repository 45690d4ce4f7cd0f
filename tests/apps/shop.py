"""A service as anybody might have it: it knows nothing of usage. Served by tests as ``uvicorn shop:app``.

Its own tracing is on where ``SHOP_TRACING`` is set. ``SHOP_UPSTREAM`` is the URL of the service that it calls.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import AsyncIterator
from inspect import getattr_static
from typing import Any

import httpx
import httpx2
from fastapi import APIRouter, BackgroundTasks, FastAPI
from fastapi.responses import StreamingResponse
from opentelemetry import trace
from starlette.applications import Starlette

UPSTREAM = os.environ.get("SHOP_UPSTREAM", "")

if os.environ.get("SHOP_TRACING"):
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)

app = FastAPI()
router = APIRouter(prefix="/v1")
tracer = trace.get_tracer("shop")


@router.get("/items/{n}")
async def item(n: int) -> dict[str, int]:
    with tracer.start_as_current_span("look-up"):
        async with httpx.AsyncClient() as client:
            response = await client.get(f"{UPSTREAM}/item?n={n}")
    return {"n": n, "status": response.status_code}


@router.post("/orders")
def order(basket: dict[str, int], background: BackgroundTasks) -> dict[str, int]:
    with httpx2.Client() as client, client.stream("POST", f"{UPSTREAM}/order", json=basket) as response:
        size = sum(map(len, response.iter_raw()))
    background.add_task(lambda: tracer.start_span("mail").end())
    return {"size": size}


@router.get("/export")
async def export() -> StreamingResponse:
    async def rows() -> AsyncIterator[str]:
        for row in range(3):
            yield f"{row}\n"

    return StreamingResponse(rows(), media_type="text/csv")


@router.get("/broken")
def broken() -> None:
    raise ValueError("a bug of the shop's")


@app.get("/last")
def last() -> None:
    """The request that tests make last."""


@app.get("/facts")
def facts() -> dict[str, Any]:
    """What this process has imported, started and hooked."""
    entries = {
        "Starlette.__call__": getattr_static(Starlette, "__call__"),
        "Thread.start": getattr_static(threading.Thread, "start"),
        "HTTPTransport": getattr_static(httpx.HTTPTransport, "handle_request"),
    }
    return {
        "modules": sorted(name for name in sys.modules if name.startswith("otel_usage")),
        "threads": [thread.name for thread in threading.enumerate()],
        "ours": [name for name, entry in entries.items() if hooked(entry)],
    }


def hooked(entry: Any) -> bool:
    while hasattr(entry, "__wrapped__"):
        if getattr(entry, "__globals__", {}).get("__name__", "").startswith("otel_usage"):
            return True
        entry = entry.__wrapped__
    return False


app.include_router(router)
