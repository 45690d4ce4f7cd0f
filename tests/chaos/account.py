"""The sink's books: which ids arrived, when the first did, and what came twice."""

from __future__ import annotations

import gzip
import threading
import time
from collections import Counter
from typing import Any, Final

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from otel_usage.local.messages import Request
from otel_usage.local.otlp import ReceivedSpan

ID_ATTRIBUTES: Final = ("usage.client.request_id", "chaos.request_id", "http.request.header.x-request-id")
"""Where the variants put the id of a request."""

REQUEST_METRIC: Final = "http.server.request.duration"


class Account:
    """Counts what was taken. Thread-safe; keeps ids and no spans, so that long outages fit into memory."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken: dict[str, tuple[str, str]] = {}
        self._rejected: set[str] = set()
        self._keys: Counter[tuple[str, str]] = Counter()
        self._recorded_twice = 0
        self._counted = 0
        self._last = 0.0
        self._healed_at: float | None = None
        self._recovered_at: float | None = None

    def take(self, spans: tuple[ReceivedSpan, ...]) -> None:
        """Spans that the sink keeps."""
        now = time.monotonic()
        with self._lock:
            for span in spans:
                name = request_id(span)
                if name is None:
                    continue
                self._last = now
                self._keys[span.key] += 1
                if self._taken.setdefault(name, span.key) != span.key:
                    self._recorded_twice += 1
            if self._healed_at is not None and self._recovered_at is None and self._last == now:
                self._recovered_at = now

    def reject(self, span: ReceivedSpan) -> None:
        """A span that the sink told its sender it would not keep."""
        name = request_id(span)
        if name is not None:
            with self._lock:
                self._rejected.add(name)

    def count_metrics(self, request: Request) -> None:
        """Requests by the aggregated counts of a client that sends such (Apitally), beside its spans."""
        body = request.body or b""
        if request.header("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        metrics = (
            metric
            for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == REQUEST_METRIC
        )
        count = sum(point.count for metric in metrics for point in metric.exponential_histogram.data_points)
        with self._lock:
            self._counted += count

    def healed(self) -> None:
        """From now on the first span taken is the recovery."""
        with self._lock:
            self._healed_at, self._recovered_at = time.monotonic(), None

    def summary(self) -> dict[str, Any]:
        """Counts, and moments of the monotonic clock."""
        with self._lock:
            recovery = None if self._recovered_at is None else self._recovered_at - (self._healed_at or 0.0)
            return {
                "unique": len(self._taken),
                "rejected": len(self._rejected),
                "duplicates": self._keys.total() - len(self._keys),
                "recorded_twice": self._recorded_twice,
                "counted": self._counted,
                "last": self._last,
                "recovery": recovery,
            }

    def ids(self) -> dict[str, list[str]]:
        """All ids that arrived, and all that were rejected."""
        with self._lock:
            return {"taken": list(self._taken), "rejected": list(self._rejected)}


def request_id(span: ReceivedSpan) -> str | None:
    """The id of the request that a span is about. None: it is about none, or announces one that has not ended."""
    if span.attributes.get("logfire.span_type") == "pending_span":
        return None
    for key in ID_ATTRIBUTES:
        value = span.attributes.get(key)
        if value:
            return str(value[0] if isinstance(value, list) else value)
    return None
