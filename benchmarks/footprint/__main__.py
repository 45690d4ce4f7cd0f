"""``python -m benchmarks.footprint``: every measurement, one after the other, and one table.

Each is made in processes of its own, over sockets of loopback. By default it takes some nine minutes. What is compared
is interleaved, and shown with what the same thing differs by from one time to the next: a difference within it is none.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import os
import platform
import shlex
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from tests.pages import put_into

from . import flat, imports, latency, memory, off, soak, stall, wire
from .children import ROOT
from .finding import Finding, markdown

PAGE: Final = ROOT / "docs" / "performance.md"
SECTION: Final = "footprint"
EMPTY_PAGE: Final = f"# Performance\n\n<!-- {SECTION} -->\n<!-- /{SECTION} -->\n"
PACKAGES: Final = ("otel-usage", "opentelemetry-sdk", "protobuf", "starlette", "httpx", "uvicorn")

MEASUREMENTS: Final[dict[str, Callable[[Any], list[Finding]]]] = {
    "wire": lambda chosen: wire.find(chosen.wire_batches),
    "memory": lambda chosen: memory.find(chosen.memory_requests),
    "imports": lambda chosen: imports.find(chosen.import_rounds),
    "off": lambda chosen: off.find(chosen.off_rounds),
    "latency": lambda chosen: latency.find(chosen.latency_rate, chosen.latency_seconds, chosen.latency_rounds),
    "stall": lambda chosen: stall.find(chosen.stall_batches),
    "flat": lambda chosen: flat.find(chosen.flat_rounds),
    "soak": lambda chosen: soak.find(chosen.soak_requests),
}


def main() -> None:
    chosen = parse()
    findings: list[Finding] = []
    for name in chosen.only:
        began = time.monotonic()
        found = MEASUREMENTS[name](chosen)
        findings += found
        print(f"[{name}, {time.monotonic() - began:.0f} s]", file=sys.stderr, flush=True)
    print(markdown(findings))
    if chosen.json:
        Path(chosen.json).write_text(json.dumps([dataclasses.asdict(each) for each in findings], indent=1))
    if chosen.into_docs:
        if not PAGE.exists():
            PAGE.write_text(EMPTY_PAGE)
        put_into(PAGE, SECTION, markdown(findings, facts=facts()))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.footprint", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--only", nargs="+", choices=tuple(MEASUREMENTS), default=tuple(MEASUREMENTS), help="default: all of them")
    add("--json", metavar="FILE", help="write everything that was measured here")
    add("--into-docs", action="store_true", help=f"put the table into docs/{PAGE.name}")
    for option, default, words in (
        ("--wire-batches", 20, "full batches of each kind of traffic"),
        ("--memory-requests", 20_000, "requests whose spans are held"),
        ("--import-rounds", 15, "processes that import"),
        ("--off-rounds", 7, "processes of each variant"),
        ("--latency-rounds", 3, "runs with usage, each between two without"),
        ("--stall-batches", 60, "batches whose encoding is watched"),
        ("--flat-rounds", 15, "blocks of each combination of customers and routes"),
        ("--soak-requests", 500_000, "requests with usage, and as many without; a quiet service's day has 300,000"),
    ):
        add(option, type=int, default=default, metavar="N", help=f"{words} (default: %(default)s)")
    add("--latency-seconds", type=float, default=10.0, metavar="S", help="of each run (default: %(default)s)")
    add("--latency-rate", type=float, default=300.0, metavar="R", help="requests a second (default: %(default)s)")
    return parser.parse_args()


def facts() -> list[str]:
    """What it takes to make the table again."""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    return [
        f"Command: `{shlex.join(['python', '-m', 'benchmarks.footprint', *sys.argv[1:]])}`",
        f"Date: {today}",
        f"{platform.python_implementation()} {platform.python_version()} on {platform.system()}, "
        f"{os.cpu_count()} cores, shared by load, service and sink",
        f"Versions: {', '.join(f'{package} {version(package)}' for package in PACKAGES)}",
    ]


if __name__ == "__main__":
    main()
