"""Where every span went. Nothing is lost silently: at every moment the columns add up to what was produced."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Protocol

from .native import RLock
from .redaction import redact


@dataclass(frozen=True, slots=True)
class LedgerSnapshot:
    """The ledger at one moment. All counts are spans, of this process since it started (or was forked)."""

    produced: int = 0
    """Ended and handed to the processor."""
    accepted: int = 0
    """Taken by the sink."""
    rejected: int = 0
    """Refused by the sink for good, one by one."""
    dropped: Mapping[str, int] = field(default_factory=dict)
    """Given up here, by reason: ``queue_full``, ``shutdown``, ``too_large``, ``unencodable``, ``no_token``,
    ``spool_full``, ``spool_expired``, ``spool_damaged`` (one batch), ``spool_lost`` (with a file)."""
    queued: int = 0
    """Waiting in memory to be sent or spooled."""
    in_flight: int = 0
    """Being sent for the first time, and not in the spool."""
    spooled: int = 0
    """Produced here and kept in the spool. They stay there when the process ends, unless the spool is in memory."""
    adopted: int = 0
    """Produced by another process that left them in the spool, and settled here. They count as accepted, rejected or
    dropped beside the process's own."""
    handed_over: int = 0
    """Produced and spooled here, and taken from the spool by another process, whose ledger has them as adopted."""

    def __str__(self) -> str:
        dropped = ", ".join(f"{count} {reason}" for reason, count in sorted(self.dropped.items()))
        entered = f"{self.produced} spans produced" + (f" + {self.adopted} adopted" if self.adopted else "")
        return (
            f"{entered} = {self.accepted} accepted + {self.rejected} rejected + "
            f"{sum(self.dropped.values())} dropped{f' ({dropped})' if dropped else ''} + {self.queued} queued + "
            f"{self.in_flight} in flight + {self.spooled} spooled + {self.handed_over} handed over"
        )

    @property
    def left(self) -> int:
        """Spans that are still on their way."""
        return self.queued + self.in_flight + self.spooled

    @property
    def delivered(self) -> bool:
        """Whether the sink has taken everything, from here or by the hands of another process."""
        return self.accepted + self.handed_over == self.produced + self.adopted

    @property
    def balanced(self) -> bool:
        """Whether every span is somewhere. It always is; tests ask after every fault."""
        settled = self.accepted + self.rejected + sum(self.dropped.values())
        return self.produced + self.adopted == settled + self.left + self.handed_over


class Account(StrEnum):
    """A place in the ledger where a span can be, by the name of its column."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    QUEUED = "queued"
    IN_FLIGHT = "in_flight"
    SPOOLED = "spooled"
    HANDED_OVER = "handed_over"

    __hash__ = str.__hash__  # an enum's own is a function of Python's, and each span asks for it several times


class Ledger:
    """The accounts behind :class:`LedgerSnapshot`, kept by double entry: a span enters once and then only moves, so
    that the books balance by construction. Thread-safe.
    """

    def __init__(self) -> None:
        # Re-entrant: a garbage collection or a signal inside may end another span on the same thread. For the same
        # reason a count is read and written in one statement, and in a dict that runs no Python in between.
        self._lock = RLock()
        self._produced = 0
        self._adopted = 0
        self._balances: dict[Account, int] = dict.fromkeys(Account, 0)
        self._dropped: defaultdict[str, int] = defaultdict(int)
        self._closed = False

    def __getitem__(self, account: Account) -> int:
        return self._balances[account]

    def produce(self, limit: int) -> int:
        """A span has ended: it is queued, unless ``limit`` are. The number that are queued now; 0: it was dropped."""
        with self._lock:
            self._produced += 1
            if self._closed or self._balances[Account.QUEUED] >= limit:
                self._dropped["shutdown" if self._closed else "queue_full"] += 1
                return 0
            self._balances[Account.QUEUED] += 1
            return self._balances[Account.QUEUED]

    def adopt(self, count: int, target: Account | str) -> None:
        """Spans of another process have been settled here: ``target`` as for :meth:`move`."""
        with self._lock:
            self._adopted += count
            self._credit(count, target)

    def move(self, count: int, source: Account, target: Account | str) -> None:
        """Move spans from one account to another, or out of the books: a plain string is the reason of a drop."""
        with self._lock:
            if self._closed:
                return  # counted when the ledger was closed, whatever becomes of them now
            self._balances[source] -= count
            self._credit(count, target)

    def close(self, perishable: int) -> None:
        """The end: drop what is queued or in flight, ``perishable`` spooled spans, and all that still comes."""
        with self._lock:
            self.move(self._balances[Account.QUEUED], Account.QUEUED, "shutdown")
            self.move(self._balances[Account.IN_FLIGHT], Account.IN_FLIGHT, "shutdown")
            self.move(min(perishable, self._balances[Account.SPOOLED]), Account.SPOOLED, "shutdown")
            self._closed = True

    def snapshot(self) -> LedgerSnapshot:
        """All counts at one moment."""
        with self._lock:
            dropped = {reason: count for reason, count in self._dropped.items() if count}
            balances = {account.value: count for account, count in self._balances.items()}
            return LedgerSnapshot(produced=self._produced, adopted=self._adopted, dropped=dropped, **balances)

    def _credit(self, count: int, target: Account | str) -> None:
        if isinstance(target, Account):
            self._balances[target] += count
        else:
            self._dropped[target] += count


_KEY: Final = re.compile(r"[a-z][a-z0-9_.]{0,63}")
_PREFIXES: Final = frozenset({"baggage", "distinct", "event", "identify", "job", "redacted", "span"})
"""What has happened, in names that are counted as ``prefix:key``."""


class Drops(Protocol):
    """Where it is told what was dropped."""

    def add(self, name: object, count: int = 1) -> None:
        """Count ``name``, which is a key, or ``prefix:key`` with one of a few prefixes."""


class NotedDrops:
    """Notes what was dropped, to be counted as often as it happens again."""

    def __init__(self) -> None:
        self.names: list[object] = []

    def add(self, name: object, count: int = 1) -> None:
        self.names += [name] * count


class DropCounter:
    """Counts by name, for a bounded number of names: what the allowlist dropped, by key."""

    LIMIT = 256
    """Names that are told apart; later ones count as ``_other``, so that a hostile caller cannot fill the memory."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def add(self, name: object, count: int = 1) -> None:
        """Count ``name``. Approximate under contention, which is good enough for a hint.

        An application may make a key of anything, and the counts are shown: what has not the form of an attribute's key
        counts as ``_unknown``.
        """
        key = name if isinstance(name, str) and name in self._counts else _counted(name)
        if key not in self._counts and len(self._counts) >= self.LIMIT:
            key = "_other"
        self._counts[key] += count

    def counts(self) -> dict[str, int]:
        """The counts now."""
        return dict(self._counts)


def _counted(name: object) -> str:
    """``name`` as it is shown: what is not written as keys are (OpenTelemetry's naming of attributes) may be data."""
    if not isinstance(name, str):
        return "_not_a_string"
    prefix, colon, _ = name.partition(":")
    start = f"{prefix}:" if colon and prefix in _PREFIXES else ""
    key = name[len(start) :]
    return start + (key if _KEY.fullmatch(key) and redact(key) == key else "_unknown")
