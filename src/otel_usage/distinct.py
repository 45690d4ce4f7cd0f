"""How many different values an attribute may have in the life of one process.

Hosts, routes and names are few where all is well. Where a client or a mistake makes an endless stream of them, the
first ones keep their names and the rest become ``_OTHER``: the memory here and the columns at the destination stay
bounded, and every span is still counted.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any, Final

from .forms import OTHER
from .ledger import Drops
from .schema import RecordKind, UsageEvent, allowed_on

CLAIMED_LIMIT: Final = 10_000
"""Different customers and plans that nobody has verified, at most. Verified ones are never folded: they are billed."""

NAMES_LIMIT: Final = 2_000
"""Different names of spans at most."""

SHARE: Final = 50
"""Of the values that clients choose, this many at most are remembered for what one customer has sent: nobody uses up
the room of the others."""

NAMING: Final[Mapping[str, frozenset[str]]] = {
    RecordKind.REQUEST: frozenset({"http.route"}),
    RecordKind.UPSTREAM: frozenset({"usage.provider", "usage.operation"}),
    RecordKind.LLM: frozenset({"gen_ai.provider.name", "gen_ai.request.model"}),
    RecordKind.CUSTOM: frozenset(),
}
"""The attributes that spans of each kind are named by."""

CHOSEN_BY_CLIENTS: Final = frozenset({"server.address", "usage.operation"})
"""The attributes of requests whose values clients choose."""

_LIMITS: Final = {
    place: tuple((attribute.key, attribute.distinct) for attribute in allowed_on(place).values() if attribute.distinct)
    for place in (*RecordKind, *UsageEvent)
}
_CLAIMS: Final = ("usage.customer.id", "usage.principal.id", "usage.plan")
_NAME: Final = "span:name"


class DistinctValues:
    """Remembers the values that have been seen, up to a limit for each attribute of each kind of record.

    Callers who are verified and strangers have room of their own, so that no stranger can use up the names that a
    customer's usage is told apart by.
    """

    def __init__(self) -> None:
        self._seen: defaultdict[tuple[str, str, bool], set[str]] = defaultdict(set)
        self._shares: Counter[tuple[str, str, str]] = Counter()

    def fold(
        self, place: str, attributes: dict[str, Any], drops: Drops, verified_customer: str | None = None
    ) -> frozenset[str]:
        """Put :data:`OTHER` in the place of values that have no more room. Returns their keys.

        Args:
            place: The kind of record, or the event, that has the attributes.
            attributes: Changed in place.
            drops: Counts what became :data:`OTHER`, by key.
            verified_customer: For whom it is. None: for nobody who was verified.
        """
        return self._folded(
            [
                key for key, limit in _LIMITS.get(place, ())
                if key in attributes and not self._room(place, key, attributes[key], limit, verified_customer)
            ],
            attributes,
            drops,
        )  # fmt: skip

    def fold_claims(self, attributes: dict[str, Any], drops: Drops) -> frozenset[str]:
        """The same for what says who is calling, where nobody has verified that."""
        return self._folded(
            [key for key in _CLAIMS if key in attributes and not self._room("", key, attributes[key], CLAIMED_LIMIT)],
            attributes,
            drops,
        )

    def _folded(self, keys: list[str], attributes: dict[str, Any], drops: Drops) -> frozenset[str]:
        for key in keys:
            attributes[key] = OTHER
            drops.add(f"distinct:{key}")
        return frozenset(keys)

    def name(self, name: str, fallback: str) -> str:
        """A span's name, or ``fallback`` where there is no more room for it."""
        return name if self._room("", _NAME, name, NAMES_LIMIT) else fallback

    def _room(self, place: str, key: str, value: object, limit: int, customer: str | None = None) -> bool:
        seen = self._seen[place, key, customer is not None]
        if not isinstance(value, str) or value in seen:
            return True
        if len(seen) >= limit:
            return False
        if customer is not None and place == RecordKind.REQUEST and key in CHOSEN_BY_CLIENTS:
            self._shares[place, key, customer] += 1  # of as many customers at most as there are values
            if self._shares[place, key, customer] > SHARE:
                return False
        seen.add(value)  # without a lock: as many threads may pass the limit by one each
        return True
