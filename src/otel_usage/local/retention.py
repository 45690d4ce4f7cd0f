"""Removes spans from a store when they are older than is wanted."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from .errors import StoreError
from .store import UsageStore

EVERY: Final = timedelta(hours=1)
"""How often it looks."""

_LOG: Final = logging.getLogger(__name__)
_JOIN_SECONDS: Final = 30.0


def _now() -> datetime:
    return datetime.now(UTC)


class Retention:
    """Looks at once and then every hour, on a thread of its own, until it is closed."""

    def __init__(
        self,
        store: UsageStore,
        keep: timedelta,
        *,
        now: Callable[[], datetime] = _now,
        every: timedelta = EVERY,
    ) -> None:
        """``keep``: how old a span may be."""
        self._store = store
        self._keep = keep
        self._now = now
        self._every = every.total_seconds()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="otel-usage-retention", daemon=True)
        self.removed = 0
        """Spans that were removed until now."""

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """End, and wait for what has been begun."""
        self._closing.set()
        if self._thread.ident is not None:
            self._thread.join(_JOIN_SECONDS)

    def _run(self) -> None:
        while True:
            try:
                self.removed += self._store.remove_before(self._now() - self._keep)
            except StoreError as error:
                _LOG.error("spans that are too old are still there: %s", error)
            if self._closing.wait(self._every):
                return
