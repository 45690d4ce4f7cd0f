"""Where every span went. Nothing is lost silently: at every moment the columns add up to what was produced."""

from __future__ import annotations

import re
from collections import Counter, defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, Protocol

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
    """A place in the ledger where a span can be that has left the queue, by the name of its column."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    IN_FLIGHT = "in_flight"
    SPOOLED = "spooled"
    HANDED_OVER = "handed_over"

    __hash__ = str.__hash__  # an enum's own is a function of Python's, and each span asks for it several times


class Ledger:
    """The accounts behind :class:`LedgerSnapshot`, kept by double entry: a span enters once and then only moves, so
    that the books balance by construction. Thread-safe.

    A span enters by being put into the queue, without a lock, which each request would have to take: what is queued is
    what the queue holds, and is counted where it is asked for.
    """

    def __init__(self, queue: deque[Any] | None = None) -> None:
        """``queue``: what is put into it has been produced, and waits. None: nothing ever does."""
        self.queue: Final[deque[Any]] = deque() if queue is None else queue
        # Re-entrant: a garbage collection or a signal inside may end another span on the same thread. For the same
        # reason a count is read and written in one statement, and in a dict that runs no Python in between.
        self._lock = RLock()
        self._taken = 0
        """Produced, and not in the queue any more."""
        self._adopted = 0
        self._balances: dict[Account, int] = dict.fromkeys(Account, 0)
        self._dropped: defaultdict[str, int] = defaultdict(int)
        self.closed = False
        """Whether it is over, and nothing is to be put into the queue any more. What still comes is dropped."""

    def __getitem__(self, account: Account) -> int:
        return self._balances[account]

    def refuse(self) -> None:
        """A span has ended and was not queued: there is no room, or it is over."""
        with self._lock:
            self._taken += 1
            self._dropped["shutdown" if self.closed else "queue_full"] += 1

    def take(self, count: int) -> list[Any]:
        """Take spans out of the queue, oldest first, as many as ``count`` of them: they are in flight."""
        with self._lock:
            found = [self.queue.popleft() for _ in range(min(count, len(self.queue)))]
            self._taken += len(found)
            self._balances[Account.IN_FLIGHT] += len(found)
            return found

    def adopt(self, count: int, target: Account | str) -> None:
        """Spans of another process have been settled here: ``target`` as for :meth:`move`."""
        with self._lock:
            self._adopted += count
            self._credit(count, target)

    def move(self, count: int, source: Account, target: Account | str) -> None:
        """Move spans from one account to another, or out of the books: a plain string is the reason of a drop."""
        with self._lock:
            if self.closed:
                return  # counted when the ledger was closed, whatever becomes of them now
            self._balances[source] -= count
            self._credit(count, target)

    def close(self, perishable: int) -> None:
        """The end: drop what is queued or in flight, ``perishable`` spooled spans, and all that still comes."""
        with self._lock:
            self.move(self._balances[Account.IN_FLIGHT], Account.IN_FLIGHT, "shutdown")
            self.move(min(perishable, self._balances[Account.SPOOLED]), Account.SPOOLED, "shutdown")
            self.closed = True
            self._drop_queue()

    def snapshot(self) -> LedgerSnapshot:
        """All counts at one moment."""
        with self._lock:
            if self.closed:
                self._drop_queue()  # a thread that was about to put one into it may have done so since
            queued = len(self.queue)
            dropped = {reason: count for reason, count in self._dropped.items() if count}
            balances = {account.value: count for account, count in self._balances.items()}
            produced = self._taken + queued
            return LedgerSnapshot(produced=produced, adopted=self._adopted, dropped=dropped, queued=queued, **balances)

    def _drop_queue(self) -> None:
        while self.queue:
            self.queue.popleft()
            self.refuse()

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
