"""A batch of long spans passes from one Collector to the next: what that finds too long is dropped, and not kept."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.needs import needed_collector

from .collectors import CONFIGS, PATIENCE, Collector
from .gateways import AGENTS_TOKEN
from .otlp import REQUEST, export, pairs, span

NOWHERE = "127.0.0.1:9"
MIB = 1 << 20
METERED = Span.Event(name="usage.meter", attributes=pairs({"usage.meter.name": "m" * 64}))
LONG = export(span("GET", REQUEST, events=[METERED] * 20) for _ in range(2500))
"""So many are in a batch, and so many events a request may well have."""


@pytest.mark.parametrize(
    ("config", "manifest"),
    [("agent", "builder.yaml"), ("scale-agent", "builder.yaml"), ("gateway", "builder.yaml"),
     ("scale-gateway", "builder-kafka.yaml")],
)  # fmt: skip
def test_a_batch_of_long_spans_is_taken_by_grpc(config: str, manifest: str, tmp_path: Path) -> None:
    assert 4 * MIB < LONG.ByteSize() < 20 * MIB
    receiver = Collector(
        needed_collector(manifest), CONFIGS / f"{config}.yaml", tmp_path, OTELCOL_GATEWAYS=NOWHERE,
        KAFKA_BROKERS=NOWHERE, AXIOM_URL=f"http://{NOWHERE}", OTELCOL_TOKEN=AGENTS_TOKEN,
        TRACES_URL=f"http://{NOWHERE}", TRACES_TOKEN="none",
    )  # fmt: skip
    try:
        receiver.start()
        with grpc.insecure_channel(f"127.0.0.1:{receiver.grpc}") as channel:
            token = [("authorization", f"Bearer {AGENTS_TOKEN}")]
            answer = TraceServiceStub(channel).Export(LONG, timeout=PATIENCE, metadata=token)
        assert answer.partial_success.rejected_spans == 0
    finally:
        receiver.kill()
