"""OTLP as anybody may write it, with whatever in it, without this package."""

from __future__ import annotations

import gzip
import os
import time
from collections.abc import Iterable, Mapping
from contextlib import closing
from http.client import HTTPConnection
from typing import Any, Final

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span

OURS: Final = "otel_usage"
"""The instrumentation scope of this package."""

KINDS: Final = {
    "request": Span.SPAN_KIND_SERVER,
    "upstream": Span.SPAN_KIND_CLIENT,
    "llm": Span.SPAN_KIND_CLIENT,
    "custom": Span.SPAN_KIND_INTERNAL,
}
"""The span kind of each kind of record."""


def value(of: Any) -> AnyValue:
    """A value of any type that OTLP has."""
    if isinstance(of, bool):
        return AnyValue(bool_value=of)
    if isinstance(of, int):
        return AnyValue(int_value=of)
    if isinstance(of, float):
        return AnyValue(double_value=of)
    if isinstance(of, bytes):
        return AnyValue(bytes_value=of)
    if isinstance(of, Mapping):
        return AnyValue(kvlist_value=KeyValueList(values=pairs(of)))
    if isinstance(of, list):
        return AnyValue(array_value=ArrayValue(values=[value(item) for item in of]))
    return AnyValue(string_value=of)


def pairs(attributes: Mapping[str, Any]) -> list[KeyValue]:
    """Attributes."""
    return [KeyValue(key=key, value=value(of)) for key, of in attributes.items()]


def span(name: str, attributes: Mapping[str, Any], **fields: Any) -> Span:
    """A span of a trace of its own, that has just ended."""
    now = time.time_ns()
    return Span(**{
        "trace_id": os.urandom(16), "span_id": os.urandom(8), "name": name, "attributes": pairs(attributes),
        "kind": KINDS.get(attributes.get("usage.kind", ""), Span.SPAN_KIND_INTERNAL),
        "start_time_unix_nano": now - 1_000_000, "end_time_unix_nano": now, **fields,
    })  # fmt: skip


def key(of: Span) -> tuple[str, str]:
    """What names a span, as ``ReceivedSpan.key`` has it."""
    return of.trace_id.hex(), of.span_id.hex()


def requests(count: int) -> list[Span]:
    """Spans of kind request."""
    return [span("GET /v1/items/{id}", REQUEST) for _ in range(count)]


REQUEST: Final[Mapping[str, Any]] = {
    "usage.kind": "request",
    "usage.customer.id": "acme",
    "http.request.method": "GET",
    "http.route": "/v1/items/{id}",
    "http.response.status_code": 200,
    "usage.reason": "ok",
}


def export(spans: Iterable[Span], scope_name: str = OURS, **resource: Any) -> ExportTraceServiceRequest:
    """An export of spans, of one resource and scope."""
    made = ResourceSpans()
    made.resource.attributes.extend(pairs(resource or {"service.name": "shop"}))
    scope = made.scope_spans.add()
    scope.scope.name = scope_name
    scope.spans.extend(spans)
    return ExportTraceServiceRequest(resource_spans=[made])


def post(port: int, request: ExportTraceServiceRequest, token: str | None = None) -> int:
    """Send an export over HTTP to a port of loopback. The status of the answer."""
    return post_body(port, request.SerializeToString(), token)


def post_body(port: int, body: bytes, token: str | None = None) -> int:
    """The same with a body that is an export, or nearly."""
    authorization = {} if token is None else {"Authorization": f"Bearer {token}"}
    with closing(HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        headers = {"Content-Type": "application/x-protobuf", "Content-Encoding": "gzip", **authorization}
        connection.request("POST", "/v1/traces", gzip.compress(body, 1), headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status
