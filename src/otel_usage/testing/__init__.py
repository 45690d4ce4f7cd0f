"""Tools for testing a service that uses ``otel_usage``. They need no extra."""

from ..local.otlp import ReceivedEvent, ReceivedLink, ReceivedSpan
from .axiom_stub import AxiomStub, StubRequest
from .faults import (
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
