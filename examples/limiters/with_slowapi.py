"""FastAPI and slowapi: one limit that refuses, and a stricter one that only watches.

PYTHONPATH=examples opentelemetry-instrument uvicorn limiters.with_slowapi:app
"""

from __future__ import annotations

from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse
from limits import parse
from slowapi import Limiter
from slowapi.errors import RateLimitExceeded
from slowapi.util import get_remote_address

import otel_usage as usage

app = FastAPI()
limiter = app.state.limiter = Limiter(key_func=get_remote_address)
STRICTER = parse("1/day")


@app.exception_handler(RateLimitExceeded)
async def refused(request: Request, error: RateLimitExceeded) -> JSONResponse:
    """Every limit of slowapi ends here when it is reached."""
    usage.record_limit("per_day", "deny")
    usage.reject("rate_limit_429_endpoint")
    return JSONResponse({"error": "too many requests"}, 429)


def watched(request: Request) -> None:
    """What would become of the request under the stricter limit. It goes on in any case."""
    if not limiter.limiter.hit(STRICTER, "stricter", get_remote_address(request)):
        usage.record_limit("stricter", "shadow")


@app.get("/quotes", dependencies=[Depends(watched)])
@limiter.limit("2/day")
def quotes(request: Request) -> dict[str, float]:
    return {"ACME": 12.5}
