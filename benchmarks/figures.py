"""From measurements to figures. A round is its own comparison: absolute times hold on no shared machine.

What a configuration adds is its cost less the median of the bare application in the same round. A ratio is what it adds
over what stock OpenTelemetry adds in the same round. A figure is the median of the rounds, with the least and the most.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.configurations import BARE, STOCK

CPU: Final = "cpu_us"
THREAD: Final = "request_thread_us"


@dataclass(frozen=True)
class Measurement:
    """One run of one configuration."""

    round: int
    variant: str
    configuration: str
    cpu_us: float
    """Microseconds of CPU for each request, of the whole process, threads and the final flush included."""
    request_thread_us: float
    """Microseconds of CPU for each request, on its own thread."""
    records: int
    """What arrived, or was counted, the warm-up included. It is what was to be expected, or there is no measurement."""
    wire_bytes: float
    """Bytes of bodies for each request, as they were sent."""


@dataclass(frozen=True)
class Spread:
    """A figure over the rounds."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))

    def shown(self, digits: int) -> str:
        return f"{self.median:.{digits}f} [{self.least:.{digits}f}, {self.most:.{digits}f}]"


class Figures:
    """The figures of one variant."""

    def __init__(self, measurements: Iterable[Measurement], variant: str) -> None:
        self._costs: dict[int, dict[str, list[Measurement]]] = {}
        for each in measurements:
            if each.variant == variant:
                self._costs.setdefault(each.round, {}).setdefault(each.configuration, []).append(each)

    def names(self) -> list[str]:
        """The configurations that were measured in every round, without the bare one."""
        rounds = list(self._costs.values())
        return [name for name in rounds[0] if name != BARE and all(name in each for each in rounds)] if rounds else []

    def added(self, name: str, what: str) -> Spread:
        """Microseconds that a configuration adds."""
        return Spread.of(self._added(name, what))

    def ratio(self, name: str, what: str) -> Spread:
        """What it adds over what stock OpenTelemetry adds."""
        both = zip(self._added(name, what), self._added(STOCK, what), strict=True)
        return Spread.of([added / stock for added, stock in both])

    def bare(self, what: str) -> Spread:
        """Microseconds of the bare application: the medians of the rounds."""
        return Spread.of([_median(each[BARE], what) for each in self._costs.values()])

    def _added(self, name: str, what: str) -> list[float]:
        return [_median(each[name], what) - _median(each[BARE], what) for each in self._costs.values()]


def _median(measurements: Sequence[Measurement], what: str) -> float:
    costs: list[float] = [getattr(each, what) for each in measurements]
    return statistics.median(costs)
