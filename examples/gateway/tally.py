"""What a run of traffic has sent and seen: the count that telemetry is measured against."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class TrafficTally:
    """What was sent and what came back. Two tallies are equal if all their counts are."""

    requests: int = 0
    """Requests that the gateway has seen. One WebSocket connection is one request."""
    by_caller: Counter[tuple[str | None, int | None]] = field(default_factory=Counter)
    """Requests by customer and tier. None: not identified; not known."""
    by_reason: Counter[str] = field(default_factory=Counter)
    """Requests by the ``usage.reason`` that they must have."""
    by_route: Counter[str | None] = field(default_factory=Counter)
    """Requests by route template. None: answered before any route was reached, or there is no route."""
    by_status: Counter[int] = field(default_factory=Counter)
    """Requests by status code. 101 for a WebSocket."""
    response_bytes: Counter[str | None] = field(default_factory=Counter)
    """Bytes of response bodies by customer, as received, without the framing of chunks. WebSockets are left out."""
    websocket_bytes: Counter[str | None] = field(default_factory=Counter)
    """Bytes of text that WebSockets received, by customer."""
    upstream_calls: Counter[tuple[str | None, str]] = field(default_factory=Counter)
    """Attempts by customer and provider, each hop of a redirect included, as the gateway's own count says."""
    aborted: int = 0
    """Requests among :attr:`requests` that the caller cut off, after it had read all that was sent."""
    unexpected: Counter[str] = field(default_factory=Counter)
    """Answers with a status that the exchange cannot have: ``name: status``. They are in the counts above."""
    not_sent: int = 0
    """Requests that found no connection. They are in no other count: the gateway has not seen them."""
    unclear: Counter[str] = field(default_factory=Counter)
    """Requests that broke on the way, by exception. Whether the gateway has seen them is not known."""

    @property
    def exact(self) -> bool:
        """Whether the counts must be equal to what the gateway saw."""
        return not self.unclear and not self.unexpected
