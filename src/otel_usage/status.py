"""How usage is doing: what ``health()`` and ``flush()`` answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .ledger import LedgerSnapshot

_NOTHING = LedgerSnapshot()


@dataclass(frozen=True, slots=True)
class EncoderHealth:
    """How well the encoder does, which remembers what spans have in common. Counts are of this process since it started
    (or was forked).
    """

    written: int = 0
    """Spans of requests, upstream and model calls that were put together of what is remembered."""
    misses: int = 0
    """Times that a part of these was not remembered and had to be worked out (some 25 µs): two for a span at most, for
    its caller and for its other facts. Where it keeps up with ``written``, something makes values without end.
    """
    remembered: int = 0
    """Callers and sets of facts that are remembered now."""
    official: int = 0
    """Spans that were left to OpenTelemetry's own encoder: those that ours does not know how to write."""


@dataclass(frozen=True, slots=True)
class UsageHealth:
    """The state of this process's pipeline."""

    status: str
    """``ok``; ``degraded``: something keeps usage from being delivered; ``off``: usage is not running."""
    hindrance: str | None = None
    """What keeps it, in a word (``timeout``, ``http_401``, ``no_token``). None: nothing."""
    breaker: str = "closed"
    """The circuit breaker: ``closed``, ``open`` or ``half_open``."""
    spool_trouble: str | None = None
    """Why what cannot be sent is not kept on disk (``the disk is full``). None: it is, or it is not meant to be."""
    spool_size: int = 0
    """Bytes in the spool, of all processes that share it."""
    queue_capacity: int = 0
    """Spans that the queue takes."""
    ledger: LedgerSnapshot = _NOTHING
    attributes_dropped: Mapping[str, int] = field(default_factory=dict)
    """What the allowlist kept from leaving, by attribute key: never a value."""
    internal_errors: Mapping[str, int] = field(default_factory=dict)
    """Errors of this package's own that were kept from the application, by site."""
    encoder: EncoderHealth | None = None
    """None: there is none, because usage is off, or there is nowhere to send it."""


@dataclass(frozen=True, slots=True)
class FlushReport:
    """What had become of this process's spans when ``flush()`` returned. Counts since the process started."""

    complete: bool
    """Whether nothing is left to send."""
    accepted: int
    rejected: int
    dropped: int
    spooled: int
    """Spans kept for later: on disk, unless ``USAGE_SPOOL`` says otherwise."""
    queued: int
    """Spans still waiting in the queue or being sent."""

    @classmethod
    def of(cls, ledger: LedgerSnapshot) -> FlushReport:
        """The report that a ledger amounts to."""
        dropped, queued = sum(ledger.dropped.values()), ledger.queued + ledger.in_flight
        return cls(ledger.left == 0, ledger.accepted, ledger.rejected, dropped, ledger.spooled, queued)


OFF = UsageHealth("off")
"""The health of a process in which usage is not running."""
EMPTY_FLUSH = FlushReport.of(_NOTHING)
"""The report of a process in which usage is not running."""
