"""The dashboard: a chart for each recipe that needs nothing, or was given what it needs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from ..layout import TABLE
from ..recipes import ChartKind, Recipe, recipes
from .things import Thing, ThingKind, mark

KEY: Final = "dashboard"

_FIRST: Final = ("health", "customers", "latency", "rejections")
_OWN_WINDOW: Final = frozenset({"plans"})
"""Recipes whose window is a part of the question. All others look at the time that is chosen on the dashboard."""

_MOST_ROWS: Final = "10000"
"""Of a line: a week of minutes. What recipes show by default is a table's length."""

_COLUMNS: Final = 12
_WIDTH: Final = 6
_HEIGHT: Final = 5
_NOTE: Final = "note"
_NOTE_HEIGHT: Final = 2
_UID_CHARACTERS: Final = re.compile("[^A-Za-z0-9_-]")


def uid(dataset: str = TABLE) -> str:
    """The dashboard's id at Axiom, which is the same in every run."""
    return f"otel-usage-{_UID_CHARACTERS.sub('-', dataset)}"[:128]


def dashboard(dataset: str, given: Mapping[str, str]) -> Thing:
    """The dashboard of a dataset. ``given``: the texts of ``plans`` and ``prices``; a recipe that needs another is left
    out.

    Raises:
        RecipeError: one of the texts or the dataset's name is none.
    """
    names = [*_FIRST, *(name for name in recipes() if name not in _FIRST)]
    chosen = [each for each in map(recipes().__getitem__, names) if _is_asked(each, given)]
    document = {
        "name": f"API usage ({dataset})",
        "description": f"Who calls what, what it costs, and how it is served. {mark(dataset, KEY)}",
        # API tokens make no dashboards but those that the whole organization sees.
        "owner": "X-AXIOM-EVERYONE",
        "schemaVersion": 2,
        "refreshTime": 300,
        "timeWindowStart": "qr-now-1h",
        "timeWindowEnd": "qr-now",
        "charts": [_note(dataset), *(_chart(each, dataset, given) for each in chosen)],
        "layout": [
            {"i": _NOTE, "x": 0, "y": 0, "w": _COLUMNS, "h": _NOTE_HEIGHT},
            *(_place(each.name, number) for number, each in enumerate(chosen)),
        ],
    }
    return Thing(ThingKind.DASHBOARD, KEY, document)


def _is_asked(each: Recipe, given: Mapping[str, str]) -> bool:
    return all(parameter.name in given for parameter in each.parameters if parameter.required)


def _note(dataset: str) -> dict[str, Any]:
    text = (
        f"Made of the recipes of otel-usage for the dataset `{dataset}`. `otel-usage axiom apply` puts every element "
        "back to what the recipes say: copy this dashboard to change it."
    )
    return {"id": _NOTE, "type": "Note", "text": text}


def _chart(each: Recipe, dataset: str, given: Mapping[str, str]) -> dict[str, Any]:
    is_line = each.chart.kind is ChartKind.LINE
    texts = {**given, **({"limit": _MOST_ROWS} if is_line else {})}
    values = each.parse({p.name: texts[p.name] for p in each.parameters if p.name in texts})
    if "window" in values and each.name not in _OWN_WINDOW:
        values["window"] = None
    apl = each.apl(values, dataset=dataset)
    if is_line:
        # Axiom draws over the column _time.
        (time,) = each.chart.x
        apl = f"{apl}\n| project _time = {time}, {', '.join(each.chart.y)}"
    # Axiom draws no bars for groups: whatever is not drawn over time is a table there.
    kind = "TimeSeries" if is_line else "Table"
    return {"id": each.name, "name": each.title, "type": kind, "query": {"apl": apl}}


def _place(name: str, number: int) -> dict[str, Any]:
    row, column = divmod(number, _COLUMNS // _WIDTH)
    return {"i": name, "x": column * _WIDTH, "y": _NOTE_HEIGHT + row * _HEIGHT, "w": _WIDTH, "h": _HEIGHT}
