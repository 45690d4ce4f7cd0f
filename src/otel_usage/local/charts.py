"""Charts as SVG, without a script: bars for groups, lines over time. Whatever they are given is only text to them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from html import escape
from itertools import pairwise
from typing import Final

from .formats import printable
from .parameters import timespan

WIDTH: Final = 360
"""Units across: as many as the pixels of a phone, where a letter is then as large as it is given here."""

_LABEL: Final = 46
_ROW: Final = 16
_BAR: Final = 7
_GAP: Final = 8
_HEIGHT: Final = 120
_TOP: Final = 14
_BOTTOM: Final = 16
_COLORS: Final = 4
_MINUTE: Final = timedelta(minutes=1)
_MOST_POINTS: Final = 180


@dataclass(frozen=True, slots=True)
class Bar:
    """One group."""

    label: str
    values: tuple[float, ...]
    """One for each series."""


def bars(title: str, series: Sequence[str], groups: Sequence[Bar]) -> str:
    """A bar for each series of each group, all to one scale."""
    most = max((value for group in groups for value in group.values), default=0) or 1
    each = _ROW + len(series) * _BAR + _GAP
    parts = [part for n, group in enumerate(groups) for part in _group(group, n * each, most)]
    return _svg(title, series, len(groups) * each, parts)


def _group(group: Bar, top: int, most: float) -> Iterator[str]:
    label = printable(group.label)
    short = label if len(label) <= _LABEL else f"{label[: _LABEL - 1]}…"
    values = " / ".join(map(number, group.values))
    yield f"<g><title>{escape(label)}: {values}</title>"
    yield f'<text x="0" y="{top + 11}">{escape(short)}</text>'
    yield f'<text x="{WIDTH}" y="{top + 11}" class="end">{values}</text>'
    yield f'<rect x="0" y="{top + _ROW}" width="{WIDTH}" height="{len(group.values) * _BAR}" class="ground"/>'
    for place, value in enumerate(group.values):
        width = max(0.0, value) / most * WIDTH
        y = top + _ROW + place * _BAR
        yield f'<rect x="0" y="{y}" width="{width:.1f}" height="{_BAR - 1}" class="s{place % _COLORS}"/>'
    yield "</g>"


def lines(title: str, series: Sequence[str], counts: Sequence[tuple[datetime, Sequence[float]]]) -> str:
    """A line for each series of counts, from the earliest to the latest. A time that has none is one of zero, and
    where there are more than can be told apart, neighbours are added up.
    """
    start, bucket, sums = _buckets(counts, len(series))
    most = max(map(max, sums)) or 1
    across, base = WIDTH / max(1, len(sums) - 1), _TOP + _HEIGHT
    drawn = [f'<line x1="0" y1="{base}" x2="{WIDTH}" y2="{base}" class="axis"/>']
    for place in range(len(series)):
        heights = [values[place] / most * _HEIGHT for values in (sums if len(sums) > 1 else sums * 2)]
        path = " ".join(f"{n * across:.1f},{base - height:.1f}" for n, height in enumerate(heights))
        drawn.append(f'<polyline points="{path}" class="l{place % _COLORS}"/>')
    end = start + bucket * (len(sums) - 1)
    drawn += [
        f'<text x="0" y="10">{number(most)} in {timespan(bucket)}</text>',
        f'<text x="0" y="{base + 12}">{start:%Y-%m-%d %H:%M}</text>',
        f'<text x="{WIDTH}" y="{base + 12}" class="end">{end:%Y-%m-%d %H:%M} UTC</text>',
    ]
    return _svg(title, series, base + _BOTTOM, drawn)


def _buckets(
    counts: Sequence[tuple[datetime, Sequence[float]]], series: int
) -> tuple[datetime, timedelta, list[list[float]]]:
    """When the first one begins, how long each is, and the sums of each."""
    moments = sorted({moment for moment, _ in counts})
    step = min((after - before for before, after in pairwise(moments)), default=_MINUTE)
    steps = (moments[-1] - moments[0]) // step + 1
    bucket = step * math.ceil(steps / _MOST_POINTS)
    sums = [[0.0] * series for _ in range((moments[-1] - moments[0]) // bucket + 1)]
    for moment, values in counts:
        into = sums[(moment - moments[0]) // bucket]
        for place, value in enumerate(values):
            into[place] += value
    return moments[0], bucket, sums


def number(value: float) -> str:
    """A number for people: whole where it is whole or large."""
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 1000 else f"{value:,.4g}"


def _svg(title: str, series: Sequence[str], height: int, parts: Sequence[str]) -> str:
    keys = [
        '<span class="key"><svg viewBox="0 0 8 8" aria-hidden="true">'
        f'<rect width="8" height="8" class="s{n % _COLORS}"/></svg>{escape(printable(name.replace("_", " ")))}</span>'
        for n, name in enumerate(series)
    ]
    about = f"{title}: {', '.join(series)}"
    return (
        f'<p class="keys">{"".join(keys)}</p>\n'
        f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(printable(about))}">'
        f"{''.join(parts)}</svg>"
    )
