"""FastAPI and fastapi-limiter: one limit that refuses, and a stricter one that only watches.

PYTHONPATH=examples opentelemetry-instrument uvicorn limiters.with_fastapi_limiter:app
"""

from __future__ import annotations

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi_limiter.depends import RateLimiter
from pyrate_limiter import Duration, Limiter, Rate

import otel_usage as usage

app = FastAPI()


async def refused(request: Request, response: Response) -> None:
    """What the limit calls when it is reached."""
    usage.record_limit("per_day", "deny")
    usage.reject("rate_limit_429_endpoint")
    raise HTTPException(429, "too many requests")


async def watched(request: Request, response: Response) -> None:
    """The same of the stricter limit. It does not raise, so the request goes on."""
    usage.record_limit("stricter", "shadow")


per_day = RateLimiter(Limiter(Rate(2, Duration.DAY)), callback=refused)
stricter = RateLimiter(Limiter(Rate(1, Duration.DAY)), callback=watched)


@app.get("/quotes", dependencies=[Depends(stricter), Depends(per_day)])
async def quotes() -> dict[str, float]:
    return {"ACME": 12.5}
