"""The report: what some of the recipes answer, side by side. It counts nothing itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from .answers import Answer
from .parameters import timespan
from .recipes import Recipe, recipe

SUCCESS_REASONS: Final = ("ok", "preflight", "not_modified", "idempotent_replay")
"""The reasons of requests that were served, as the recipes have them. A request with any other reason is an error."""

PARTS: Final = ("customers", "rejections", "latency", "upstreams", "tokens", "caches")
"""The recipes of the report, in its order."""

OVER_TIME: Final = ("health", *PARTS)
"""The same with a course over time, for who can draw one."""

ALL_ROWS: Final = 10_000
"""Rows of a part at most: as many as a recipe gives."""

_CUSTOMERS: Final = "customers"

Ask = Callable[[str], Answer]
"""Answers a query in APL: the local store, or the server that holds it."""


@dataclass(frozen=True, slots=True)
class Part:
    """A recipe and what it answers."""

    recipe: Recipe
    apl: str
    """The query, as it is to be pasted into Axiom."""
    answer: Answer

    def records(self) -> list[dict[str, Any]]:
        """The rows by the names of their columns."""
        return [dict(zip(self.answer.columns, row, strict=True)) for row in self.answer.rows]


@dataclass(frozen=True, slots=True)
class UsageReport:
    """Who called what, what it cost, and how it was served. In each part the largest row comes first."""

    since: timedelta | None
    """How far back it looks. None: to the first span."""
    customer: str | None
    """Whose usage it is. None: everybody's, with the parts that do not tell customers apart."""
    parts: tuple[Part, ...]

    def rows(self, name: str) -> list[dict[str, Any]]:
        """The rows of one part. Empty: it has none, or is no part of this report."""
        return next((part.records() for part in self.parts if part.recipe.name == name), [])

    @property
    def totals(self) -> Mapping[str, int]:
        """All requests and those that were not served."""
        customers = self.rows(_CUSTOMERS)
        return {name: sum(row[name] for row in customers) for name in ("requests", "errors")}

    @property
    def is_empty(self) -> bool:
        """Whether there is no usage in it."""
        return not any(part.answer.rows for part in self.parts)


def build_report(
    ask: Ask, since: timedelta | None = None, customer: str | None = None, names: Sequence[str] = PARTS
) -> UsageReport:
    """The report of what began within ``since``; None: of everything. ``customer``: only this one's; a recipe that does
    not tell customers apart is left out then.

    Raises:
        RecipeError: the customer's name is none.
        UsageError: whoever is asked cannot answer.
    """
    asked = [recipe(name) for name in names]
    if customer is not None:
        asked = [each for each in asked if "customer" in (parameter.name for parameter in each.parameters)]
    return UsageReport(since, customer, tuple(_part(ask, each, since, customer) for each in asked))


def _part(ask: Ask, each: Recipe, since: timedelta | None, customer: str | None) -> Part:
    given = {"limit": str(ALL_ROWS)} | ({} if customer is None else {"customer": customer})
    # Without a window its line is left out, and all time is looked at.
    values = {**each.parse(given), "window": since}
    return Part(each, each.apl(values), ask(each.apl(values, repeated=False)))


def to_dict(report: UsageReport) -> dict[str, Any]:
    """The report for programs: totals, and the rows of each part by its recipe's name."""
    return {
        "since": None if report.since is None else timespan(report.since),
        "customer": report.customer,
        "totals": dict(report.totals),
        **{part.recipe.name: part.records() for part in report.parts},
    }
