"""Who is calling: pure rules, over facts that the application has already verified.

Nothing here parses a token, checks a key or looks anything up. The only cryptography is one keyed hash, cached.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from hashlib import blake2b
from typing import Final

from .schema import PROVENANCES

UNMAPPED_ENTERPRISE: Final = "enterprise-unmapped"
"""The customer of an enterprise key whose digest the map does not hold: visible, and nobody else's."""

HASH_CACHE_SIZE: Final = 8192
"""Hashes that are remembered at most. A miss costs under a microsecond."""

HASH_CACHE_LENGTH: Final = 512
"""Characters of the longest value whose hash is remembered: a client chooses how long its headers are."""

TIER_LIMIT: Final = 10**9
"""A tier is below it. Anything above is no tier, and would not fit into the data."""


@dataclass(frozen=True, slots=True)
class UsageIdentity:
    """Who a request is counted for. None: not known.

    A tier that is none (see :func:`coerce_tier`) is not known, nor is tier 0 where the tier could not be read; a
    provenance that is none is ``unverified``.
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

    def __post_init__(self) -> None:
        # Here and not where identities are made, so that it holds also of an application's own and of merged ones.
        if not isinstance(self.provenance, str) or self.provenance not in _SURENESS:
            object.__setattr__(self, "provenance", "unverified")
        tier = coerce_tier(self.tier, self.auth_kind)
        unread = tier == 0 and self.provenance == "unavailable" and self.auth_kind != "anon"
        object.__setattr__(self, "tier", None if unread else tier)

    @property
    def known(self) -> bool:
        """Whether anybody has said who is calling, be it only that the caller is anonymous."""
        return self.customer_id is not None or self.auth_kind is not None

    def merged(self, later: UsageIdentity) -> UsageIdentity:
        """The identity with what ``later`` adds.

        Facts as sure as these, or surer, replace them. Beside them an unverified claim goes, and so do the tier and
        plan of another customer and the tier of an anonymous caller who is not.

        Unverified facts are left out where there are surer ones, and those of a known caller count as surer also while
        a tier that could not be read makes them ``unavailable``. ``unavailable`` facts fill in what is not known; if no
        tier is known then, the whole identity is ``unavailable``, so that nobody takes a missing tier for tier 0.
        """
        given = {name: value for name in _FACTS if (value := getattr(later, name)) is not None}
        if later.provenance == "unverified" and self.known and self.provenance != "unverified":
            return self
        if _SURENESS[later.provenance] >= _SURENESS[self.provenance]:
            return replace(self._kept_beside(later), **given, provenance=later.provenance)
        filled = {name: value for name, value in given.items() if getattr(self, name) is None}
        provenance = "unavailable" if self.tier is None else self.provenance
        return replace(self, **filled, provenance=provenance)

    def _kept_beside(self, later: UsageIdentity) -> UsageIdentity:
        """What stays of this identity beside surer facts: no claim, which would pass for a fact then; no tier of an
        anonymous caller who is not; neither tier nor plan of another customer.
        """
        if self.provenance == "unverified" and later.provenance == "verified":
            return UNKNOWN
        if self.customer_id is not None and later.customer_id not in (None, self.customer_id):
            return replace(self, tier=None, plan=None)
        if self.auth_kind == "anon" and later.auth_kind not in (None, "anon"):
            return replace(self, tier=None, auth_kind=None)
        return self

    def attributes(self) -> dict[str, str | int]:
        """The identity as span attributes. What is not known is absent."""
        found: dict[str, str | int] = {"usage.identity.provenance": self.provenance}
        for name, key in _KEYS:
            value = getattr(self, name)
            if value is not None:
                found[key] = value
        return found


_KEYS: Final = (
    ("customer_id", "usage.customer.id"),
    ("tier", "usage.tier"),
    ("plan", "usage.plan"),
    ("auth_kind", "usage.auth.kind"),
    ("principal_id", "usage.principal.id"),
)
_FACTS: Final = tuple(name for name, _ in _KEYS)
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


class KeyedHash:
    """A keyed hash (BLAKE2b, 16 bytes) that names its key, so that a pepper can be rotated.

    Unkeyed hashes of ids can be guessed by hashing every id; without the pepper this one cannot.
    """

    __slots__ = ("_digest", "key_id")

    def __init__(self, pepper: str) -> None:
        """``pepper`` is ``id:secret``, or a secret, whose id is then derived from it."""
        key_id, separator, secret = pepper.partition(":")
        named = separator and _KEY_ID.fullmatch(key_id)
        # BLAKE2b takes keys of up to 64 bytes; a longer pepper is folded, not cut.
        key = blake2b((secret if named else pepper).encode(), digest_size=64).digest()
        self.key_id = key_id if named else blake2b(key, digest_size=2, person=b"otel_usage.kid").hexdigest()

        @lru_cache(maxsize=HASH_CACHE_SIZE)
        def digest(value: str) -> str:
            return (
                f"{self.key_id}:{blake2b(value.encode('utf-8', 'surrogatepass'), digest_size=16, key=key).hexdigest()}"
            )

        self._digest = digest

    def __call__(self, value: str) -> str:
        """``key id:hex digest`` of ``value``."""
        return self._digest(value) if len(value) <= HASH_CACHE_LENGTH else self._digest.__wrapped__(value)


_KEY_ID: Final = re.compile(r"[a-z0-9_-]{1,16}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What the application has verified about a caller. Give what you have; leave out what was not verified."""

    org_id: str | None = None
    user_id: str | None = None
    customer_id: str | None = None
    """The owner of an API key or a widget key, where the application has looked it up."""
    user_api_key: str | None = field(default=None, repr=False)
    enterprise_api_key: str | None = field(default=None, repr=False)
    widget_key: str | None = field(default=None, repr=False)
    mcp_client_id: str | None = None
    internal_service: str | None = None
    """The name of the calling service of one's own."""
    tier: object = None
    plan: str | None = None
    entitlement_available: bool = True
    """False when tier and plan could not be read: then they are not known, which is not tier 0."""


