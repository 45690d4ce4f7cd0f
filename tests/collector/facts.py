"""Usage spans of which a test says what matters to it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from .otlp import span


@dataclass(frozen=True)
class Request:
    """The facts of one request. None: the span has no such attribute."""

    customer: str | None = "acme"
    tier: int | None = 1
    route: str = "/v1/items/{id}"
    reason: str = "ok"
    failed: bool = False
    seconds: float = 0.25
    bytes_in: int = 0
    bytes_out: int = 0
    more: Mapping[str, Any] = field(default_factory=dict)
    """Attributes as they are, over those that the facts make."""


ANY = Request()


def request(facts: Request = ANY) -> Span:
    """The usage span of a request."""
    attributes = {
        "usage.kind": "request",
        "usage.customer.id": facts.customer,
        "usage.tier": facts.tier,
        "http.route": facts.route,
        "http.request.method": "GET",
        "usage.reason": facts.reason,
        "http.request.body.size": facts.bytes_in,
        "http.response.body.size": facts.bytes_out,
        **facts.more,
    }
    said = {key: value for key, value in attributes.items() if value is not None}
    code = Status.STATUS_CODE_ERROR if facts.failed else Status.STATUS_CODE_UNSET
    return lasting(facts.seconds, f"GET {facts.route}", said, status=Status(code=code))


def lasting(seconds: float, name: str, attributes: Mapping[str, Any], **fields: Any) -> Span:
    """A span that has just ended, after as many seconds."""
    end = time.time_ns()
    start = end - round(seconds * 1e9)
    return span(name, attributes, start_time_unix_nano=start, end_time_unix_nano=end, **fields)
