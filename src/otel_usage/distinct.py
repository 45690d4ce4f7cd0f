"""How many different values an attribute may have in the life of one process.

Hosts, routes and names are few where all is well. Where a client or a mistake makes an endless stream of them, the
first ones keep their names and the rest become ``_OTHER``: the memory here and the columns at the destination stay
bounded, and every span is still counted.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any, Final

from .forms import OTHER
from .ledger import DropCounter
from .schema import RecordKind, UsageEvent, allowed_on

CLAIMED_LIMIT: Final = 10_000
"""Different customers and plans that nobody has verified, at most. Verified ones are never folded: they are billed."""

NAMES_LIMIT: Final = 2_000
"""Different names of spans at most."""

SHARE: Final = 50
"""Of the values that clients choose, this many at most are remembered for what one customer has sent: nobody uses up
the room of the others."""

NAMING: Final = frozenset(
    {"http.route", "usage.provider", "usage.operation", "gen_ai.provider.name", "gen_ai.request.model"}
)
"""The attributes that spans are named by."""

_LIMITS: Final = {
    place: tuple((attribute.key, attribute.distinct) for attribute in allowed_on(place).values() if attribute.distinct)
    for place in (*RecordKind, *UsageEvent)
}
_CLAIMS: Final = ("usage.customer.id", "usage.principal.id", "usage.plan")
_CHOSEN_BY_CLIENTS: Final = frozenset({(RecordKind.REQUEST.value, "server.address")})
_NAME: Final = "span:name"


class DistinctValues:
    """Remembers the values that have been seen, up to a limit for each attribute of each kind of record.

    Callers who are verified and strangers have room of their own, so that no stranger can use up the names that a
    customer's usage is told apart by.
    """

    def __init__(self, drops: DropCounter) -> None:
        """``drops`` counts what became :data:`OTHER`, by key."""
        self._drops = drops
        self._seen: defaultdict[tuple[str, str, bool], set[str]] = defaultdict(set)
        self._shares: Counter[tuple[str, str, str]] = Counter()

    def fold(self, place: str, attributes: dict[str, Any]) -> frozenset[str]:
        """Put :data:`OTHER` in the place of values that have no more room. Returns their keys."""
        provenance = attributes.get("usage.identity.provenance")
        customer = attributes.get("usage.customer.id") if provenance == "verified" else None
        folded = [
            key for key, limit in _LIMITS.get(place, ())
            if key in attributes and not self._room(place, key, attributes[key], limit, customer)
        ]  # fmt: skip
        if provenance == "unverified":
            folded += [
                key for key in _CLAIMS if key in attributes and not self._room("", key, attributes[key], CLAIMED_LIMIT)
            ]
        for key in folded:
            attributes[key] = OTHER
            self._drops.add(f"distinct:{key}")
        return frozenset(folded)

    def name(self, name: str, fallback: str) -> str:
        """A span's name, or ``fallback`` where there is no more room for it."""
        return name if self._room("", _NAME, name, NAMES_LIMIT) else fallback

    def _room(self, place: str, key: str, value: object, limit: int, customer: str | None = None) -> bool:
        seen = self._seen[place, key, customer is not None]
        if not isinstance(value, str) or value in seen:
            return True
        if len(seen) >= limit:
            return False
        if customer is not None and (place, key) in _CHOSEN_BY_CLIENTS:
            self._shares[place, key, customer] += 1  # of as many customers at most as there are values
            if self._shares[place, key, customer] > SHARE:
                return False
        seen.add(value)  # without a lock: as many threads may pass the limit by one each
        return True
