"""Whether what was measured is what is stated."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from benchmarks.configurations import OURS
from benchmarks.figures import Figures, Measurement, Spread
from benchmarks.stated import STATED, TOLERANCE, Stated


@dataclass(frozen=True)
class Verdict:
    """One stated ratio, and the one that was measured."""

    stated: Stated
    measured: Spread

    @property
    def limit(self) -> float:
        return self.stated.ratio * TOLERANCE

    @property
    def holds(self) -> bool:
        """By the median of the rounds: a single round may be off by what else the machine did."""
        return self.measured.median <= self.limit

    def __str__(self) -> str:
        word = "holds" if self.holds else "DOES NOT HOLD"
        return (
            f"{self.stated.says}: {self.measured.shown(2)} of stock OpenTelemetry; stated {self.stated.ratio:.2f}, "
            f"limit {self.limit:.2f}: {word}"
        )


def judge(measurements: Iterable[Measurement]) -> list[Verdict]:
    """A verdict for each stated ratio."""
    found = list(measurements)
    return [Verdict(each, Figures(found, each.variant).ratio(OURS, each.what)) for each in STATED]


def passes(measure: Callable[[range], list[Measurement]], first: int, more: int) -> bool:
    """Measure ``first`` rounds; if those fail, ``more`` of them, and judge all together. Prints each verdict.

    ``measure`` takes the numbers of the rounds.
    """
    found = measure(range(first))
    if _holds(found):
        return True
    print("Not as stated. Once more, with more rounds, in case that the machine was busy.", flush=True)
    found += measure(range(first, first + more))
    return _holds(found)


def _holds(measurements: list[Measurement]) -> bool:
    verdicts = judge(measurements)
    print(*verdicts, sep="\n", flush=True)
    return all(each.holds for each in verdicts)
