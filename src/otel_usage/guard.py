"""The one place where an error of our own is kept from the application: counted, logged once a site, and swallowed.

A message of an exception may hold what a customer sent, so the log names the error's class and where it was raised,
never its text.
"""

from __future__ import annotations

import functools
import logging
import re
from collections import Counter
from collections.abc import Callable
from traceback import extract_tb
from typing import Final, ParamSpec, TypeVar

from .errors import UsageError

P = ParamSpec("P")
T = TypeVar("T")
F = TypeVar("F")

logger: Final = logging.getLogger("otel_usage")

_errors: Final[Counter[str]] = Counter()


def internal_errors() -> dict[str, int]:
    """How often each guarded site of this process has failed. Empty when all is well."""
    return dict(_errors)


def report(site: str, error: BaseException) -> None:
    """Count an error of our own under ``site``, and log it the first time. Never raises."""
    _errors[site] += 1
    if _errors[site] == 1:
        try:
            described = _describe(error)
        except Exception:  # an exception's class is the application's, which may not even want to be looked at
            described = "an exception that cannot be described"
        say(logging.ERROR, "otel_usage failed in %s and goes on: %s", site, described)


def say(level: int, message: str, *args: object) -> None:
    """Log from a place that must go on: a logging handler of the application's may raise, which is not our failure."""
    try:
        logger.log(level, message, *args)
    except Exception:  # as it says
        _errors["guard.say"] += 1


def _describe(error: BaseException) -> str:
    if isinstance(error, UsageError):
        return str(error)  # our own words, which hold no secret
    from .redaction import redact  # where it is needed: this module is loaded where usage is off, too

    name = redact(type(error).__qualname__)  # a class may be made at run time, and named by anything
    frames = extract_tb(error.__traceback__)
    if isinstance(error, TypeError) and len(frames) == 1:
        # The arguments did not fit: the interpreter's own words, which hold no values, but the names of keywords.
        return f"{name}: {_QUOTED.sub(_identifier, str(error))}"
    where = f" at {frames[-1].name}:{frames[-1].lineno}" if frames else ""
    return name + where


_QUOTED: Final = re.compile("'([^']*)'")


def _identifier(quoted: re.Match[str]) -> str:
    """What was quoted, if it can be a name in somebody's code and not only in somebody's data."""
    from .redaction import redact

    plain = quoted[1].isidentifier() and len(quoted[1]) <= 40 and redact(quoted[1]) == quoted[1]
    return quoted[0] if plain else "'…'"


def guarded(fallback: F) -> Callable[[Callable[P, T]], Callable[P, T | F]]:
    """Make a function return ``fallback`` where it would have raised an Exception."""

    def decorate(function: Callable[P, T]) -> Callable[P, T | F]:
        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T | F:
            try:
                return function(*args, **kwargs)
            except Exception as error:  # the promise of this module
                report(f"{function.__module__.removeprefix('otel_usage.')}.{function.__qualname__}", error)
                return fallback

        return call

    return decorate
