"""Drops are logged, but not one by one."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

from ..guard import say

DROPS_PER_LOG: Final = 100
"""Drops that one log line stands for."""


class DropLog:
    """Says the first drop, and then each hundred."""

    def __init__(self) -> None:
        self._said = 0

    def look(self, dropped: Mapping[str, int]) -> None:
        """Log what was dropped in all, by reason, if there is enough that is new."""
        total = sum(dropped.values())
        if total and (self._said == 0 or total >= self._said + DROPS_PER_LOG):
            self._said = total
            counts = ", ".join(f"{count} {reason}" for reason, count in dropped.items())
            say(logging.WARNING, "usage was dropped, in all: %s", counts)
