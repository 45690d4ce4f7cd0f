"""Who is calling, and how what becomes known about it fits together. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from .schema import PROVENANCES

TIER_LIMIT: Final = 10**9
"""A tier is below it. Anything above is no tier, and would not fit into the data."""

_ANYTHING: Final = frozenset({"customer_id", "tier", "plan", "principal_id"})
_NOTHING: Final[frozenset[str]] = frozenset()

CLAIMS: Final[Mapping[str | None, frozenset[str]]] = {
    "jwt": _ANYTHING,  # what the verified token says: the organisation, else the user
    "user_api_key": _ANYTHING,  # for the key's owner, else the account that calls with it
    "enterprise_api_key": _ANYTHING,  # for the customer that the map names for the key's digest
    "widget_key": _ANYTHING,  # for the key's owner: it stands in public pages, and proves no more than that
    "mcp_oauth": _ANYTHING,  # for the account that the client was authorised by
    "internal": _ANYTHING,  # for the customer that the service of one's own works for, else the service
    "anon": _NOTHING,  # nobody: no customer, no plan, no credential, and always tier 0
}
"""What each kind of authentication may say of a caller: the facts of a :class:`UsageIdentity` that it may carry.

A kind that an application has registered, and none at all, may carry each of them. How far a claim is believed is
another matter, and told by its provenance.
"""


def beyond_claim(auth_kind: str | None) -> frozenset[str]:
    """The facts that a kind of authentication may not claim (:data:`CLAIMS`). Empty for most."""
    return _ANYTHING - CLAIMS.get(auth_kind, _ANYTHING)


@dataclass(frozen=True, slots=True)
class UsageIdentity:
    """Who a request is counted for. None: not known.

    It holds no more than its kind of authentication may claim (:data:`CLAIMS`): an ``anon`` has no customer, no plan,
    no principal, and tier 0. A tier that is none (see :func:`coerce_tier`) is not known, nor is tier 0 where the tier
    could not be read; a provenance that is none is ``unverified``.
    """

    customer_id: str | None = None
    """The account that is billed."""
    tier: int | None = None
    """The customer's tier, 0 or more. 0 is anonymous or free; None is not known, which is not 0."""
    plan: str | None = None
    auth_kind: str | None = None
    """How the caller was authenticated: one of ``schema.AUTH_KINDS`` or a registered kind."""
    principal_id: str | None = None
    """The credential, as a keyed hash. Never the credential itself."""
    provenance: str = "unavailable"
    """``verified``, ``unverified`` or ``unavailable``."""
    known: bool = field(init=False, repr=False, compare=False)
    """Whether anybody has said who is calling, be it only that the caller is anonymous."""

    def __post_init__(self) -> None:
        # Here and not where identities are made, so that it holds also of an application's own and of merged ones.
        # Plain, because the member of an enum that equals a string is not found where the string is looked up, and what
        # is remembered of one of two equal identities must hold for the other.
        for name in _TEXTS:
            text = getattr(self, name)
            if type(text) is not str and isinstance(text, str):
                object.__setattr__(self, name, str.__str__(text))
        kind = self.auth_kind if isinstance(self.auth_kind, str) else None
        object.__setattr__(self, "auth_kind", kind)
        if not isinstance(self.provenance, str) or self.provenance not in _SURENESS:
            object.__setattr__(self, "provenance", "unverified")
        for name in beyond_claim(kind):
            object.__setattr__(self, name, None)
        tier = coerce_tier(self.tier, kind)
        unread = tier == 0 and self.provenance == "unavailable" and kind != "anon"
        object.__setattr__(self, "tier", None if unread else tier)
        object.__setattr__(self, "known", self.customer_id is not None or kind is not None)

    def __hash__(self) -> int:
        # Of what tells most of them apart: it is asked for with each span.
        return hash((self.customer_id, self.principal_id))

    @property
    def verified_kind(self) -> str | None:
        """The kind of credential that the application has verified, also where the tier could not be read then.

        None for an anonymous caller, an unverified one and one that nobody has named.
        """
        return self.auth_kind if self._vouched and self.auth_kind != "anon" else None

    @property
    def vouched_customer(self) -> str | None:
        """The customer, as far as it is more than a claim. None: there is none, or merely claimed."""
        return self.customer_id if self._vouched else None

    def names_another(self, later: UsageIdentity) -> bool:
        """Whether ``later`` names another customer than the one that is vouched for here."""
        return self.vouched_customer is not None and later.customer_id not in (None, self.customer_id)

    def contradicted_by(self, later: UsageIdentity) -> bool:
        """Whether ``later`` names another customer than is vouched for here, be it that there is none."""
        nobody = self._vouched and self.auth_kind == "anon" and later.customer_id is not None
        return nobody or self.names_another(later)

    def merged(self, later: UsageIdentity) -> UsageIdentity:
        """The identity with what ``later`` adds.

        Facts as sure as these, or surer, replace them; the tier and plan of another customer go with that customer.

        Unverified facts are left out where there are surer ones, and go where surer ones come. Those of a known caller
        count as surer also while a tier that could not be read makes them ``unavailable``.

        An anonymous caller who turns out to be somebody is that, and nothing else. The other way about, ``anon`` beside
        a known caller is left out: nobody's usage leaves their account because a later check found no credential.

        ``unavailable`` facts fill in what is not known of the same customer; if no tier is known then, the whole
        identity is ``unavailable``, so that nobody takes a missing tier for tier 0.
        """
        if self._outweighs(later):
            return self
        if self._gives_way_to(later):
            return later
        given = later._facts
        if _SURENESS[later.provenance] >= _SURENESS[self.provenance]:
            return replace(self._kept_beside(later), **given, provenance=later.provenance)
        filled = {name: value for name, value in given.items() if getattr(self, name) is None}
        provenance = "unavailable" if self.tier is None else self.provenance
        return replace(self, **filled, provenance=provenance)

    @property
    def _facts(self) -> dict[str, Any]:
        return {name: value for name in _FACTS if (value := getattr(self, name)) is not None}

    @property
    def _vouched(self) -> bool:
        """Whether the application has said who is calling, and not only the caller."""
        return self.known and self.provenance != "unverified"

    @property
    def _somebody(self) -> bool:
        """Whether a caller is named who is not anonymous."""
        return self.known and self.auth_kind != "anon"

    def _outweighs(self, later: UsageIdentity) -> bool:
        """Whether ``later`` changes nothing here."""
        if later.provenance != "unavailable" and not later._facts:
            return True
        if later.provenance == "unverified":
            return self._vouched or (self.provenance == "verified" and bool(self._facts))
        if later.auth_kind == "anon" and self._somebody:
            return self.provenance != "unverified" or later.provenance != "verified"
        if later.provenance == "unavailable":
            # What could not be read of somebody else is nothing of this customer's, nor of one who is merely claimed.
            other = self.provenance == "verified" and self.names_another(later)
            return other or (self.provenance == "unverified" and not later.known)
        return False

    def _gives_way_to(self, later: UsageIdentity) -> bool:
        """Whether nothing of this stays beside ``later``: there is nothing, or a claim that would pass for a fact, or
        merely that nobody was known.
        """
        claimed = self.provenance == "unverified" and later.provenance != "unverified"
        return not self._facts or claimed or (self.auth_kind == "anon" and later._somebody)

    def _kept_beside(self, later: UsageIdentity) -> UsageIdentity:
        """What stays of this identity beside facts as sure: neither tier nor plan of another customer."""
        if self.customer_id is not None and later.customer_id not in (None, self.customer_id):
            return replace(self, tier=None, plan=None)
        return self

    def attributes(self) -> dict[str, str | int]:
        """The identity as span attributes. What is not known is absent."""
        found: dict[str, str | int] = {"usage.identity.provenance": self.provenance}
        for name, key in KEY_OF.items():
            value = getattr(self, name)
            if value is not None:
                found[key] = value
        return found


