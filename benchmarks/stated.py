"""The ratios that are stated, in one place: docs/performance.md quotes them, `make bench-quick` holds us to them.

``python -m benchmarks.stated`` puts them into the page.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from benchmarks.environments import ROOT
from benchmarks.figures import CPU, THREAD
from tests.pages import put_into


@dataclass(frozen=True)
class Stated:
    """What otel_usage adds to a request, over what stock OpenTelemetry adds, at most."""

    variant: str
    what: str
    """``figures.CPU`` or ``figures.THREAD``."""
    ratio: float
    says: str
    """The same in words."""


STATED: Final = (
    Stated("A", CPU, 0.14, "CPU of the whole process, one route"),
    Stated("B", CPU, 0.17, "CPU of the whole process, one route and one upstream call"),
    Stated("A", THREAD, 0.13, "CPU on the request's own thread, one route"),
)
TOLERANCE: Final = 1.3
"""What is measured on any machine may be this many times what is stated."""


def markdown() -> str:
    """The section of docs/performance.md."""
    rows = [f"| {each.says} | {each.ratio:.2f} |" for each in STATED]
    return "\n".join(["| added to a request | over stock OpenTelemetry, at most |", "|---|---:|", *rows])


if __name__ == "__main__":
    put_into(ROOT / "docs" / "performance.md", "stated", f"{markdown()}\n")
