"""``python -m benchmarks``: interleaved rounds, and one table of ratios.

Absolute times hold on no shared machine, so each round is its own comparison: what a configuration adds to the bare
application in that round, over what stock OpenTelemetry adds in the same round.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.configurations import CONFIGURATIONS
from otel_usage.testing import AxiomStub

VARIANTS = {"A": "one route", "B": "one route and one upstream call"}
ROUND_TIMEOUT = 300

Round = dict[str, list[dict[str, Any]]]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--requests", type=int, default=3000)
    parser.add_argument("--json", metavar="FILE", help="write every measurement here")
    arguments = parser.parse_args()
    measured = {
        variant: [run_round(variant, arguments.requests) for _ in range(arguments.rounds)] for variant in VARIANTS
    }
    for variant, rounds in measured.items():
        print_table(variant, rounds)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(measured, indent=1))


def run_round(variant: str, requests: int) -> Round:
    """Every configuration once, in random order, with the bare one before, between and after."""
    others = [name for name in CONFIGURATIONS if name != "bare"]
    random.shuffle(others)
    order = ["bare", *(step for name in others for step in (name, "bare"))]
    found: Round = {}
    for name in order:
        found.setdefault(name, []).append(run_one(name, variant, requests))
        print(".", end="", flush=True)
    return found


def run_one(name: str, variant: str, requests: int) -> dict[str, Any]:
    # A sink of its own for each, so that nobody pays for what another one sent. Its process is not the measured one.
    with AxiomStub(token=None) as sink:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.one", name, variant, str(requests), sink.url],
            capture_output=True,
            text=True,
            timeout=ROUND_TIMEOUT,
            check=False,
        )
    if done.returncode:
        sys.exit(f"{name} failed:\n{done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def print_table(variant: str, rounds: list[Round]) -> None:
    print(f"\n\n{variant}: {VARIANTS[variant]}; {len(rounds)} rounds, median [least, most]")
    print(f"{'':12}{'µs of CPU added':>24}{'µs on the request thread':>28}{'CPU over stock OTel':>26}")
    for name in CONFIGURATIONS:
        if name == "bare":
            continue
        cpu = [added(each, name, "cpu_us") for each in rounds]
        thread = [added(each, name, "request_thread_us") for each in rounds]
        ratio = [added(each, name, "cpu_us") / added(each, "stock_otel", "cpu_us") for each in rounds]
        print(f"{name:12}{spread(cpu, 0):>24}{spread(thread, 0):>28}{spread(ratio, 2):>26}")


def added(measured: Round, name: str, what: str) -> float:
    """What a configuration adds to the bare application of the same round."""
    bare = statistics.median(each[what] for each in measured["bare"])
    return statistics.median(each[what] for each in measured[name]) - bare


def spread(values: list[float], digits: int) -> str:
    return f"{statistics.median(values):.{digits}f} [{min(values):.{digits}f}, {max(values):.{digits}f}]"


if __name__ == "__main__":
    main()
