"""What services send: requests of many customers, their upstream and model calls, recorded by the package itself."""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import otel_usage as usage
from benchmarks.footprint.sink import Sink
from benchmarks.sink_server import spans_in
from tests.collector.traffic import calls, serve

CUSTOMERS: Final = 500
FLUSH_SECONDS: Final = 120.0


@dataclass(frozen=True)
class Body:
    """One export, as it is on the wire: gzip."""

    wire: bytes
    spans: int


def recorded(requests: int) -> list[Body]:
    """The exports of as many requests of :data:`CUSTOMERS` customers, as the package makes them."""
    served = [replace(call, customer=f"customer-{n % CUSTOMERS}") for n, call in enumerate(calls(requests))]
    with tempfile.TemporaryDirectory() as kept:
        with Sink(keep=Path(kept)) as sink:
            usage.instrument(usage.UsageConfig(otlp_endpoint=sink.url, spool="off"))
            try:
                # No more at once than the queue takes.
                for first in range(0, requests, 500):
                    serve(served[first : first + 500])
                    report = usage.flush(FLUSH_SECONDS)
                    if not report.complete or report.dropped:
                        raise SystemExit(f"what was to be sent was not recorded whole: {report}")
            finally:
                usage.uninstrument()
        files = sorted(Path(kept).iterdir())
        return [_body(gzip.decompress(file.read_bytes())) for file in files]


def joined(bodies: Sequence[Body], spans: int) -> list[Body]:
    """The same in exports of at least as many spans, as an agent sends them on."""
    made, held = [], b""
    for body in bodies:
        held += gzip.decompress(body.wire)  # messages of protobuf, one after the other, are one message
        if spans_in(held) >= spans:
            made.append(_body(held))
            held = b""
    return [*made, _body(held)] if held else made


def _body(plain: bytes) -> Body:
    return Body(gzip.compress(plain, 6), spans_in(plain))
