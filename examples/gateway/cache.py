"""An in-memory cache in front of the providers: values, and failures that are worth remembering."""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

T = TypeVar("T")


class CacheStatus(StrEnum):
    """What a lookup found. The values are those of ``usage.cache.status``."""

    MISS = "miss"
    FRESH = "fresh"
    STALE = "stale-while-revalidate"
    """A value past its time. It is served once more to everybody while the first one to see it fetches a new one."""
    NEGATIVE = "neg-sentinel"
    """The provider said that there is no such thing."""


@dataclass(frozen=True, slots=True)
class Lookup(Generic[T]):
    """A status, and the value if there is one: None for ``MISS`` and ``NEGATIVE``."""

    status: CacheStatus
    value: T | None = None


@dataclass(slots=True)
class _Entry(Generic[T]):
    value: T | None
    fresh_until: float
    stale_until: float


class TtlCache(Generic[T]):
    """Keeps at most ``size`` entries, each fresh for ``ttl`` seconds and served stale for ``stale`` seconds more."""

    def __init__(
        self, ttl: float, stale: float = 0.0, size: int = 1024, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._ttl, self._stale, self._size, self._clock = ttl, stale, size, clock
        self._entries: OrderedDict[str, _Entry[T]] = OrderedDict()

    def get(self, key: str) -> Lookup[T]:
        """What is stored. Whoever is told ``STALE`` has to fetch: for everybody else the entry is fresh until then."""
        now = self._clock()
        entry = self._entries.get(key)
        if entry is None or now >= entry.stale_until:
            return Lookup(CacheStatus.MISS)
        if now < entry.fresh_until:
            return Lookup(CacheStatus.FRESH if entry.value is not None else CacheStatus.NEGATIVE, entry.value)
        # One caller fetches, not all of them. If that fails, the next one is asked after a further second.
        entry.fresh_until = now + 1.0
        return Lookup(CacheStatus.STALE, entry.value)

    def put(self, key: str, value: T | None) -> None:
        """Store a value, or that there is none. A stored failure is never served stale."""
        now = self._clock()
        fresh_until = now + self._ttl
        self._entries[key] = _Entry(value, fresh_until, fresh_until + (self._stale if value is not None else 0.0))
        self._entries.move_to_end(key)
        while len(self._entries) > self._size:
            self._entries.popitem(last=False)
