"""One table of all runs, for a terminal and for Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version

from tests.chaos.scenario import Result

COLUMNS = (
    "variant", "fault", "produced", "delivered", "lost", "dupl.", "rejected", "p99 added, ms", "noise, ms", "exit, s",
    "recovery, s", "RSS, MB", "remarks",
)  # fmt: skip

PACKAGES = (
    "otel-usage", "opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http", "logfire", "apitally", "uvicorn",
    "starlette",
)  # fmt: skip

LEGEND = """\
produced: requests answered with 200 (kill9: up to 1 s before the kill). delivered: of those, the ones whose id is at
the sink after the service has ended. lost: neither delivered nor rejected by the sink with its word for it. dupl.:
spans that arrived again. p99 added: p99 of the fault phase less p99 of the healthy phase of the same run. noise: spread
of the p99 of four parts of the healthy phase; a difference within it is none. exit: SIGTERM to the end of the process
(restart: in the outage). recovery: healing of the sink to the first span taken; - where none was. RSS: growth over the
fault phase, at its highest."""


def row(result: Result) -> tuple[str, ...]:
    return (
        result.plan.variant,
        result.scenario,
        str(result.produced),
        str(result.delivered),
        str(result.lost),
        str(result.duplicated),
        str(result.rejected),
        number(result.p99_added * 1000),
        number(result.noise * 1000),
        number(result.exit_seconds),
        number(result.recovery),
        number(result.rss_growth / 1e6),
        remarks(result),
    )


def no_telemetry(result: Result) -> tuple[str, ...]:
    """The row of a service that sends nothing: its latencies, and nothing to count."""
    cells = dict(zip(COLUMNS, row(result), strict=True))
    return tuple("-" if name in ("delivered", "lost", "dupl.", "rejected") else cell for name, cell in cells.items())


def remarks(result: Result) -> str:
    found = []
    if result.plan.variant == "otel_usage":
        found.append("ledger balanced" if result.balanced else "LEDGER OUT OF BALANCE")
    if result.counted:
        found.append(f"{result.counted} requests by its aggregated counts")
    if result.recorded_twice:
        found.append(f"{result.recorded_twice} requests recorded twice")
    if result.failed_requests and result.scenario not in ("kill9", "restart"):
        found.append(f"{result.failed_requests} requests failed")
    if result.youngest_lost:
        found.append(f"{result.youngest_lost} of the last second before the kill lost too")
    return "; ".join(found)


def number(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.1f}"


def rows(results: Iterable[Result]) -> list[tuple[str, ...]]:
    return [no_telemetry(each) if each.plan.variant == "none" else row(each) for each in results]


def text(results: Iterable[Result]) -> str:
    table = [COLUMNS, *rows(results)]
    widths = [max(len(line[n]) for line in table) for n in range(len(COLUMNS))]
    return "\n".join("  ".join(aligned(line, widths)).rstrip() for line in table)


def aligned(line: Sequence[str], widths: Sequence[int]) -> list[str]:
    """Words to the left, numbers to the right."""
    words = {0, 1, len(widths) - 1}
    return [
        cell.ljust(width) if n in words else cell.rjust(width)
        for n, (cell, width) in enumerate(zip(line, widths, strict=True))
    ]


def markdown(results: Iterable[Result], *, command: str, date: str, notes: Sequence[str]) -> str:
    """A section that can be made again: with the command, the versions and the date."""
    lines = [COLUMNS, tuple("---" if n in (0, 1, 12) else "---:" for n in range(len(COLUMNS))), *rows(results)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    facts = [f"Command: `{command}`", f"Date: {date}", f"Versions: {', '.join(versions())}", *notes]
    listed = "\n".join(f"- {fact}" for fact in facts)
    return f"{table}\n\n{listed}\n"


def versions() -> list[str]:
    found = []
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"{package} is not installed")
    return found
