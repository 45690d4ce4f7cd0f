"""``python -m benchmarks.collector``: what the agent and the gateway cost for each span, on one core, as one table."""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from benchmarks.cores import stay_on
from tests.pages import put_into

from .bodies import Body, joined, recorded
from .measuring import CLIENTS, Round, measure

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = ROOT / "docs" / "collector.md"
SECTION: Final = "throughput"
RECORDED: Final = 4000
"""Requests that are recorded. Of each, 2.8 spans are made."""
AGENTS_BATCH: Final = 4000
"""Spans in an export of an agent."""
PIPELINES: Final[dict[str, Callable[[Sequence[Body]], Sequence[Body]]]] = {
    "agent": lambda bodies: bodies,
    "gateway": lambda bodies: joined(bodies, AGENTS_BATCH),
}

_COLUMNS: Final[dict[str, Callable[[Round], float]]] = {
    "CPU seconds per million spans": lambda found: found.cpu_per_million,
    "spans per CPU second": lambda found: found.spans / found.cpu_seconds,
    "spans per second, by the clock": lambda found: found.spans / found.seconds,
    "peak memory, MiB": lambda found: found.peak_bytes / 2**20,
    "written to disk, bytes/span": lambda found: found.disk_bytes / found.spans,
    "sent, bytes/span": lambda found: found.wire_bytes / found.spans,
    "metric points per 1,000 spans": lambda found: found.points / found.spans * 1000,
}


def main() -> None:
    chosen = parse()
    binary = collector()
    bodies = recorded(RECORDED)
    cores = sorted(os.sched_getaffinity(0))
    stay_on(first=True)  # with the sink; the Collector has another core
    found: dict[str, list[Round]] = {name: [] for name in chosen.only}
    for number in range(chosen.rounds):
        for name in chosen.only:  # one after the other, so that what disturbs one round disturbs both
            with tempfile.TemporaryDirectory() as directory:
                took = measure(binary, name, PIPELINES[name](bodies), chosen.spans, Path(directory), core=cores[-1])
            found[name].append(took)
            print(f"[{name} {number + 1}/{chosen.rounds}: {took.cpu_per_million:.0f} CPU s/million]", file=sys.stderr)
    print(table(found))
    if chosen.into_docs:
        put_into(PAGE, SECTION, table(found) + "\n" + "\n".join(facts(bodies, binary)) + "\n")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.collector", description=__doc__)
    add = parser.add_argument
    add("--spans", type=int, default=200_000, metavar="N", help="of each round (default: %(default)s)")
    add("--rounds", type=int, default=3, metavar="N", help="of each pipeline (default: %(default)s)")
    add("--only", nargs="+", choices=tuple(PIPELINES), default=tuple(PIPELINES), help="default: all of them")
    add("--into-docs", action="store_true", help=f"put the table into docs/{PAGE.name}")
    return parser.parse_args()


def collector(manifest: str = "builder.yaml") -> str:
    """The Collector that ``OTELCOL`` names, or that ``collector-config/build.sh`` builds of a manifest."""
    if named := os.environ.get("OTELCOL"):
        return named
    configs = ROOT / "collector-config"
    command = [configs / "build.sh", configs / manifest]
    built = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return built.stdout.strip()


def table(found: dict[str, list[Round]]) -> str:
    """The median of each, and from what to what it went."""
    lines = ["| pipeline | " + " | ".join(_COLUMNS) + " |", "|---" + "|---:" * len(_COLUMNS) + "|"]
    for name, rounds in found.items():
        cells = (cell([of(each) for each in rounds]) for of in _COLUMNS.values())
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def cell(values: Sequence[float]) -> str:
    """A median, and the least and the greatest."""
    return f"{statistics.median(values):,.0f} ({min(values):,.0f} to {max(values):,.0f})"


def facts(bodies: Sequence[Body], binary: str) -> list[str]:
    """What it takes to make the table again."""
    version = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    size = sum(body.spans for body in bodies) / len(bodies)
    return [
        f"- Command: `{shlex.join(['python', '-m', 'benchmarks.collector', *sys.argv[1:]])}`",
        f"- Date: {datetime.datetime.now(datetime.UTC).date().isoformat()}",
        f"- {version}, `GOMAXPROCS=1`, on one of {os.cpu_count()} cores of {platform.system()}; {CLIENTS} clients and "
        "the sink, which stores what it gets, on the other: by the clock, they are part of it",
        f"- Spans as the package records them, of requests, upstream and model calls. To the agent {size:,.0f} in an "
        f"export, to the gateway {AGENTS_BATCH:,} and more. All of them are usage: nothing is sampled here.",
        "- Medians, and from the least to the greatest",
    ]


if __name__ == "__main__":
    main()
