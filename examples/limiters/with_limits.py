"""Flask and limits, the library beneath most others: one limit that refuses, and a stricter one that only watches.

PYTHONPATH=examples opentelemetry-instrument gunicorn limiters.with_limits:app
"""

from __future__ import annotations

from flask import Flask, request
from limits import parse
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

import otel_usage as usage

app = Flask(__name__)
window = MovingWindowRateLimiter(MemoryStorage())
PER_DAY, STRICTER = parse("2/day"), parse("1/day")


@app.before_request
def limited() -> tuple[dict[str, str], int] | None:
    caller = request.remote_addr or ""
    if not window.hit(STRICTER, "stricter", caller):
        usage.record_limit("stricter", "shadow")  # it would have been refused, and goes on
    allowed = window.hit(PER_DAY, "per_day", caller)
    usage.record_limit("per_day", "allow" if allowed else "deny")
    if allowed:
        return None
    usage.reject("rate_limit_429_global")
    return {"error": "too many requests"}, 429


@app.get("/quotes")
def quotes() -> dict[str, float]:
    return {"ACME": 12.5}
