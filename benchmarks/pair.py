"""``python -m benchmarks.pair CONFIGURATION``: what it adds on the request's own thread, as finely as can be told.

The bare application and the observed one take turns in one process, a chunk of requests each, and the figure is the
median of the differences within a pair. What comes first is the control: the bare application against itself, which
says how small a difference can be told here.

Not measured: other threads, the final flush, and what a process pays once. otel_usage hooks classes, and so the bare
application as well: its hooks are taken off for each chunk of that, and put on again. Its threads stay.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from benchmarks.application import VARIANTS
from benchmarks.configurations import BARE, BY_NAME
from benchmarks.environments import Unavailable, check, prepare, run
from benchmarks.sink import SinkProcess


@dataclass(frozen=True)
class Differences:
    """The differences of pairs, in microseconds for each request."""

    median: float
    quarters: tuple[float, float]
    """A quarter of them is less, a quarter is more."""
    tenths: tuple[float, float]
    against: float
    """The median of what they are differences to."""

    @classmethod
    def of(cls, pairs: Sequence[Sequence[float]]) -> Self:
        """``pairs``: two at least."""
        differences = [one - other for one, other in pairs]
        tenths, quarters = statistics.quantiles(differences, n=10), statistics.quantiles(differences, n=4)
        return cls(
            statistics.median(differences),
            (quarters[0], quarters[-1]),
            (tenths[0], tenths[-1]),
            statistics.median(other for _, other in pairs),
        )

    def __str__(self) -> str:
        quarters, tenths = ("{:.2f} to {:.2f}".format(*each) for each in (self.quarters, self.tenths))
        return f"{self.median:+.2f} µs (half of them {quarters}, four fifths {tenths}), to {self.against:.1f} µs"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.pair", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("configuration", choices=[name for name in BY_NAME if name != BARE])
    parser.add_argument("--variant", choices=[*VARIANTS], default="A")
    parser.add_argument("--pairs", type=int, default=100, help="(default: %(default)s)")
    parser.add_argument("--requests", type=int, default=100, help="of a chunk (default: %(default)s)")
    arguments = parser.parse_args()
    configuration = BY_NAME[arguments.configuration]
    try:
        prepare(configuration)
    except Unavailable as reason:
        print(f"{configuration.name} cannot be measured: {reason}", file=sys.stderr)
        return 2
    check([BY_NAME[BARE], configuration])
    sizes = (str(arguments.pairs), str(arguments.requests))
    found = _run(configuration.environment, configuration.name, arguments.variant, *sizes)
    print(f"control, bare less bare, {arguments.variant}: {found['control']}")
    print(f"{configuration.name} less bare, {arguments.variant}: {found['measured']}")
    return 0


def _run(environment: str | None, *words: str) -> dict[str, Differences]:
    with SinkProcess() as sink:
        done = run(environment, "benchmarks.pairing", *words, sink.url)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    return {name: Differences.of(pairs) for name, pairs in json.loads(done.stdout.splitlines()[-1]).items()}


if __name__ == "__main__":
    sys.exit(main())
