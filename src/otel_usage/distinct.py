"""How many different values an attribute may have in the life of one process.

Hosts, routes and names are few where all is well. Where a client or a mistake makes an endless stream of them, the
first ones keep their names and the rest become ``_OTHER``: the memory here and the columns at the destination stay
bounded, and every span is still counted.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Final

from .forms import OTHER
from .ledger import DropCounter
from .schema import BY_KEY

CLAIMED_LIMIT: Final = 10_000
"""Different customers and plans that nobody has verified, at most. Verified ones are never folded: they are billed."""

NAMES_LIMIT: Final = 2_000
"""Different names of spans at most."""

_LIMITS: Final = {attribute.key: attribute.distinct for attribute in BY_KEY.values() if attribute.distinct}
_CLAIMS: Final = ("usage.customer.id", "usage.principal.id", "usage.plan")
_NAME: Final = "span:name"


class DistinctValues:
    """Remembers the values that have been seen, up to a limit for each attribute.

    Callers who are verified and strangers have room of their own, so that no stranger can use up the names that a
    customer's usage is told apart by.
    """

    def __init__(self, drops: DropCounter) -> None:
        """``drops`` counts what became :data:`OTHER`, by key."""
        self._drops = drops
        self._seen: defaultdict[tuple[str, bool], set[str]] = defaultdict(set)

    def fold(self, attributes: dict[str, Any]) -> bool:
        """Put :data:`OTHER` in the place of values that have no more room. Returns whether there were any."""
        provenance = attributes.get("usage.identity.provenance")
        vouched = provenance == "verified" and "usage.customer.id" in attributes
        folded = [
            key for key in attributes.keys() & _LIMITS.keys()
            if not self._room(key, attributes[key], _LIMITS[key], vouched)
        ]  # fmt: skip
        if provenance == "unverified":
            folded += [
                key for key in _CLAIMS if key in attributes and not self._room(key, attributes[key], CLAIMED_LIMIT)
            ]
        for key in folded:
            attributes[key] = OTHER
            self._drops.add(f"distinct:{key}")
        return bool(folded)

    def name(self, name: str, fallback: str) -> str:
        """A span's name, or ``fallback`` where there is no more room for it."""
        return name if self._room(_NAME, name, NAMES_LIMIT) else fallback

    def _room(self, key: str, value: object, limit: int, vouched: bool = False) -> bool:
        seen = self._seen[key, vouched]
        if not isinstance(value, str) or value in seen:
            return True
        if len(seen) >= limit:
            return False
        seen.add(value)  # without a lock: as many threads may pass the limit by one each
        return True
