"""The service whose latency is measured: ``uvicorn --factory benchmarks.footprint.served:create``.

With ``FOOTPRINT_SINK`` in its environment it records usage and sends it there. Without, it does not import us.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

SINK = "FOOTPRINT_SINK"


def create() -> Any:
    """The application that answers ``/work``, with usage or without."""
    if SINK not in os.environ:
        return _application(lambda **_facts: None)
    import otel_usage as usage

    from .switched import switch_on

    switch_on(os.environ[SINK])
    return _application(usage.identify)


def _application(identify: Callable[..., None]) -> Starlette:
    async def work(request: Request) -> JSONResponse:
        identify(customer_id="acme", tier=2, auth_kind="user_api_key", principal="sk_live_0123456789abcdef")
        return JSONResponse({"id": 7, "name": "widget", "price": 9.5, "tags": ["a", "b"]})

    return Starlette(routes=[Route("/work", work)])
