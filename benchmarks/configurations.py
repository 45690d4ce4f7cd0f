"""The things that are compared. Nothing is imported for one before it is built, in a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Final

from benchmarks.built import Built

BARE: Final = "bare"
OURS: Final = "otel_usage"
STOCK: Final = "stock_otel"


@dataclass(frozen=True)
class Configuration:
    """How one thing is built, and what shows that it did its work."""

    name: str
    label: str
    """For tables."""
    module: str
    """In this package; its function ``name`` builds."""
    records: Mapping[str, int] = field(default_factory=dict)
    """By variant: the records (spans, events, or counted requests) that one request makes."""
    environment: str | None = None
    """The environment of its own that it runs in. None: the one of this package."""
    requirements: tuple[str, ...] = ()
    """What that environment has beyond the application's own."""

    def build(self, variant: str, sink: str) -> Built:
        """``sink``: its URL."""
        builder: Callable[[str, str], Built] = getattr(import_module(f"benchmarks.{self.module}"), self.name)
        return builder(variant, sink)


_OTLP: Final = "opentelemetry-exporter-otlp-proto-http"
_HTTPX: Final = "opentelemetry-instrumentation-httpx"

ALL: Final = (
    Configuration(BARE, "bare", "own", {"A": 0, "B": 0}),
    Configuration(OURS, "otel_usage", "own", {"A": 1, "B": 2}),
    Configuration(STOCK, "stock OTel", "own", {"A": 3, "B": 4}),
    Configuration("stock_otel_excl", "stock OTel, `exclude_spans`", "own", {"A": 1, "B": 2}),
    Configuration("hand_span", "one stock SDK span by hand", "hand", {"A": 1, "B": 1}),
    Configuration("floor", "practical floor", "floor", {"A": 1, "B": 1}),
    Configuration("logfire", "logfire", "peers", {"A": 1, "B": 2}, "logfire", ("logfire[fastapi,httpx]", _OTLP)),
    Configuration("apitally", "apitally", "peers", {"A": 1, "B": 2}, "apitally", ("apitally[fastapi]", _HTTPX)),
    # Its capture of outgoing calls knows requests, and no httpx.
    Configuration("moesif", "moesif (moesifasgi)", "peers", {"A": 1, "B": 1}, "moesif", ("moesifasgi",)),
    Configuration(
        "starlette_exporter",
        "starlette_exporter (Prometheus)",
        "peers",
        {"A": 1, "B": 1},
        "starlette-exporter",
        ("starlette_exporter",),
    ),
    Configuration(
        "prometheus",
        "prometheus-fastapi-instrumentator",
        "peers",
        {"A": 1, "B": 1},
        "prometheus",
        ("prometheus-fastapi-instrumentator",),
    ),
)
BY_NAME: Final = {each.name: each for each in ALL}
