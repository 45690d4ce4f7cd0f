"""The table of what is supported, made of a run of the cases: ``python -m tests.conformance.table RECORD PAGE``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import groupby
from pathlib import Path
from typing import Final

HEAD: Final = """# What is supported

Made by `make conformance`: every case of `tests/conformance` was run with the real library over real sockets, in a
process that `opentelemetry-instrument` has switched usage on in ("no code"), and in one that called
`usage.instrument()` ("by hand"). What a library has no place for is said; everything else has passed.
`otel-usage check` shows which of these are installed and observed in your own environment.
"""
MODES: Final = {"zero-code": "no code", "by-hand": "by hand"}
"""As they are said in the table."""


@dataclass(frozen=True, slots=True)
class Result:
    """How one case went with one library in one mode."""

    suite: str
    library: str
    distribution: str
    """On the package index. Empty: it comes with Python."""
    beside: str
    """What else it ran with, such as the server."""
    mode: str
    case: str
    passed: bool
    reason: str
    """Why it was not tried. Empty: it was."""


def main(record: Path, page: Path) -> int:
    """Write the page. The exit code is 1, and nothing is written, where a case has failed."""
    results = [Result(**json.loads(line)) for line in record.read_text().splitlines()]
    failed = [result for result in results if not result.passed and not result.reason]
    if failed or not results:
        print(f"no table is made: {len(failed)} of {len(results)} cases failed")
        return 1
    page.write_text(rendered(results))
    print(f"{page}: {len(results)} cases")
    return 0


def rendered(results: Iterable[Result]) -> str:
    """The page, a table for each suite."""
    by_suite = groupby(sorted(results, key=lambda result: result.suite), lambda result: result.suite)
    tables = [
        "\n".join([f"## {suite.capitalize().replace('Grpc', 'gRPC')}", "", *_table(list(group))])
        for suite, group in by_suite
    ]
    return "\n".join([HEAD, "\n\n".join(tables), ""])


def _table(results: Sequence[Result]) -> list[str]:
    lines = [f"| library | with | {' | '.join(MODES.values())} | has no place for |", "|---|---|---|---|---|"]

    def of_row(result: Result) -> tuple[str, str]:
        return result.library.lower(), result.beside

    for _, group in groupby(sorted(results, key=of_row), of_row):
        lines.append(_row(list(group)))
    return lines


def _row(results: Sequence[Result]) -> str:
    first = results[0]
    counts = [_count([result for result in results if result.mode == mode]) for mode in MODES]
    missing = {result.case: result.reason for result in results if result.reason}
    said = "; ".join(f"{case}: {reason}" for case, reason in missing.items())
    cells = f"{first.library} {_version(first.distribution)}".strip(), _with_versions(first.beside), *counts, said
    return f"| {' | '.join(cells)} |"


def _count(results: Sequence[Result]) -> str:
    return f"{sum(result.passed for result in results)} cases" if results else "not tried"


def _version(distribution: str) -> str:
    """That which is installed here. Empty: it comes with Python, or is in another environment."""
    with suppress(PackageNotFoundError, ValueError):
        return version(distribution)
    return ""


def _with_versions(beside: str) -> str:
    server, comma, variant = beside.partition(", ")
    return f"{server} {_version(server)}".strip() + comma + variant


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:3])))
