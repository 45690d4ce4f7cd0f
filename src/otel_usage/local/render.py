"""Shows reports and answers: as tables for people, reports as JSON for programs."""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Final

from .answers import Answer
from .errors import MissingExtraError
from .formats import printable
from .parameters import timespan
from .report import ALL_ROWS, Part, UsageReport, to_dict

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

MAX_ROWS: Final = 8
"""Rows of a table that are shown, so that all tables fit on a screen. The JSON has them all."""

_WIDE: Final = 160
_APART: Final = 4
_NARROWEST_TEXT: Final = 12
_BORDERS: Final = 3
_BYTES: Final = "bytes"
_UNITS: Final = ("B", "kB", "MB", "GB", "TB")


def to_json(report: UsageReport) -> str:
    """The report as indented JSON."""
    return json.dumps(to_dict(report), indent=2)


def print_report(report: UsageReport, console: Console | None = None) -> None:
    """Print the report as tables, side by side where the console is wide. ``console`` None: standard output.

    Raises:
        MissingExtraError: rich is not installed.
    """
    out = console or _rich("console").Console()
    out.print(_rich("text").Text(summary(report)))
    beside = out.width >= _WIDE
    room = out.width // 2 - _APART if beside else out.width
    tables = [_part(part, room) for part in report.parts if part.answer.rows]
    if not beside:
        for table in tables:
            out.print(table)
        return
    grid = _rich("table").Table.grid(padding=(0, _APART, 1, 0))
    for pair in zip_longest(tables[::2], tables[1::2]):
        grid.add_row(*pair)
    out.print(grid)


def print_answer(title: str, answer: Answer, console: Console | None = None) -> None:
    """Print all rows of an answer as a table. ``console`` None: standard output.

    Raises:
        MissingExtraError: rich is not installed.
    """
    out = console or _rich("console").Console()
    columns = [_column(name, [row[n] for row in answer.rows]) for n, name in enumerate(answer.columns)]
    out.print(_table(title, columns, len(answer.rows)))


def summary(report: UsageReport) -> str:
    """One line: how much, whose, of which time."""
    if report.is_empty:
        return "No usage in this time." if report.since is not None or report.customer is not None else "No spans yet."
    requests, errors = report.totals["requests"], report.totals["errors"]
    percent = f" ({100 * errors / requests:.1f} %)" if errors else ""
    whose = "" if report.customer is None else f" of {printable(report.customer)}"
    if len(report.rows("customers")) >= ALL_ROWS:
        whose = f" of the {ALL_ROWS:,} largest customers"
    when = "in all time" if report.since is None else f"in the last {timespan(report.since)}"
    return f"{requests:,} requests{whose}, {errors:,} errors{percent}, {when}"


def _part(part: Part, room: int) -> RenderableType:
    """A table of a recipe's answer, with as many columns as there is room for: those of its chart first."""
    answer, chart = part.answer, part.recipe.chart
    columns = [
        _column(name, [row[n] for row in answer.rows[:MAX_ROWS]], sized=name.startswith(_BYTES))
        for n, name in enumerate(answer.columns)
    ]
    kept = [each for each in columns if each.name in chart.x + chart.y]
    for each in columns:
        if each not in kept and sum(other.narrowest for other in [*kept, each]) < room:
            kept.append(each)
    return _table(part.recipe.title, [each for each in columns if each in kept], len(answer.rows))


@dataclass(frozen=True, slots=True)
class _Column:
    name: str
    cells: tuple[str, ...]
    """Those that are shown."""
    is_number: bool

    @property
    def heading(self) -> str:
        return shown(self.name.replace("_", " "))

    @property
    def width(self) -> int:
        """Characters of a number, which stays whole, and of the words of its heading, which stand below each other."""
        return max(map(len, (*self.heading.split(), *self.cells)), default=0)

    @property
    def narrowest(self) -> int:
        return _BORDERS + (self.width if self.is_number else min(self.width, _NARROWEST_TEXT))


def _column(name: str, values: Sequence[object], *, sized: bool = False) -> _Column:
    """``sized``: whether whole numbers are bytes, and are shown with a unit."""
    cells = tuple(size(value) if sized and isinstance(value, int) else _cell(value) for value in values)
    is_number = sized or any(isinstance(value, (int, float)) for value in values[:1])
    return _Column(name, cells, is_number)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and abs(value) < 1000:
        return f"{value:.6g}"
    return shown(json.dumps(value) if isinstance(value, (dict, list)) else value)


def _table(title: str, columns: Sequence[_Column], rows: int) -> RenderableType:
    table: Table = _rich("table").Table(title=title, title_justify="left", expand=False)
    text = _rich("text").Text
    for each in columns:
        # Numbers stay whole; names give way when the console is narrow.
        width = each.width if each.is_number else None
        table.add_column(each.heading, justify="right" if each.is_number else "left", width=width, overflow="fold")
    for row in zip(*(each.cells for each in columns), strict=True):
        table.add_row(*map(text, row))
    left_out = rows - table.row_count
    if left_out > 0:
        table.caption = f"and {left_out:,} more: see --json"
    return table


def shown(cell: object) -> str:
    """A cell's text. A character that a terminal would obey is replaced: names come from whoever sent the span."""
    if isinstance(cell, float):
        return f"{cell:,.1f}"
    if isinstance(cell, int):
        return f"{cell:,}"
    return printable(str(cell))


def size(count: int) -> str:
    """Bytes with a decimal unit: 1,500 is ``1.5 kB``."""
    amount = float(count)
    for unit in _UNITS:
        if amount < 1000 or unit == _UNITS[-1]:
            break
        amount /= 1000
    return f"{count} B" if unit == _UNITS[0] else f"{amount:,.1f} {unit}"


def _rich(module: str) -> Any:
    try:
        return importlib.import_module(f"rich.{module}")
    except ImportError as error:
        raise MissingExtraError("rich") from error
