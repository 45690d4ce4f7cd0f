"""Bounds what other people's code may take while it makes texts of a text: time, and the length of a text.

A translator that writes an argument down several times makes gigabytes of a hundred characters that are nested well.
It has no bound of its own, and nothing from outside ends it but what Python calls as it runs.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from .errors import QueryError, QueryTimeoutError


@contextmanager
def bounded(seconds: float, characters: int) -> Iterator[None]:
    """What is called within, on this thread, ends after so long, or as soon as a function returns a longer text.

    Raises:
        QueryTimeoutError: it took too long.
        QueryError: it made a text that is too long.
    """
    end = time.monotonic() + seconds

    def look(frame: FrameType, event: str, value: Any) -> None:
        if event == "return":
            if type(value) is str and len(value) > characters:
                raise QueryError(f"the query becomes longer than {characters:,} characters of SQL: nest less")
        elif event == "call" and time.monotonic() > end:
            raise QueryTimeoutError(f"the query was stopped: its translation may take {seconds:g} s")

    before = sys.getprofile()
    sys.setprofile(look)
    try:
        yield
    finally:
        sys.setprofile(before)
