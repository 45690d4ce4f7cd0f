"""Bytes of a span on the wire, in full batches of traffic as services see it."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_usage.payload import LEVEL

from .children import measured
from .finding import Finding, at_most
from .sink import Sink

BATCH: Final = 512
BOUND: Final = 100.0
AT_ONCE: Final = 48
"""Requests under way: as they end, they are in another order than they came."""

REQUEST_ID: Final = "usage.request.id"


def find(batches: int) -> list[Finding]:
    """Of request spans alone, and of the mix with upstream spans."""
    return [
        _finding("wire, requests alone", _bodies(batches, upstream=0.0)),
        _finding("wire, calls in 40 % of requests", _bodies(batches, upstream=0.4)),
    ]


def _bodies(batches: int, *, upstream: float) -> list[bytes]:
    with tempfile.TemporaryDirectory() as directory, Sink(Path(directory)) as sink:
        measured("wire", sink.url, batches, upstream)
        return [path.read_bytes() for path in sorted(Path(directory).iterdir())]


def _finding(what: str, bodies: Iterable[bytes]) -> Finding:
    full = [(body, spans) for body in bodies if len(spans := spans_of(gzip.decompress(body))) == BATCH]
    assert full, "no batch was full"
    count = BATCH * len(full)
    size = sum(len(body) for body, _ in full) / count
    random_bytes = sum(incompressible(spans) for _, spans in full) / count
    ids = sum(len(body) - len(without_ids(body)) for body, _ in full) / count
    raw = sum(len(gzip.decompress(body)) for body, _ in full) / count
    return at_most(
        what, size, BOUND, "bytes a span", digits=1,
        more=f"({random_bytes:.1f} of them random ids, which take {ids:.1f} in gzip; {raw:.0f} before gzip; "
        f"{len(full)} batches of {BATCH})",
        numbers={"random_bytes": random_bytes, "ids_in_gzip": ids, "before_gzip": raw, "batches": len(full)},
    )  # fmt: skip


def spans_of(request: bytes) -> list[Span]:
    """The spans of an encoded request, in order."""
    whole = ExportTraceServiceRequest.FromString(request)
    return [span for resource in whole.resource_spans for scope in resource.scope_spans for span in scope.spans]


def incompressible(spans: Iterable[Span]) -> int:
    """Bytes of the random ids in a batch, each once however often it stands there: what no compression takes away."""
    ids = {part for span in spans for part in (span.trace_id, span.span_id, _request_id(span)) if part}
    return sum(map(len, ids))


def without_ids(body: bytes) -> bytes:
    """The body with the same bytes in the place of every id, compressed in the same way."""
    request = gzip.decompress(body)
    for span in spans_of(request):
        for part in (span.trace_id, span.span_id, span.parent_span_id, _written_request_id(span)):
            request = request.replace(part, bytes(len(part))) if part else request
    return gzip.compress(request, LEVEL, mtime=0)


def _request_id(span: Span) -> bytes:
    return bytes.fromhex(_written_request_id(span).decode())


def _written_request_id(span: Span) -> bytes:
    return next((item.value.string_value.encode() for item in span.attributes if item.key == REQUEST_ID), b"")


def work(url: str, batches: str, upstream: str) -> dict[str, Any]:
    """Record so many full batches and send them."""
    import otel_usage as usage

    from .application import application
    from .driving import drive
    from .switched import switch_on
    from .traffic import PROVIDERS, orders

    # Full batches, and nothing else.
    switch_on(url, providers=PROVIDERS, batch_size=BATCH, schedule_delay=600.0, queue_size=1 << 18)
    count = round((int(batches) + 1) * BATCH / (1.0 + float(upstream)))  # the last one may not be full
    traffic = itertools.islice(orders(1, upstream=float(upstream), slow=True), count)
    asyncio.run(drive(application(usage.identify), traffic, at_once=AT_ONCE))
    report = usage.flush(60)
    assert report.complete, report
    return {"spans": report.accepted}
