"""Which of the libraries that are known here are installed, and which of their functions could be hooked."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from enum import StrEnum
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from itertools import takewhile

from .hooks import Hook, HookSet
from .integrations import INTEGRATIONS, Integration, hooks_in, waiting
from .unobserved import UNOBSERVED


class State(StrEnum):
    """What has become of an integration."""

    OBSERVED = "observed"
    IN_PART = "observed in part"
    NOT_OBSERVED = "not observed"
    NOT_INSTALLED = "not installed"


@dataclass(frozen=True, slots=True)
class Finding:
    """What is to be said of one library."""

    library: str
    role: str
    """What it is to its application. Empty: it is nothing that is known here."""
    state: State
    installed: str | None
    """The version. None: it is not installed, or comes with Python."""
    tested: str | None
    """The version that it is tested with. None: it comes with Python, or is not known here."""
    reasons: tuple[str, ...] = ()
    """Why it is not observed, or not all of it. Empty: nothing is in the way."""


def survey(integrations: Iterable[Integration] = INTEGRATIONS) -> tuple[Finding, ...]:
    """Import every library that is known and installed, and try to hook it. Nothing stays hooked.

    Also found is what is installed and observed by nothing here. It takes as long as importing all of them: this is not
    for a process that serves.
    """
    chosen = tuple(integrations)
    hooks = HookSet(waiting(chosen))
    hooks.install()
    try:
        known = [_finding(each, hooks) for each in chosen]
    finally:
        hooks.remove()
    return *known, *_unobserved()


def _finding(integration: Integration, hooks: HookSet) -> Finding:
    home = import_module(f"{__package__}.{integration.home}")
    tested = home.TESTED.get(integration.distribution)
    installed = _version(integration.distribution)
    if installed is None and integration.distribution:
        return Finding(integration.library, integration.role, State.NOT_INSTALLED, None, tested)
    needs = getattr(home, "NEEDS", {}).get(integration.distribution)
    if installed is not None and needs is not None and _numbers(installed) < _numbers(needs):
        too_old = f"it is observed from version {needs} on"
        return Finding(integration.library, integration.role, State.NOT_OBSERVED, installed, tested, (too_old,))
    places = obstacles = 0
    reasons: list[str] = []
    absent: list[str] = []
    for module in integration.modules:
        wanted = hooks_in(integration.home, module)
        error = _import_error(module)
        if error is not None and module in integration.optional:
            absent.append(f"{module} cannot be imported ({error})")
            continue  # without what it needs, the application cannot use it either
        found = _obstacles(module, wanted, hooks, error)
        places, obstacles = places + len(wanted), obstacles + len(found)
        reasons += dict.fromkeys(found.values())
    if absent and not places:
        places = obstacles = len(absent)
        reasons += absent
    state = _state(places, obstacles)
    return Finding(integration.library, integration.role, state, installed, tested, tuple(reasons))


def _state(places: int, obstacles: int) -> State:
    if not obstacles:
        return State.OBSERVED
    return State.IN_PART if obstacles < places else State.NOT_OBSERVED


def _import_error(module: str) -> str | None:
    """Import a module. The class of what it raises; None: nothing."""
    try:
        with warnings.catch_warnings(), redirect_stdout(sys.stderr):  # what it prints is no part of our answer
            warnings.simplefilter("ignore")  # what is deprecated is the application's concern
            import_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a library of any kind, without what it needs, or one that ends the process
        return type(error).__name__
    return None


def _obstacles(module: str, wanted: Iterable[Hook], hooks: HookSet, error: str | None) -> dict[Hook, str]:
    """The hooks that cannot be put into a module, each with what is in the way."""
    if error is not None:
        return dict.fromkeys(wanted, f"{module} cannot be imported ({error})")
    return {hook: f"{hook.module}.{hook.path} {hooks.obstacles[hook]}" for hook in wanted if hook in hooks.obstacles}


def _unobserved() -> Iterator[Finding]:
    for distribution, reason in UNOBSERVED.items():
        installed = _version(distribution)
        if installed is not None:
            yield Finding(distribution, "", State.NOT_OBSERVED, installed, None, (reason,))


def _numbers(version: str) -> tuple[int, ...]:
    """The numbers that a version begins with, to be compared."""
    return tuple(int(part) for part in takewhile(str.isdigit, version.split(".")))


def _version(distribution: str) -> str | None:
    try:
        return version(distribution) if distribution else None
    except PackageNotFoundError:
        return None
