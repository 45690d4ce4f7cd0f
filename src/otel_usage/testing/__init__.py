"""Tools for testing a service that uses ``otel_usage``. They need no extra."""

from otel_usage.local.otlp import ReceivedEvent, ReceivedLink, ReceivedSpan
from otel_usage.testing.axiom_stub import AxiomStub, StubRequest
from otel_usage.testing.faults import (
    Fault,
    Garbage,
    Hang,
    PartialSuccess,
    Poison,
    RateLimited,
    Refuse,
    Reset,
    SlowDrip,
    Status,
)

__all__ = [
    "AxiomStub",
    "Fault",
    "Garbage",
    "Hang",
    "PartialSuccess",
    "Poison",
    "RateLimited",
    "ReceivedEvent",
    "ReceivedLink",
    "ReceivedSpan",
    "Refuse",
    "Reset",
    "SlowDrip",
    "Status",
    "StubRequest",
]
