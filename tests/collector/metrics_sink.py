"""A metrics dataset on a loopback socket: takes OTLP metrics as Axiom does, and adds up what was added."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AggregationTemporality,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
)

from otel_usage.local.http_server import HttpServer
from otel_usage.local.messages import Request, Response, error_response
from otel_usage.local.otlp import decompress

METRICS_PATH: Final = "/v1/metrics"
_LIMIT: Final = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Point:
    """One data point: what was added to one series."""

    metric: str
    unit: str
    attributes: Mapping[str, object]
    resource: Mapping[str, object]
    value: float
    """What was added: of a histogram, the sum of what was observed."""
    count: int
    """Observations of a histogram; 1 for a sum."""
    series: tuple[object, ...] = field(repr=False)
    """What makes it another series than others: the metric, its attributes and its resource."""


class MetricsSink:
    """``with MetricsSink() as sink:``. It answers with ``status`` where that is not 200, and takes nothing then."""

    def __init__(self, port: int = 0) -> None:
        self.status = 200
        self.points: list[Point] = []
        self.headers: list[Mapping[str, str]] = []
        self.refused = 0
        self._changed = threading.Condition()
        self._server = HttpServer(self._handle, port=port, max_body_bytes=_LIMIT)

    def __enter__(self) -> MetricsSink:
        self._server.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._server.close()

    @property
    def url(self) -> str:
        return self._server.url

    def wait_until(self, held: Callable[[], bool], timeout: float = 60.0) -> None:
        """Until something holds of what was received; it is asked again after each request."""
        with self._changed:
            assert self._changed.wait_for(held, timeout), f"not within {timeout} s: {self.totals()}, {self.refused=}"

    def total(self, metric: str) -> float:
        """All that was added to a metric."""
        return sum(point.value for point in self.points if point.metric == metric)

    def totals(self) -> dict[str, float]:
        """The same for every metric."""
        return {name: self.total(name) for name in sorted({point.metric for point in self.points})}

    def by(self, metric: str, *keys: str) -> Counter[tuple[object, ...]]:
        """What was added to a metric, by the values of attributes. None: it has no such attribute."""
        added: Counter[tuple[object, ...]] = Counter()
        for point in self.points:
            if point.metric == metric:
                added[tuple(point.attributes.get(key) for key in keys)] += point.value  # type: ignore[assignment]
        return added

    def _handle(self, request: Request) -> Response:
        with self._changed:
            answer = self._answer(request)
            self._changed.notify_all()
        return answer

    def _answer(self, request: Request) -> Response:
        if self.status != 200:
            self.refused += 1
            return error_response(self.status, "answered on demand")
        if request.path != METRICS_PATH or request.body is None:
            return error_response(404, f"metrics are sent to {METRICS_PATH}")
        body = decompress(request.body, request.header("Content-Encoding"), _LIMIT)
        self.headers.append(request.headers)
        self.points.extend(_points(ExportMetricsServiceRequest.FromString(body)))
        answer = ExportMetricsServiceResponse().SerializeToString()
        return Response(200, {"Content-Type": "application/x-protobuf"}, answer)


def _points(request: ExportMetricsServiceRequest) -> Iterator[Point]:
    for resource_metrics in request.resource_metrics:
        resource = _mapping(resource_metrics.resource.attributes)
        for scope_metrics in resource_metrics.scope_metrics:
            for metric in scope_metrics.metrics:
                yield from _of(metric, resource)


def _of(metric: Metric, resource: Mapping[str, object]) -> Iterator[Point]:
    data = metric.histogram if metric.HasField("histogram") else metric.sum
    # What is added up here may only be what was added since the last time.
    assert data.aggregation_temporality == AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA, metric
    for point in data.data_points:
        attributes = _mapping(point.attributes)
        value, count = _value(point)
        series = metric.name, tuple(sorted(attributes.items(), key=str)), tuple(sorted(resource.items(), key=str))
        yield Point(metric.name, metric.unit, attributes, resource, value, count, series)


def _value(point: NumberDataPoint | HistogramDataPoint) -> tuple[float, int]:
    if isinstance(point, HistogramDataPoint):
        assert sum(point.bucket_counts) == point.count
        return point.sum, point.count
    return (point.as_int if point.HasField("as_int") else point.as_double), 1


def _mapping(attributes: object) -> dict[str, object]:
    pairs: list[KeyValue] = list(attributes)  # type: ignore[call-overload]  # a repeated field
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value") or "string_value") for pair in pairs}
