"""What may happen for each batch is said at most once a minute: a fault that lasts must not fill the log."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Final

from ..guard import say

MINUTE: Final = 60.0

DROPS_PER_LOG: Final = 100
"""Drops that one log line stands for."""


class PacedLog:
    """Says a thing, and then nothing for a minute."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._not_before = -MINUTE

    def warn(self, message: str, *args: object) -> bool:
        """Log a warning, if it is time. Whether it was."""
        if self._clock() < self._not_before:
            return False
        self._not_before = self._clock() + MINUTE
        say(logging.WARNING, message, *args)
        return True


class DropLog:
    """Says the first drop, and then each hundred."""

    def __init__(self) -> None:
        self._log = PacedLog()
        self._said = 0

    def look(self, dropped: Mapping[str, int]) -> None:
        """Log what was dropped in all, by reason, if there is enough that is new."""
        total = sum(dropped.values())
        if total and (self._said == 0 or total >= self._said + DROPS_PER_LOG):
            counts = ", ".join(f"{count} {reason}" for reason, count in dropped.items())
            if self._log.warn("usage was dropped, in all: %s", counts):
                self._said = total
