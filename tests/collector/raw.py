"""OTLP as anybody may write it: spans of any scope with any attributes, posted without this package."""

from __future__ import annotations

import gzip
import http.client
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from otel_usage.schema import SCHEMA_URL

Attributes = Mapping[str, str | int | float | bool]

OURS: Final = "otel_usage"
"""The name of this package's instrumentation scope."""

SERVICE: Final[Attributes] = {"service.name": "shop", "deployment.environment.name": "test"}


@dataclass(frozen=True)
class Client:
    """Posts to a Collector. ``token`` None: none is sent."""

    url: str
    token: str | None = None

    def send(self, spans: Iterable[Span], scope: str = OURS, resource: Attributes = SERVICE) -> int:
        """Post spans, and return the status of the answer."""
        return self.post(export(spans, scope, resource))

    def post(self, body: bytes) -> int:
        headers = {"Content-Type": "application/x-protobuf", "Content-Encoding": "gzip"}
        if self.token is not None:
            headers["Authorization"] = f"Bearer {self.token}"
        connection = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=60)
        try:
            connection.request("POST", "/v1/traces", gzip.compress(body, 1), headers)
            answer = connection.getresponse()
            answer.read()
            return answer.status
        finally:
            connection.close()


@dataclass(frozen=True)
class Request:
    """The facts of one request, of which :func:`request` makes a span."""

    customer: str | None = "acme"
    tier: int | None = 1
    route: str = "/v1/items/{id}"
    reason: str = "ok"
    failed: bool = False
    seconds: float = 0.25
    upstream: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    more: Attributes = field(default_factory=dict)


def request(facts: Request = Request()) -> Span:  # frozen
    """A usage span of kind request."""
    attributes = {
        "usage.kind": "request",
        "usage.customer.id": facts.customer,
        "usage.tier": facts.tier,
        "http.route": facts.route,
        "http.request.method": "GET",
        "usage.reason": facts.reason,
        "usage.upstream.count": facts.upstream,
        "http.request.body.size": facts.bytes_in,
        "http.response.body.size": facts.bytes_out,
        **facts.more,
    }
    said = {key: value for key, value in attributes.items() if value is not None}
    made = span(f"GET {facts.route}", said, seconds=facts.seconds, kind=Span.SPAN_KIND_SERVER)
    if facts.failed:
        made.status.code = Status.STATUS_CODE_ERROR
    return made


def span(
    name: str,
    attributes: Attributes,
    *,
    seconds: float = 0.25,
    kind: Span.SpanKind.ValueType = Span.SPAN_KIND_INTERNAL,
) -> Span:
    """Any span, that has just ended. It is the only one of its trace."""

    end = time.time_ns()
    return Span(
        trace_id=os.urandom(16),
        span_id=os.urandom(8),
        name=name,
        kind=kind,
        start_time_unix_nano=end - round(seconds * 1e9),
        end_time_unix_nano=end,
        attributes=pairs(attributes),
    )


def key(made: Span) -> tuple[str, str]:
    """What names a span, as ``ReceivedSpan.key`` says it."""
    return made.trace_id.hex(), made.span_id.hex()


def export(spans: Iterable[Span], scope: str = OURS, resource: Attributes = SERVICE) -> bytes:
    """The body of one export."""
    whole = ExportTraceServiceRequest()
    resource_spans = whole.resource_spans.add(schema_url=SCHEMA_URL)
    resource_spans.resource.attributes.extend(pairs(resource))
    scope_spans = resource_spans.scope_spans.add(schema_url=SCHEMA_URL)
    scope_spans.scope.name = scope
    scope_spans.spans.extend(spans)
    return whole.SerializeToString()


def pairs(attributes: Attributes) -> list[KeyValue]:
    """Attributes as OTLP has them."""
    return [KeyValue(key=key, value=_value(value)) for key, value in attributes.items()]


def _value(value: str | int | float | bool) -> AnyValue:
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    return AnyValue(double_value=value) if isinstance(value, float) else AnyValue(string_value=value)
