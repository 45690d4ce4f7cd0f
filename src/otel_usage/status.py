"""How usage is doing: what ``health()`` and ``flush()`` answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .ledger import LedgerSnapshot

_NOTHING = LedgerSnapshot(produced=0, accepted=0, rejected=0, dropped={}, queued=0, in_flight=0)


@dataclass(frozen=True, slots=True)
class UsageHealth:
    """The state of this process's pipeline."""

    status: str
    """``ok``; ``degraded``: something keeps usage from being delivered; ``off``: usage is not running."""
    hindrance: str | None = None
    """What keeps it, in a word (``timeout``, ``http_401``, ``no_token``). None: nothing."""
    breaker: str = "closed"
    """The circuit breaker: ``closed``, ``open`` or ``half_open``."""
    ledger: LedgerSnapshot = _NOTHING
    attributes_dropped: Mapping[str, int] = field(default_factory=dict)
    """What the allowlist kept from leaving, by attribute key: never a value."""
    internal_errors: Mapping[str, int] = field(default_factory=dict)
    """Errors of this package's own that were kept from the application, by site."""


@dataclass(frozen=True, slots=True)
class FlushReport:
    """What had become of this process's spans when ``flush()`` returned. Counts since the process started."""

    complete: bool
    """Whether nothing is left to send."""
    accepted: int
    rejected: int
    dropped: int
    queued: int
    """Spans still waiting or being sent."""

    @classmethod
    def of(cls, ledger: LedgerSnapshot) -> FlushReport:
        """The report that a ledger amounts to."""
        left = ledger.queued + ledger.in_flight
        return cls(left == 0, ledger.accepted, ledger.rejected, sum(ledger.dropped.values()), left)


OFF = UsageHealth("off")
"""The health of a process in which usage is not running."""
EMPTY_FLUSH = FlushReport.of(_NOTHING)
"""The report of a process in which usage is not running."""
