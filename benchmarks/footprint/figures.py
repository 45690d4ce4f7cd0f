"""Numbers out of many numbers. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence

_T_95 = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14, 2.13)
"""Student's t for 95 %, two-sided, by degrees of freedom from 1."""


def quantile(values: Sequence[float], share: float) -> float:
    """The value that ``share`` of all are at or below; not a number where there is nothing to take it of."""
    if not values:
        return math.nan
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def spread(values: Sequence[float]) -> float:
    """From the least to the greatest."""
    return max(values) - min(values)


def slope(xs: Sequence[float], ys: Sequence[float]) -> tuple[float, float]:
    """The slope of the straight line nearest to the points, and half the width of its interval of 95 %."""
    middle, free = statistics.fmean(xs), len(xs) - 2
    width = sum((x - middle) ** 2 for x in xs)
    rise, start = statistics.linear_regression(xs, ys)
    left = sum((y - start - rise * x) ** 2 for x, y in zip(xs, ys, strict=True))
    t = _T_95[min(free, len(_T_95)) - 1]
    return rise, t * math.sqrt(left / free / width)


def arrivals(waits: Iterable[float], gap: float) -> list[float]:
    """The waits of those who come each ``gap`` seconds, of the waits of one who does not come while it waits.

    Whoever comes a gap later waits a gap less. Without them, the longer a wait is, the fewer it would count for.
    """
    return [left for wait in waits for left in (wait - n * gap for n in range(max(1, math.ceil(wait / gap))))]
