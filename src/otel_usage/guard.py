"""The one place where an error of our own is kept from the application: counted, logged once a site, and swallowed.

A message of an exception may hold what a customer sent, so the log names the error's class and where it was raised,
never its text.
"""

from __future__ import annotations

import functools
import logging
import re
import signal
from collections import Counter
from collections.abc import Callable
from traceback import extract_tb, walk_tb
from typing import Final, ParamSpec, TypeVar

from .errors import ConfigError, CustomerMapError

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


def _from_outside(error: BaseException) -> bool:
    """Whether the application was to be interrupted and we were in the way: by a signal's handler that raises, as time
    limits of RQ and Celery do, or by RQ's on a thread. To swallow that would have it run on without a limit.
    """
    try:
        if any((base.__module__, base.__name__) == _ON_A_THREAD for base in type(error).__mro__):
            return True
    except Exception:  # as in `report`
        return False
    codes = {frame.f_code for frame, _ in walk_tb(error.__traceback__)}
    handlers = (signal.getsignal(each) for each in signal.valid_signals())
    return any(getattr(handler, "__code__", None) in codes for handler in map(_function, handlers))


_ON_A_THREAD: Final = "rq.timeouts", "BaseTimeoutException"


def _function(handler: object) -> object:
    return getattr(handler, "__func__", handler)  # of a method


def _describe(error: BaseException) -> str:
    if _ours(error):
        return str(error)  # in words that hold no secret
    from .redaction import redact  # where it is needed: this module is loaded where usage is off, too

    name = redact(type(error).__qualname__)  # a class may be made at run time, and named by anything
    frames = extract_tb(error.__traceback__)
    misfit = _MISFIT.match(str(error)) if type(error) is TypeError and len(frames) == 1 else None
    if misfit is not None:
        return f"{name}: {misfit[0]}"
    where = f" at {frames[-1].name}:{frames[-1].lineno}" if frames else ""
    return name + where


def _ours(error: BaseException) -> bool:
    """Whether it was raised by this package. The classes are public: an application may raise or extend them, too."""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    place = str(last.tb_frame.f_globals.get("__name__")) if last is not None else ""
    return type(error) in (ConfigError, CustomerMapError) and place.startswith(f"{__package__}.")


# What the interpreter says where arguments do not fit a function. It names those that are missing, which the function
# calls so. A keyword that is unknown may be somebody's data, and is left out.
_MISFIT: Final = re.compile(
    r"[\w.<>]+\(\) (?:missing \d+ required [a-z -]+: '\w+'(?:(?:, |,? and )'\w+')*$"
    r"|takes [a-z0-9 ]+ arguments? but \d+ (?:was|were) given|got an unexpected keyword argument)"
)


def settle(site: str, error: Exception) -> None:
    """What :func:`guarded` does with an error, for functions that are called too often for its wrapper: to be
    called where the error was caught. It goes on where it is to interrupt the application, and nowhere else.
    """
    if _from_outside(error):
        raise error
    report(site, error)


def guarded(fallback: F) -> Callable[[Callable[P, T]], Callable[P, T | F]]:
    """Make a function return ``fallback`` where it would have raised an Exception."""

    def decorate(function: Callable[P, T]) -> Callable[P, T | F]:
        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T | F:
            try:
                return function(*args, **kwargs)
            except Exception as error:  # the promise of this module
                settle(f"{function.__module__.removeprefix('otel_usage.')}.{function.__qualname__}", error)
                return fallback

        return call

    return decorate
