"""Where every span went. Nothing is lost silently: at every moment the columns add up to what was produced."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LedgerSnapshot:
    """The ledger at one moment. All counts are spans of this process since it started (or was forked)."""

    produced: int
    """Ended and handed to the processor."""
    accepted: int
    """Taken by the sink."""
    rejected: int
    """Refused by the sink for good, one by one."""
    dropped: Mapping[str, int]
    """Given up here, by reason: ``queue_full``, ``shutdown``, ``too_large``, ``unencodable``, ``no_token``."""
    queued: int
    """Waiting to be sent."""
    in_flight: int
    """Being sent."""

    def __str__(self) -> str:
        dropped = ", ".join(f"{count} {reason}" for reason, count in sorted(self.dropped.items()))
        return (
            f"{self.produced} spans produced = {self.accepted} accepted + {self.rejected} rejected + "
            f"{sum(self.dropped.values())} dropped{f' ({dropped})' if dropped else ''} + {self.queued} queued + "
            f"{self.in_flight} in flight"
        )

    @property
    def delivered(self) -> bool:
        """Whether the sink has taken everything that was produced."""
        return self.accepted == self.produced

    @property
    def balanced(self) -> bool:
        """Whether everything produced is somewhere. It always is; tests ask after every fault."""
        settled = self.accepted + self.rejected + sum(self.dropped.values())
        return self.produced == settled + self.queued + self.in_flight


class Ledger:
    """The counters behind :class:`LedgerSnapshot`. Not thread-safe: its owner holds a lock."""

    def __init__(self) -> None:
        self.produced = 0
        self.accepted = 0
        self.rejected = 0
        self.in_flight = 0
        self.dropped: Counter[str] = Counter()

    def snapshot(self, queued: int) -> LedgerSnapshot:
        """The counts now, with ``queued`` spans in the owner's queue."""
        return LedgerSnapshot(
            self.produced, self.accepted, self.rejected, dict(self.dropped), queued, self.in_flight
        )  # fmt: skip


class DropCounter:
    """Counts by name, for a bounded number of names: what the allowlist dropped, by key."""

    LIMIT = 256
    """Names that are told apart; later ones count as ``_other``, so that a hostile caller cannot fill the memory."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def add(self, name: object, count: int = 1) -> None:
        """Count ``name``, cut to 64 characters. Approximate under contention, which is good enough for a hint."""
        key = name[:64] if isinstance(name, str) else "_not_a_string"
        known = key in self._counts or len(self._counts) < self.LIMIT
        self._counts[key if known else "_other"] += count

    def counts(self) -> dict[str, int]:
        """The counts now."""
        return dict(self._counts)
