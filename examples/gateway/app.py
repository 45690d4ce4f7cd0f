"""The gateway of a small API business: API keys, tiers, limits, a cache, providers behind it.

It knows nothing of how usage telemetry is switched on or where it goes. It runs the same without it.
"""

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, TypedDict

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from .auth import KEY_HEADER, Authenticate
from .providers import CountUpstreamCalls, ProviderError, open_providers, upstream_headers
from .routes import partner, public, v1
from .services import Services

logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
logging.getLogger("httpx").setLevel(logging.WARNING)  # a line for each call to a provider is too much

UPSTREAM_VARIABLE: Final = "GATEWAY_UPSTREAM"
_DEFAULT_UPSTREAM: Final = "http://127.0.0.1:8100"


class State(TypedDict):
    """What every request finds in its state."""

    services: Services


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[State]:
    """Open the connections to the providers, and close them at the end."""
    async with open_providers(os.environ.get(UPSTREAM_VARIABLE, _DEFAULT_UPSTREAM)) as providers:
        yield {"services": Services(providers)}


async def provider_failed(_request: Request, error: ProviderError) -> JSONResponse:
    """502 or 503: it is the provider's fault, not the caller's and not ours."""
    headers = {"retry-after": error.retry_after} if error.retry_after else None
    return JSONResponse({"error": str(error)}, status_code=error.status, headers=headers)


async def unhandled(_request: Request, _error: Exception) -> JSONResponse:
    """500. Starlette raises the exception again afterwards, so that the server logs it."""
    # uvicorn then drops the connection without a word; the header says so in time, and nobody sends another request.
    headers = {**upstream_headers(), "connection": "close"}
    return JSONResponse({"error": "internal error"}, status_code=500, headers=headers)


app = FastAPI(
    title="Gateway",
    lifespan=lifespan,
    exception_handlers={ProviderError: provider_failed, Exception: unhandled},
    # Outermost first. CORS answers preflights, which never carry a key, so it stands before authentication.
    middleware=[
        Middleware(
            CORSMiddleware,
            allow_origins=["https://app.example.com", "https://shop.example.com"],
            allow_methods=["GET", "POST"],
            allow_headers=[KEY_HEADER, "content-type"],
        ),
        Middleware(CountUpstreamCalls),
        Middleware(Authenticate),
    ],
)
app.include_router(public)
app.include_router(v1)
app.mount("/partner", partner)
