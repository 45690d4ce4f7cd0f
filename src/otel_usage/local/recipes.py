"""Recipes: questions about usage as APL, which Axiom answers and the local store alike.

A recipe is a file in ``recipes/``: a head of comments, and the query. In it ``{name}`` is the place of a parameter; a
line with one that has no value is left out. The line that ends in ``// each span once`` is what makes a count right
where delivery is at least once; the local store has each span once, and goes without.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from functools import cache
from importlib import resources
from typing import Any, Final

from .errors import RecipeError
from .layout import TABLE
from .parameters import KINDS, Parameter

ONCE: Final = "// each span once"
"""How the line ends that counts each span once."""

_HEAD: Final = re.compile("// ([a-z]+): (.+)")
_PLACE: Final = re.compile(r"\{([a-z_]+)\}")
_DATASET: Final = re.compile(r"[A-Za-z0-9_.-]{1,128}")


class ChartKind(StrEnum):
    """The chart that shows an answer best."""

    BAR = "bar"
    """A bar for each row: a few groups, compared."""
    LINE = "line"
    """A line for each series, over time."""
    TABLE = "table"
    """None: the rows are read."""


@dataclass(frozen=True, slots=True)
class Chart:
    """How an answer is drawn."""

    kind: ChartKind
    x: tuple[str, ...]
    """The columns that name a bar, or the one that has the times. Empty for a table."""
    y: tuple[str, ...]
    """The columns that are drawn. Empty for a table."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """One question."""

    name: str
    title: str
    question: str
    notes: tuple[str, ...]
    """What has to be known to read the answer."""
    chart: Chart
    parameters: tuple[Parameter, ...]
    template: str
    """The query, with places for the parameters."""

    def parse(self, given: Mapping[str, str]) -> dict[str, Any]:
        """The values of all parameters, of texts for some of them. None: it has none, and needs none.

        Raises:
            RecipeError: there is no such parameter, a text is none of its values, or a value is missing.
        """
        known = {parameter.name: parameter for parameter in self.parameters}
        for name in given:
            if name not in known:
                raise RecipeError(f"{self.name} has no parameter {name!r}: it has {', '.join(known)}")
        values = {name: p.parse(given[name]) if name in given else p.default for name, p in known.items()}
        for name, value in values.items():
            if value is None and known[name].required:
                raise RecipeError(f"{self.name} needs --param {name}=…: {known[name].doc}")
        return values

    def reach(self, values: Mapping[str, Any]) -> timedelta:
        """How far back the query looks."""
        return max(p.reach(values[p.name]) for p in self.parameters)

    def apl(self, values: Mapping[str, Any], *, dataset: str = TABLE, repeated: bool = True) -> str:
        """The query.

        ``values``: what :meth:`parse` has returned. ``repeated``: whether the dataset may hold a span more than once.

        Raises:
            RecipeError: the dataset's name is none.
        """
        if not _DATASET.fullmatch(dataset):
            raise RecipeError(f"{dataset!r} is not a dataset's name: it takes letters, digits, '.', '_' and '-'")
        texts = {"dataset": dataset}
        for parameter in self.parameters:
            value = values[parameter.name]
            if value is not None:
                texts.update(parameter.render(value))
        lines = self.template.splitlines()
        kept = [
            line for line in lines if set(_PLACE.findall(line)) <= set(texts) and (repeated or not line.endswith(ONCE))
        ]
        # One pass: what a value looks like is not looked at again.
        return _PLACE.sub(lambda place: texts[place[1]], "\n".join(kept))


@cache
def recipes() -> Mapping[str, Recipe]:
    """All recipes by their names, in the order of the alphabet."""
    folder = resources.files(__package__) / "recipes"
    texts = {file.name.removesuffix(".apl"): file.read_text("utf-8") for file in folder.iterdir()}
    return {name: read_recipe(name, text) for name, text in sorted(texts.items())}


def recipe(name: str) -> Recipe:
    """A recipe.

    Raises:
        RecipeError: there is none of that name. The message has the names.
    """
    found = recipes().get(name)
    if found is None:
        raise RecipeError(f"there is no recipe {name!r}: there are {', '.join(recipes())}")
    return found


def read_recipe(name: str, text: str) -> Recipe:
    """The recipe of a file.

    Raises:
        RecipeError: its head lacks something, or says something that is not known.
    """
    head, template = _split(text)
    try:
        (title,), (question,), (chart,) = head["title"], head["question"], head["chart"]
        parameters = tuple(_parameter(line) for line in head.get("parameter", []))
        return Recipe(name, title, question, tuple(head.get("note", [])), _chart(chart), parameters, template)
    except (KeyError, ValueError) as error:
        raise RecipeError(f"the recipe {name} has no good head: {error}") from error


def _split(text: str) -> tuple[dict[str, list[str]], str]:
    head: dict[str, list[str]] = {}
    lines = text.strip().splitlines()
    while lines and (match := _HEAD.fullmatch(lines[0])):
        head.setdefault(match[1], []).append(match[2])
        del lines[0]
    return head, "\n".join(lines)


def _parameter(line: str) -> Parameter:
    name, _, default = line.partition(" = ")
    needed = name.endswith("!")
    name = name.removesuffix("!")
    kind = KINDS[name]
    return Parameter(name, kind.parse(default) if default else None, needed)


def _chart(line: str) -> Chart:
    kind, *axes = line.split()
    columns = dict(axis.split("=", 1) for axis in axes)
    x, y = (tuple(filter(None, columns.get(axis, "").split(","))) for axis in "xy")
    return Chart(ChartKind(kind), x, y)
