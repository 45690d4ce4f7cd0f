"""What an application says of a caller in plain words, and the identities that those amount to."""

from __future__ import annotations

from typing import Final, TypeVar, cast
from uuid import UUID

from .identity import KEY_OF, UsageIdentity, beyond_claim, coerce_tier
from .keyed_hash import KeyedHash
from .ledger import Drops, NotedDrops
from .schema import PROVENANCES

T = TypeVar("T")

CALLERS_LIMIT: Final = 16_384
"""Identities that are remembered at most: then all are forgotten. To make one again takes 5 µs."""

LONGEST_WORDS: Final = 1024
"""Characters of words that are remembered, in all: a client chooses how long its headers are."""


_ACCOUNTS: Final[tuple[type[object], ...]] = (str, int, UUID)


Words = tuple[object, object, object, object, object, object]
"""Customer, tier, plan, kind of authentication, credential and provenance: the arguments of ``identify()``, as they
came, of whatever type."""


class Callers:
    """Makes identities of words, and remembers those that nothing was wrong with: a customer calls again."""

    def __init__(self, auth_kinds: frozenset[str], hash_key: KeyedHash | None, drops: Drops) -> None:
        """``auth_kinds``: those that are known; ``hash_key`` makes principals, None: there are none; ``drops`` counts
        the words that are none.
        """
        self._auth_kinds = auth_kinds
        self._hash_key = hash_key
        self._drops = drops
        self._known: dict[Words, UsageIdentity] = {}

    def identity(self, words: Words) -> UsageIdentity:
        """What ``words`` amount to."""
        try:
            found = self._known.get(words)
        except TypeError:  # a word that cannot be looked up
            return self._made(words, remember=False)
        customer, tier = words[0], words[1]
        # The types that are looked at are those of which different ones may be equal, such as 1 and True.
        usual = type(customer) is str and (tier is None or type(tier) is int)
        return found if found is not None and usual else self._made(words, remember=usual)

    def _made(self, words: Words, *, remember: bool) -> UsageIdentity:
        if self._hash_key is None and isinstance(words[4], str):  # nobody wants it: it must not be kept, either
            words = (*words[:4], None, words[5])
            if remember and words in self._known:
                return self._known[words]
        noted = NotedDrops()
        made = self._read(words, noted)
        for name in noted.names:
            self._drops.add(name)
        if remember and not noted.names and sum(len(word) for word in words if isinstance(word, str)) <= LONGEST_WORDS:
            if len(self._known) >= CALLERS_LIMIT:
                self._known.clear()
            self._known[words] = made
        return made

    def _read(self, words: Words, drops: Drops) -> UsageIdentity:
        customer, tier, plan, auth_kind, principal, provenance = words
        account = of_type(drops, "usage.customer.id", customer, _ACCOUNTS)
        kind = known_word(drops, "usage.auth.kind", auth_kind, self._auth_kinds)
        secret = of_type(drops, "usage.principal.id", principal, str)
        facts = {
            "customer_id": None if account is None else str(account) or None,
            "plan": of_type(drops, "usage.plan", plan, str),
            "principal_id": self._hash_key(secret) if self._hash_key is not None and secret else None,
        }
        for name in beyond_claim(kind).intersection(facts):
            if facts[name] is not None:
                drops.add(KEY_OF[name])
        return UsageIdentity(
            **facts,
            tier=_tier(drops, tier) if provenance != "unavailable" else None,
            auth_kind=kind,
            provenance=known_word(drops, "usage.identity.provenance", provenance, PROVENANCES) or "unverified",
        )


def known_word(drops: Drops, key: str, value: object, values: frozenset[str] | tuple[str, ...]) -> str | None:
    """``value`` if it is a known one, else None, counted: a misspelt word must not become a value of its own."""
    word = of_type(drops, key, value, str)
    if word is None or word in values:
        return word
    drops.add(key)
    return None


def of_type(drops: Drops, key: str, value: object, types: type[T] | tuple[type[T], ...]) -> T | None:
    """``value`` if it is of one of ``types``, else None, counted: one bad argument must not cost the good ones.

    A string is plain then, also where it was a member of an enum.
    """
    if value is None or isinstance(value, bool) or not isinstance(value, types):
        if value is not None:
            drops.add(key)
        return None
    return cast("T", str.__str__(value)) if isinstance(value, str) else value


def _tier(drops: Drops, tier: object) -> int | None:
    found = coerce_tier(tier, None)
    if found is None and tier is not None:
        drops.add("usage.tier")
    return found
