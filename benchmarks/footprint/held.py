"""What is kept alive: looks through everything that the garbage collector knows of for bytes and text with a mark."""

from __future__ import annotations

import gc
from collections.abc import Iterable
from types import FrameType, FunctionType, ModuleType
from typing import Any, Final

_TEXT: Final = (bytes, bytearray, str)
_ELSEWHERE: Final = (type, ModuleType, FunctionType, FrameType)
"""What is not gone into from an object that is not tracked: it is tracked itself, or leads everywhere."""


def holders(mark: str) -> dict[str, int]:
    """How many values with ``mark`` in them are referred to, by the type of what refers to them.

    ``mark`` itself, and what the caller made it of, must not be referred to by anything that is tracked.
    """
    gc.collect()
    found: dict[str, int] = {}
    seen: set[int] = set()
    for holder in gc.get_objects():
        for value in _texts(holder, seen):
            if value is not mark and marked(value, mark):
                name = type(holder).__qualname__
                found[name] = found.get(name, 0) + 1
    return found


def marked(value: bytes | bytearray | str, mark: str) -> bool:
    """Whether ``mark`` is a part of a value."""
    return mark in value if isinstance(value, str) else mark.encode() in value


def _texts(holder: Any, seen: set[int]) -> Iterable[bytes | bytearray | str]:
    """The values that an object refers to, directly or by way of objects that the collector does not track: dicts and
    tuples of nothing but values are not.
    """
    waiting = [holder]
    while waiting:
        for referent in gc.get_referents(waiting.pop()):
            if id(referent) in seen:
                continue
            if isinstance(referent, _TEXT):
                seen.add(id(referent))
                yield referent
            elif not gc.is_tracked(referent) and not isinstance(referent, _ELSEWHERE):
                seen.add(id(referent))
                waiting.append(referent)
