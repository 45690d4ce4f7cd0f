"""``python -m benchmarks``: what each configuration adds to a request, measured in interleaved rounds, as one table."""

from __future__ import annotations

import argparse
import math
import shlex
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Final

from benchmarks import gate, table
from benchmarks.application import VARIANTS
from benchmarks.configurations import ALL, BARE, BY_NAME, OURS, STOCK, Configuration
from benchmarks.environments import ROOT, Unavailable, Versions, check, prepare
from benchmarks.figures import Measurement
from benchmarks.results import Results
from benchmarks.rounds import PARTS, Failed, run_rounds
from tests.pages import put_into

PAGE: Final = ROOT / "docs" / "performance.md"
QUICK: Final = (BARE, OURS, STOCK)
QUICK_REQUESTS: Final = 2000
QUICK_ROUNDS, QUICK_MORE_ROUNDS = 5, 9


def main() -> int:
    """0 if everything was measured, and is as stated where that is asked for."""
    arguments = _arguments()
    try:
        return quick() if arguments.quick else compare(arguments)
    except Failed as failure:
        print(f"\n{failure}", file=sys.stderr)
        return 2


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="(default: %(default)s)")
    parser.add_argument("--requests", type=int, default=4000, help="of one run (default: %(default)s)")
    parser.add_argument("--only", nargs="+", choices=[n for n in BY_NAME if n != BARE], help="and the bare application")
    parser.add_argument(
        "--from", metavar="FILE", dest="read", type=Path, help="measure nothing: what was written there"
    )
    parser.add_argument(
        "--json", metavar="FILE", type=Path, help="write every measurement, as benchmarks/results.py says"
    )
    parser.add_argument("--plot", metavar="DIR", type=Path, help="draw a PNG and an SVG into this folder")
    parser.add_argument("--into-docs", action="store_true", help="put the table into docs/performance.md")
    parser.add_argument(
        "--quick", action="store_true", help="only: is otel_usage as cheap as stated? Exits with 1 if not"
    )
    return parser.parse_args()


def compare(arguments: argparse.Namespace) -> int:
    """Measure everything that can be had here."""
    if arguments.plot:
        import_module("matplotlib")  # that it is missing is better known before than after
    results = Results.read(arguments.read) if arguments.read else measured(arguments)
    if arguments.json:
        results.write(arguments.json)
    print(f"\nWhat each adds to a request: median [least, most] of {results.rounds} rounds\n")
    print(table.text(results))
    for name, reason in results.skipped.items():
        print(f"not measured: {name}: {reason}")
    if arguments.plot:
        from benchmarks.plot import draw

        print("drawn:", *draw(results, arguments.plot))
    if arguments.into_docs:
        put_into(PAGE, "bench", table.markdown(results, _command(results)))
    return 0


def measured(arguments: argparse.Namespace) -> Results:
    wanted = [each for each in ALL if not arguments.only or each.name in (BARE, *arguments.only)]
    chosen, skipped, versions = available(wanted)
    runs = arguments.rounds * len(VARIANTS) * (len(chosen) + PARTS)
    seconds = runs * (0.5 + arguments.requests * 4e-4)
    print(f"{runs} runs of {arguments.requests} requests, some {math.ceil(seconds / 60)} minutes", flush=True)
    began = time.monotonic()
    found = list(run_rounds(chosen, list(VARIANTS), range(arguments.rounds), arguments.requests))
    print(f"took {(time.monotonic() - began) / 60:.1f} minutes", flush=True)
    return Results.made_here(found, requests=arguments.requests, versions=versions, skipped=skipped)


def available(
    wanted: Sequence[Configuration],
) -> tuple[list[Configuration], dict[str, str], dict[str, Versions]]:
    """The configurations whose packages can be had, why others cannot, and the versions of everything."""
    chosen, skipped = [], {}
    for each in wanted:
        try:
            prepare(each)
            chosen.append(each)
        except Unavailable as reason:
            skipped[each.name] = str(reason)
    return chosen, skipped, check(chosen)


def quick() -> int:
    """Ratios alone, of this environment alone."""
    chosen = [BY_NAME[name] for name in QUICK]

    def measure(rounds: range) -> list[Measurement]:
        return list(run_rounds(chosen, list(VARIANTS), rounds, QUICK_REQUESTS))

    return 0 if gate.passes(measure, QUICK_ROUNDS, QUICK_MORE_ROUNDS) else 1


def _command(results: Results) -> str:
    """What makes these results again, wherever they were read from."""
    measured_names = {each.configuration for each in results.measurements} | set(results.skipped)
    only = [] if measured_names == set(BY_NAME) else ["--only", *(n for n in BY_NAME if n in measured_names - {BARE})]
    words = ["--rounds", str(results.rounds), "--requests", str(results.requests), *only]
    return shlex.join(["python", "-m", "benchmarks", *words])


if __name__ == "__main__":
    sys.exit(main())
