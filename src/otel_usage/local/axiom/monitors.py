"""The monitors: each compares what a recipe answers with a threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ..parameters import timespan
from ..recipes import recipe
from .things import Thing, ThingKind, mark

_ALL_ROWS: Final = "10000"
_FEWEST_REQUESTS: Final = 20
_MINUTE: Final = 60


@dataclass(frozen=True, slots=True)
class Limits:
    """When the monitors alert."""

    error_percent: float = 5.0
    """Requests that were not served, of all requests of a quarter of an hour, in percent."""
    silent_minutes: int = 15
    """Minutes without any usage."""
    plan_percent: float = 80.0
    """What a customer has used of the plan, in percent."""
    anonymous_requests: int = 1000
    """Requests without a credential for one route from one country in a quarter of an hour."""


@dataclass(frozen=True, slots=True)
class _Monitor:
    key: str
    title: str
    why: str
    recipe: str
    reduced: str
    """What follows the recipe. Axiom wants a query to end in `summarize`, and compares every number of the answer:
    only one may be left."""
    operator: str
    threshold: float
    range_minutes: int
    interval_minutes: int
    by_group: bool = False
    alert_on_no_data: bool = False


def monitors(
    dataset: str, *, limits: Limits | None = None, plans: str | None = None, notifiers: Sequence[str] = ()
) -> list[Thing]:
    """The monitors of a dataset. ``plans``: what plans allow, as the recipe of that name takes it; None: no monitor of
    them. ``notifiers``: the ids of those who are told; none: whoever is told at Axiom stays so.

    Raises:
        RecipeError: ``plans`` or the dataset's name is none.
    """
    chosen = _monitors(limits or Limits(), with_plans=plans is not None)
    given = {"limit": _ALL_ROWS}
    return [
        _thing(
            each, dataset, given | ({"plans": plans} if plans is not None and each.key == "plans" else {}), notifiers
        )
        for each in chosen
    ]


def _monitors(limits: Limits, *, with_plans: bool) -> list[_Monitor]:
    chosen = [
        _Monitor(
            "errors", "requests are not served",
            f"At least {limits.error_percent:g} % of the requests of 15 minutes were not served, "
            f"of {_FEWEST_REQUESTS} requests or more.",
            "customers",
            "| summarize errors = sum(errors), requests = sum(requests)\n"
            f"| where requests >= {_FEWEST_REQUESTS}\n"
            "| summarize error_percent = max(100.0 * errors / requests)",
            "AboveOrEqual", limits.error_percent, 15, 5,
        ),
        _Monitor(
            "silence", "no usage arrives",
            f"For {limits.silent_minutes} minutes nothing has arrived: nobody calls, or telemetry is broken.",
            "health", "| summarize spans = sum(spans)",
            "Below", 1.0, limits.silent_minutes, min(5, limits.silent_minutes), alert_on_no_data=True,
        ),
        _Monitor(
            "abuse", "anonymous hot spot",
            f"{limits.anonymous_requests:,} requests or more in 15 minutes without a credential, for one route "
            "from one country.",
            "abuse", "| summarize requests = max(requests) by route, country",
            "AboveOrEqual", float(limits.anonymous_requests), 15, 5, by_group=True,
        ),
    ]  # fmt: skip
    if with_plans:
        window = _window("plans")
        chosen.append(
            _Monitor(
                "plans", "customers near their plan's limit",
                f"A customer has used {limits.plan_percent:g} % or more of what the plan allows in {timespan(window)}.",
                "plans", "| summarize used_percent = max(used_percent) by customer",
                "AboveOrEqual", limits.plan_percent, int(window.total_seconds()) // _MINUTE, 60, by_group=True,
            )
        )  # fmt: skip
    return chosen


def _window(name: str) -> Any:
    return next(parameter.default for parameter in recipe(name).parameters if parameter.name == "window")


def _thing(each: _Monitor, dataset: str, given: Mapping[str, str], notifiers: Sequence[str]) -> Thing:
    asked = recipe(each.recipe)
    # Without a window of its own: which time a monitor looks at is its range, said once.
    values = {**asked.parse(given), "window": None}
    content: dict[str, Any] = {
        "name": f"API usage ({dataset}): {each.title}",
        "description": f"{each.why} {mark(dataset, each.key)}",
        "type": "Threshold",
        "aplQuery": f"{asked.apl(values, dataset=dataset)}\n{each.reduced}",
        "operator": each.operator,
        "threshold": each.threshold,
        "rangeMinutes": each.range_minutes,
        "intervalMinutes": each.interval_minutes,
        "alertOnNoData": each.alert_on_no_data,
        "notifyByGroup": each.by_group,
    }
    if notifiers:
        content["notifierIds"] = list(notifiers)
    return Thing(ThingKind.MONITOR, each.key, content)
