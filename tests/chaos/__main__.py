"""``python -m tests.chaos``: every variant through every fault, one after the other, and one table.

By default 69 runs, of 10 to 60 s each; with ``--quick`` 13, shorter ones. The long outage is run only where
``--outage-seconds`` says how long it is.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import importlib.util
import os
import platform
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.chaos import scenario, table
from tests.chaos.faults import FAULTS
from tests.chaos.scenario import Plan, Result
from tests.chaos.service import VARIANTS
from tests.pages import put_into

QUICK_FAULTS = ("503", "hang", "restart")
DEFAULT_FAULTS = (*(name for name in FAULTS if name != "hang_taken"), "kill9", "restart")
"""``hang_taken`` differs from ``slow_drip`` to hardly any client, and has to be asked for."""
ALL = (*FAULTS, "kill9", "restart")

Job = tuple[str, Plan]


def main() -> None:
    arguments = parse()
    results, notes, began = [], noted(arguments), time.monotonic()
    for name, plan in jobs(arguments):
        result = attempt(name, plan, notes)
        if result is not None:
            results.append(result)
            print(
                f"[{time.monotonic() - began:5.0f} s] {'  '.join(table.rows([result])[0])}", file=sys.stderr, flush=True
            )
    print(table.text(results), table.LEGEND, *notes, sep="\n")
    if arguments.into:
        command = shlex.join(["python", "-m", "tests.chaos", *sys.argv[1:]])
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        page, _, section = arguments.into.partition("#")
        put_into(Path(page), section, table.markdown(results, command=command, date=today, notes=notes))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer faults and shorter phases")
    parser.add_argument("--variants", nargs="+", choices=tuple(VARIANTS), default=tuple(VARIANTS))
    parser.add_argument("--faults", nargs="*", help=f"of {', '.join(ALL)}; default: all but hang_taken, --quick: three")
    parser.add_argument("--rate", type=float, default=300.0, help="requests per second")
    parser.add_argument("--healthy-seconds", type=float, help="the healthy phase; default 3, with --quick 2")
    parser.add_argument("--fault-seconds", type=float, help="the fault phase; default 8, with --quick 6")
    parser.add_argument("--outage-seconds", type=float, help="also one long outage of each variant, such as 600")
    parser.add_argument("--outage-rate", type=float, help="its requests per second; default: --rate")
    parser.add_argument("--workers", type=int, default=1, help="of uvicorn")
    parser.add_argument("--into", metavar="PAGE#SECTION", help="put the table into a section of a page, too")
    arguments = parser.parse_args()
    if unknown := set(arguments.faults or ()) - set(ALL):
        parser.error(f"there is no fault {', '.join(sorted(unknown))}; there are {', '.join(ALL)}")
    return arguments


def noted(arguments: argparse.Namespace) -> list[str]:
    """What a reader has to know to read the table."""
    return [
        f"{platform.python_implementation()} {platform.python_version()} on {platform.system()}, "
        f"{os.cpu_count()} cores, shared by load, service and sink; nothing else was run beside them",
        "All variants with their defaults, otel_usage with its disk spool; apitally captures "
        "request headers, which hold the id that spans are counted by",
    ]


def jobs(arguments: argparse.Namespace) -> Iterator[Job]:
    """The runs, in order: the faults of a variant after one another, so that the table reads by variant."""
    quick = arguments.quick
    base = Plan(
        variant="none",
        fault="accept",
        rate=arguments.rate,
        healthy=arguments.healthy_seconds or (2.0 if quick else 3.0),
        faulty=arguments.fault_seconds or (6.0 if quick else 8.0),
        workers=arguments.workers,
    )
    for variant in arguments.variants:
        for name in faults_of(variant, arguments):
            fault = "refused" if name in scenario.SCENARIOS else name
            yield name, dataclasses.replace(base, variant=variant, fault=fault)
        if arguments.outage_seconds:
            rate = arguments.outage_rate or arguments.rate
            long = dataclasses.replace(base, variant=variant, fault="refused", rate=rate)
            yield "outage", dataclasses.replace(long, faulty=arguments.outage_seconds)


def faults_of(variant: str, arguments: argparse.Namespace) -> tuple[str, ...]:
    if variant == "none":  # it has no sink to fail
        return () if arguments.faults == [] else ("accept",)
    if arguments.faults is not None:
        return tuple(arguments.faults)
    return QUICK_FAULTS if arguments.quick else DEFAULT_FAULTS


def attempt(name: str, plan: Plan, notes: list[str]) -> Result | None:
    """One run. One that cannot be made is noted below the table, and the others go on."""
    if plan.variant in ("logfire", "apitally") and importlib.util.find_spec(plan.variant) is None:
        note = f"{plan.variant}: not installed, and not run"
        notes += [note] if note not in notes else []
        return None
    try:
        return scenario.SCENARIOS.get(name, scenario.fault)(plan)
    except (OSError, RuntimeError, AssertionError) as error:
        notes.append(f"{plan.variant}, {name}: could not be run: {error}")
        return None


if __name__ == "__main__":
    main()
