"""What differs between what should be at Axiom and what is there, and the way from one to the other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from . import dashboard
from .api import ManagementApi
from .things import Thing, ThingKind, mark

_OF_THE_SERVER: Final = frozenset({"id", "createdAt", "createdBy", "updatedAt", "updatedBy"})
_NOTIFIERS: Final = "notifierIds"
_LONGEST_SHOWN: Final = 40


class Verdict(StrEnum):
    """What becomes of a thing."""

    CREATE = "create"
    CHANGE = "change"
    LEAVE = "leave"
    CONFLICT = "conflict"
    """Something else is in its place, which was not made here: nothing is done."""


@dataclass(frozen=True, slots=True)
class Change:
    """One thing, and what is done about it."""

    thing: Thing
    verdict: Verdict
    why: tuple[str, ...] = ()
    """What differs, or what is in the way."""
    there: Mapping[str, Any] | None = None
    """What is at Axiom now. None: nothing."""


def compare(api: ManagementApi, things: Iterable[Thing], dataset: str) -> list[Change]:
    """What would have to be done.

    Raises:
        RemoteError: Axiom cannot be reached, or refuses.
    """
    monitors = api.monitors()
    return [
        _of_monitor(each, monitors, dataset)
        if each.kind is ThingKind.MONITOR
        else _of_dashboard(each, api.dashboard(dashboard.uid(dataset)), dataset)
        for each in things
    ]


def carry_out(api: ManagementApi, change: Change, dataset: str) -> None:
    """Create or change a thing. All else is left.

    Raises:
        RemoteError: Axiom cannot be reached, or refuses.
    """
    uid, there = dashboard.uid(dataset), change.there or {}
    is_monitor = change.thing.kind is ThingKind.MONITOR
    if change.verdict is Verdict.CREATE:
        if is_monitor:
            api.create_monitor(change.thing.content)
        else:
            api.create_dashboard(uid, change.thing.content)
    elif change.verdict is Verdict.CHANGE:
        if is_monitor:
            # A PUT replaces all of it: who is told and whether it is switched off stays as people have set it.
            kept = {name: value for name, value in there.items() if name not in _OF_THE_SERVER}
            api.update_monitor(str(there["id"]), {**kept, **change.thing.content})
        else:
            api.update_dashboard(uid, int(there["version"]), change.thing.content)


def tells_nobody(change: Change) -> bool:
    """Whether it is a monitor that nobody hears of, now and after it."""
    wanted = change.thing.content.get(_NOTIFIERS) or (change.there or {}).get(_NOTIFIERS)
    return change.thing.kind is ThingKind.MONITOR and not wanted


def _of_dashboard(thing: Thing, there: Mapping[str, Any] | None, dataset: str) -> Change:
    if there is None:
        return Change(thing, Verdict.CREATE)
    document = there.get("dashboard")
    if not isinstance(document, dict) or not _is_ours(document, thing, dataset):
        uid = dashboard.uid(dataset)
        return Change(thing, Verdict.CONFLICT, (f"the dashboard {uid} was not made by otel-usage",), there)
    return _changed(thing, document, there)


def _of_monitor(thing: Thing, monitors: Sequence[Mapping[str, Any]], dataset: str) -> Change:
    ours = [each for each in monitors if _is_ours(each, thing, dataset)]
    if len(ours) > 1:
        why = f"{len(ours)} monitors end their description in {mark(dataset, thing.key)}: leave it in one of them"
        return Change(thing, Verdict.CONFLICT, (why,))
    if ours:
        return _changed(thing, ours[0], ours[0])
    if any(each.get("name") == thing.name for each in monitors):
        return Change(thing, Verdict.CONFLICT, ("a monitor of that name was not made by otel-usage: rename it",))
    return Change(thing, Verdict.CREATE)


def _is_ours(content: Mapping[str, Any], thing: Thing, dataset: str) -> bool:
    return str(content.get("description") or "").endswith(mark(dataset, thing.key))


def _changed(thing: Thing, content: Mapping[str, Any], there: Mapping[str, Any]) -> Change:
    differences = tuple(
        _difference(name, content.get(name), wanted)
        for name, wanted in thing.content.items()
        if not _has(content.get(name), wanted)
    )
    return Change(thing, Verdict.CHANGE if differences else Verdict.LEAVE, differences, there)


def _has(there: Any, wanted: Any) -> bool:
    """Whether all that is wanted is there. Axiom may add settings of its own to what it was given."""
    if isinstance(wanted, Mapping):
        return isinstance(there, Mapping) and all(_has(there.get(name), value) for name, value in wanted.items())
    if isinstance(wanted, list):
        return isinstance(there, list) and len(there) == len(wanted) and all(map(_has, there, wanted))
    return bool(there == wanted) and isinstance(there, bool) == isinstance(wanted, bool)


def _difference(name: str, there: Any, wanted: Any) -> str:
    if isinstance(wanted, list) and isinstance(there, list) and all(isinstance(each, dict) for each in wanted):
        return f"{name}: {', '.join(_elements(there, wanted))}"
    return f"{name}: {_short(there)} → {_short(wanted)}"


def _elements(there: Sequence[Any], wanted: Sequence[Mapping[str, Any]]) -> list[str]:
    before = {_id(each): each for each in there}
    after = {_id(each): each for each in wanted}
    return [
        *(f"+{name}" for name in after if name not in before),
        *(f"-{name}" for name in before if name not in after),
        *(f"~{name}" for name in after if name in before and not _has(before[name], after[name])),
    ] or ["order"]


def _id(element: Any) -> str:
    return str(element.get("id") or element.get("i")) if isinstance(element, Mapping) else str(element)


def _short(value: Any) -> str:
    text = "nothing" if value is None else str(value) if not isinstance(value, str) else repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"