KEY_OF: Final[Mapping[str, str]] = {
    "customer_id": "usage.customer.id",
    "tier": "usage.tier",
    "plan": "usage.plan",
    "auth_kind": "usage.auth.kind",
    "principal_id": "usage.principal.id",
}
"""The facts of an identity, and the attributes that they become."""

_FACTS: Final = tuple(KEY_OF)
_TEXTS: Final = ("customer_id", "plan", "auth_kind", "principal_id", "provenance")
_SURENESS: Final = {provenance: rank for rank, provenance in enumerate(PROVENANCES)}


def coerce_tier(tier: object, auth_kind: str | None) -> int | None:
    """A tier as a whole number of 0 or more, or None if it is not known.

    An anonymous caller is always tier 0. A numeric string is taken; a bool, a fraction, a negative number, one of
    :data:`TIER_LIMIT` or more and anything else is not known.
    """
    if auth_kind == "anon":
        return 0
    if isinstance(tier, str) and _DIGITS.fullmatch(tier.strip()):
        return int(tier)
    if isinstance(tier, int) and not isinstance(tier, bool) and 0 <= tier < TIER_LIMIT:
        return int(tier)  # an IntEnum's number
    return None


_DIGITS: Final = re.compile(r"[0-9]{1,9}")

UNKNOWN: Final = UsageIdentity()
"""Nobody has said who is calling. Made here because making one takes the rules above."""
