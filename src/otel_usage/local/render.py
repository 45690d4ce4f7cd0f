"""Shows reports and answers: as tables for people, reports as JSON for programs."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from .answers import Answer
from .errors import MissingExtraError
from .formats import printable
from .report import Totals, UsageReport

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

MAX_ROWS: Final = 20
"""Rows of a table that are shown. The JSON has them all."""

_UNIDENTIFIED: Final = "(unidentified)"
_ANONYMOUS: Final = "(anonymous)"
_NONE: Final = "(none)"
_UNITS: Final = ("B", "kB", "MB", "GB", "TB")


def to_json(report: UsageReport) -> str:
    """The report as indented JSON."""
    return json.dumps(asdict(report), indent=2)


def print_report(report: UsageReport, console: Console | None = None) -> None:
    """Print the report as tables, no wider than the console. ``console`` None: standard output.

    Raises:
        MissingExtraError: rich is not installed.
    """
    rich_console = _rich("console")
    out = console or rich_console.Console()
    for part in _parts(report):
        out.print(part)


def print_answer(title: str, answer: Answer, console: Console | None = None) -> None:
    """Print all rows of an answer as a table. ``console`` None: standard output.

    Raises:
        MissingExtraError: rich is not installed.
    """
    out = console or _rich("console").Console()
    rows = [tuple(map(_of_answer, row)) for row in answer.rows]
    out.print(_table(title, tuple(map(shown, answer.columns)), rows, len(rows)))


def _of_answer(value: object) -> object:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and abs(value) < 1000:
        return _Number(f"{value:.6g}")
    return json.dumps(value) if isinstance(value, (dict, list)) else value


class _Number(str):
    """A number that is written already."""

    __slots__ = ()


def _parts(report: UsageReport) -> Iterable[RenderableType]:
    yield _rich("text").Text(_summary(report.totals))
    yield from (_table(title, headings, rows) for title, headings, rows in _contents(report) if rows)


def _contents(report: UsageReport) -> Iterator[tuple[str, Sequence[str], Sequence[Sequence[object]]]]:
    yield (
        "Requests per customer",
        ("customer", "tier", "requests", "errors", "bytes out"),
        [
            (
                c.customer or (_ANONYMOUS if c.tier == 0 else _UNIDENTIFIED),
                _or_none(c.tier),
                c.requests,
                c.errors,
                size(c.bytes_out),
            )
            for c in report.customers
        ],
    )
    yield ("Errors", ("reason", "requests"), [(_or_none(e.reason), e.requests) for e in report.error_reasons])
    yield (
        "Latency per route",
        ("route", "requests", "p50 ms", "p95 ms"),
        [(_or_none(r.route), r.requests, r.p50_ms, r.p95_ms) for r in report.routes],
    )
    yield (
        "Upstream cost",
        ("customer", "provider", "calls", "errors", "bytes in", "p95 ms"),
        [
            (u.customer or _UNIDENTIFIED, _or_none(u.provider), u.calls, u.errors, size(u.bytes_in), u.p95_ms)
            for u in report.upstreams
        ],
    )
    yield (
        "Cache lookups",
        ("provider", "status", "lookups"),
        [(_or_none(c.provider), _or_none(c.status), c.lookups) for c in report.caches],
    )


def _summary(totals: Totals) -> str:
    if not totals.spans:
        return "No spans yet."
    return (
        f"{totals.requests:,} requests, {totals.errors:,} errors, {totals.spans:,} spans\n"
        f"{totals.start} to {totals.end}\n"
    )


def _table(
    title: str, headings: Sequence[str], rows: Sequence[Sequence[object]], most: int = MAX_ROWS
) -> RenderableType:
    table: Table = _rich("table").Table(title=title, title_justify="left", expand=False)
    text = _rich("text").Text
    numeric = {n for row in rows[:1] for n, cell in enumerate(row) if isinstance(cell, (int, float, _Number))}
    for number, heading in enumerate(headings):
        right = number in numeric or heading.startswith("bytes")
        # Numbers stay whole; names give way when the console is narrow.
        table.add_column(heading, justify="right" if right else "left", no_wrap=right, overflow="fold")
    for row in rows[:most]:
        table.add_row(*(text(shown(cell)) for cell in row))
    if len(rows) > most:
        table.caption = f"and {len(rows) - most:,} more: see --json"
    return table


def _or_none(value: str | int | None) -> str:
    return _NONE if value is None else str(value)


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
