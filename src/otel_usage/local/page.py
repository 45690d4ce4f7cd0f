"""The report as one page that needs nothing else: no script, no other file, no network."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from typing import Any, Final

from .charts import Bar, bars, lines, number
from .formats import printable
from .recipes import ChartKind
from .render import size, summary
from .report import Part, UsageReport

_MOST_BARS: Final = 10
_MOST_ROWS: Final = 100
_BYTES: Final = "bytes"

_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #57606a; --page: #ffffff; --card: #f6f8fa; --line: #d0d7de;
  --s0: #0969da; --s1: #bc4c00; --s2: #1a7f37; --s3: #8250df; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9198a1; --page: #0d1117; --card: #151b23;
  --line: #3d444d; --s0: #4493f8; --s1: #f0883e; --s2: #3fb950; --s3: #ab7df8; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 72rem; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.4rem; margin: 0; }
h2 { font-size: 1.05rem; margin: 0; }
p { margin: .25rem 0; }
.soft, .note, footer { color: var(--soft); }
main { display: grid; gap: 1rem; margin: 1rem 0; align-items: start;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 28rem), 1fr)); }
section { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 1rem; min-width: 0; }
.scroll { overflow-x: auto; margin-top: .75rem; }
table { border-collapse: collapse; width: 100%; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .2rem .6rem .2rem 0; border-bottom: 1px solid var(--line); vertical-align: top;
  overflow-wrap: anywhere; min-width: 3.5rem; }
th { color: var(--soft); font-weight: 600; }
.n { text-align: right; white-space: nowrap; }
pre { overflow-x: auto; font-size: 12px; background: var(--page); border: 1px solid var(--line); padding: .5rem; }
details { margin-top: .5rem; font-size: 13px; }
.keys { font-size: 12px; color: var(--soft); margin-top: .75rem; }
.key { margin-right: 1rem; white-space: nowrap; }
.key svg { width: .7rem; height: .7rem; margin-right: .3rem; }
.chart { display: block; width: 100%; height: auto; }
.chart text { font-size: 11px; fill: var(--ink); }
.chart .end { text-anchor: end; }
.chart .ground { fill: var(--line); opacity: .35; }
.axis { stroke: var(--line); }
.s0 { fill: var(--s0); } .s1 { fill: var(--s1); } .s2 { fill: var(--s2); } .s3 { fill: var(--s3); }
polyline { fill: none; stroke-width: 1.5; vector-effect: non-scaling-stroke; }
.l0 { stroke: var(--s0); } .l1 { stroke: var(--s1); } .l2 { stroke: var(--s2); } .l3 { stroke: var(--s3); }
@media print { section { break-inside: avoid; } }
"""

_DIGEST: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_POLICY: Final = f"default-src 'none'; style-src 'sha256-{_DIGEST}'; base-uri 'none'; form-action 'none'"
"""Nothing is loaded and nothing runs, whatever a name may have brought in; the one style is known by its digest."""


def page(report: UsageReport, made: datetime | None = None) -> str:
    """The page. ``made``: when, with a time zone; None: now."""
    moment = (made or datetime.now(UTC)).astimezone(UTC)
    sections = "\n".join(_section(part) for part in report.parts if part.answer.rows)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>API usage</title>
<style>{_STYLE}</style>
</head>
<body>
<header>
<h1>API usage</h1>
<p>{escape(summary(report))}</p>
</header>
<main>
{sections}
</main>
<footer><p>Made by <code>otel-usage report</code>, {moment:%Y-%m-%d %H:%M} UTC.</p></footer>
</body>
</html>
"""


def _section(part: Part) -> str:
    recipe = part.recipe
    notes = "".join(f'<p class="note">{_text(note)}</p>' for note in recipe.notes)
    return f"""<section>
<h2>{_text(recipe.title)}</h2>
<p class="soft">{_text(recipe.question)}</p>
{_chart(part)}
{"" if recipe.chart.kind is ChartKind.LINE else _table(part)}
<details><summary>How it is counted</summary>{notes}<pre>{_text(part.apl, keep_lines=True)}</pre></details>
</section>"""


def _chart(part: Part) -> str:
    chart, rows = part.recipe.chart, part.records()
    if chart.kind is ChartKind.LINE:
        (time,) = chart.x
        points = [(datetime.fromisoformat(str(row[time])), [_real(row[y]) for y in chart.y]) for row in rows]
        return lines(part.recipe.title, chart.y, points)
    if chart.kind is ChartKind.BAR:
        groups = [
            Bar(" · ".join(str(row[x]) for x in chart.x), tuple(_real(row[y]) for y in chart.y))
            for row in rows[:_MOST_BARS]
        ]
        return bars(part.recipe.title, chart.y, groups)
    return ""


def _table(part: Part) -> str:
    columns, rows = part.answer.columns, part.answer.rows
    numeric = [kind in ("integer", "float") for kind in part.answer.types]
    head = "".join(
        f'<th scope="col"{_right(right)}>{_text(name.replace("_", " "))}</th>'
        for name, right in zip(columns, numeric, strict=True)
    )
    body = "".join(f"<tr>{_cells(columns, row, numeric)}</tr>\n" for row in rows[:_MOST_ROWS])
    more = f'<p class="note">and {len(rows) - _MOST_ROWS:,} more</p>' if len(rows) > _MOST_ROWS else ""
    return (
        # A region that scrolls can be reached by the keyboard.
        f'<div class="scroll" tabindex="0" role="region" aria-label="{_text(part.recipe.title)}">'
        f"<table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>{more}"
    )


def _cells(columns: Sequence[str], row: Sequence[Any], numeric: Sequence[bool]) -> str:
    return "".join(
        f"<td{_right(right)}>{_text(_shown(name, cell))}</td>"
        for name, cell, right in zip(columns, row, numeric, strict=True)
    )


def _right(right: bool) -> str:
    return ' class="n"' if right else ""


def _shown(name: str, cell: Any) -> str:
    if cell is None:
        return ""
    if isinstance(cell, (bool, dict, list)):
        return json.dumps(cell)
    if isinstance(cell, int) and name.startswith(_BYTES):
        return size(cell)
    return number(cell) if isinstance(cell, (int, float)) else str(cell)


def _real(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0


def _text(text: str, *, keep_lines: bool = False) -> str:
    """A text as a part of the page: names come from whoever sent the spans."""
    return "\n".join(escape(printable(line)) for line in text.split("\n")) if keep_lines else escape(printable(text))
