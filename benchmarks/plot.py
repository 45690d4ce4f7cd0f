"""The figures as horizontal bars, in PNG and SVG. Of matplotlib, which is imported when it is needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.application import VARIANTS
from benchmarks.configurations import OURS
from benchmarks.figures import CPU, Figures, Spread
from benchmarks.results import Results
from benchmarks.table import ordered

NAME: Final = "performance-added-cpu"
# Two of Okabe and Ito's colours, which everybody can tell apart; the two differ in lightness, too.
OTHERS: Final = "#56B4E9"
OWN: Final = "#D55E00"
INK: Final = "#222222"


@dataclass(frozen=True)
class Bar:
    label: str
    spread: Spread
    own: bool


def bars(figures: Figures) -> list[Bar]:
    """From the most that is added to the least, which is the order from below."""
    return [
        Bar(each.label.replace("`", ""), figures.added(each.name, CPU), each.name == OURS)
        for each in reversed(ordered(figures))
    ]


def draw(results: Results, folder: Path) -> list[Path]:
    """Draw both variants. The same results make the same SVG. Returns the files.

    Raises:
        ImportError: there is no matplotlib.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    # Else the ids in an SVG are made of chance, and text of the outlines of a font that not everybody has.
    fixed = {"svg.hashsalt": NAME, "svg.fonttype": "none", "font.family": "DejaVu Sans", "text.color": INK}
    with mpl.rc_context(fixed):
        figure, axes = plt.subplots(1, len(VARIANTS), figsize=(12, 4.8), layout="constrained", sharey=False)
        for axis, (variant, says) in zip(axes, VARIANTS.items(), strict=True):
            _panel(axis, bars(Figures(results.measurements, variant)), f"{variant}: {says}")
        figure.get_layout_engine().set(w_pad=0.2)  # inches: a number at the end of an axis is not counted in
        figure.suptitle("CPU added to a request, microseconds: median, and least to most of the rounds")
        paths = [folder / f"{NAME}.{suffix}" for suffix in ("png", "svg")]
        figure.savefig(paths[0], dpi=150, metadata={"Software": None})
        figure.savefig(paths[1], metadata={"Date": None})
        plt.close(figure)
    return paths


def _panel(axis: Any, shown: Sequence[Bar], title: str) -> None:
    places = range(len(shown))
    medians = [each.spread.median for each in shown]
    whiskers = [
        [each.spread.median - each.spread.least for each in shown],
        [each.spread.most - each.spread.median for each in shown],
    ]
    colours = [OWN if each.own else OTHERS for each in shown]
    axis.barh(places, medians, xerr=whiskers, color=colours, ecolor=INK, capsize=3)
    axis.set_yticks(places, [each.label for each in shown])
    furthest = max(each.spread.most for each in shown)
    for place, each in zip(places, shown, strict=True):
        axis.text(each.spread.most + furthest * 0.02, place, f"{each.spread.median:.0f}", va="center")
    axis.set_xlim(0, furthest * 1.15)
    axis.set_title(title)
    axis.spines[["top", "right"]].set_visible(False)
    axis.set_axisbelow(True)
    axis.grid(axis="x", color="#dddddd")