@dataclass(frozen=True, slots=True)
class IdentityResolver:
    """Verified credentials to a :class:`UsageIdentity`, by fixed rules.

    Where several credentials were verified, the one nearest to the contract decides: internal service, enterprise key,
    user's API key, MCP client, token, widget key. The organisation goes before the user.
    """

    hash_key: KeyedHash | None = None
    """Makes ``principal_id``. None: it stays absent."""
    enterprise_customers: Mapping[str, str] = field(default_factory=dict)
    """Digest of an enterprise key, as :attr:`hash_key` makes it, to the customer. Digests only, so that the map can be
    reviewed in code."""

    def resolve(self, credentials: Credentials) -> UsageIdentity:
        """The identity of a caller. Nobody verified is ``anon``, always of tier 0."""
        auth_kind, customer, secret = self._choose(credentials)
        available = credentials.entitlement_available or auth_kind in ("anon", "internal")
        return UsageIdentity(
            customer_id=customer,
            tier=coerce_tier(credentials.tier, auth_kind) if available else None,
            plan=credentials.plan if available and auth_kind != "anon" else None,
            auth_kind=auth_kind,
            principal_id=self.principal(secret),
            provenance="verified" if available else "unavailable",
        )

    def principal(self, secret: str | None) -> str | None:
        """The keyed hash of a credential, or None without one or without a pepper."""
        return self.hash_key(secret) if self.hash_key is not None and secret else None

    def _choose(self, c: Credentials) -> tuple[str, str | None, str | None]:
        account = c.org_id or c.user_id
        if c.internal_service:
            return "internal", c.customer_id or c.internal_service, None
        if c.enterprise_api_key:
            return "enterprise_api_key", self._enterprise_customer(c), c.enterprise_api_key
        if c.user_api_key:
            return "user_api_key", c.customer_id or account, c.user_api_key
        if c.mcp_client_id:
            return "mcp_oauth", account or c.customer_id, c.mcp_client_id
        if account:
            return "jwt", account, c.user_id or c.org_id
        if c.widget_key:
            return "widget_key", c.customer_id, c.widget_key
        return "anon", None, None

    def _enterprise_customer(self, c: Credentials) -> str:
        digest = self.principal(c.enterprise_api_key)
        return self.enterprise_customers.get(digest or "") or c.customer_id or c.org_id or UNMAPPED_ENTERPRISE
