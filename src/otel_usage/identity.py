"""Who is calling: pure rules, over facts that the application has already verified.

Nothing here parses a token, checks a key or looks anything up. The only cryptography is one keyed hash, cached.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from hashlib import blake2b
from hmac import compare_digest
from typing import Any, Final

from .schema import PROVENANCES

UNMAPPED_ENTERPRISE: Final = "enterprise-unmapped"
"""The customer of an enterprise key whose digest the map does not hold: visible, and nobody else's."""

HASH_CACHE_SIZE: Final = 8192
"""Hashes that are remembered at most. A miss costs under a microsecond."""

HASH_CACHE_LENGTH: Final = 512
"""Characters of the longest value whose hash is remembered: a client chooses how long its headers are."""

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

    def __post_init__(self) -> None:
        # Here and not where identities are made, so that it holds also of an application's own and of merged ones.
        if not isinstance(self.provenance, str) or self.provenance not in _SURENESS:
            object.__setattr__(self, "provenance", "unverified")
        # Plain, because the member of an enum that equals a string is not found where the string is looked up.
        kind = str.__str__(self.auth_kind) if isinstance(self.auth_kind, str) else None
        object.__setattr__(self, "auth_kind", kind)
        for name in beyond_claim(kind):
            object.__setattr__(self, name, None)
        tier = coerce_tier(self.tier, kind)
        unread = tier == 0 and self.provenance == "unavailable" and kind != "anon"
        object.__setattr__(self, "tier", None if unread else tier)

    @property
    def known(self) -> bool:
        """Whether anybody has said who is calling, be it only that the caller is anonymous."""
        return self.customer_id is not None or self.auth_kind is not None

    @property
    def verified_kind(self) -> str | None:
        """The kind of credential that the application has verified, also where the tier could not be read then.

        None for an anonymous caller, an unverified one and one that nobody has named.
        """
        return self.auth_kind if self._vouched and self.auth_kind != "anon" else None

    def names_another(self, later: UsageIdentity) -> bool:
        """Whether ``later`` names another customer than the one that is vouched for here."""
        return self._vouched and self.customer_id is not None and later.customer_id not in (None, self.customer_id)

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
        named = separator and KEY_ID.fullmatch(key_id)
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


KEY_ID: Final = re.compile(r"[a-z0-9_-]{1,16}")
"""What a pepper's name is: the part of a digest before its colon."""


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
    """A public key as it was presented. It counts for its owner: whom :attr:`IdentityResolver.widget_customers` names,
    else :attr:`customer_id`. Without either the caller is anonymous."""
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
    """Makes ``principal_id``. None: it stays absent, and no enterprise key is mapped."""
    enterprise_customers: Mapping[str, str] = field(default_factory=dict)
    """Digest of an enterprise key, as :attr:`hash_key` makes it, to the customer. Digests only, so that the map can be
    reviewed in code, or in a file (:func:`~otel_usage.read_customer_map`)."""
    widget_customers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Registered public key to its customer. A presented key is compared with each, see :meth:`widget_customer`."""
    former_hash_keys: tuple[KeyedHash, ...] = ()
    """The peppers before :attr:`hash_key`, whose digests :attr:`enterprise_customers` may still hold. They find a
    customer, and never make a ``principal_id``."""

    def resolve(self, credentials: Credentials) -> UsageIdentity:
        """The identity of a caller. Nobody verified is ``anon``, always of tier 0."""
        auth_kind, customer, secret = self._choose(credentials)
        available = credentials.entitlement_available or auth_kind in ("anon", "internal")
        entitled = available and _entitlement_is_of(credentials, auth_kind, customer)
        return UsageIdentity(
            customer_id=customer,
            tier=coerce_tier(credentials.tier, auth_kind) if entitled else None,
            plan=credentials.plan if entitled else None,
            auth_kind=auth_kind,
            principal_id=self.principal(secret),
            provenance="verified" if available else "unavailable",
        )

    def principal(self, secret: str | None) -> str | None:
        """The keyed hash of a credential, or None without one or without a pepper."""
        return self.hash_key(secret) if self.hash_key is not None and secret else None

    def widget_customer(self, presented: str) -> str | None:
        """The customer of a registered public key, or None for any other key.

        Every registered key is compared, each in constant time and none skipped, so that how long it takes tells
        nothing of them. As bytes, because ``compare_digest`` refuses text that is not ASCII.
        """
        given, found = presented.encode("utf-8", "surrogatepass"), None
        for key, customer in self.widget_customers.items():
            # The registered key stands second: the time that is taken follows the second, and not what was sent.
            if compare_digest(given, key.encode("utf-8", "surrogatepass")):
                found = customer
        return found if presented else None  # a key that was left empty in the settings is nobody's

    def _choose(self, c: Credentials) -> tuple[str, str | None, str | None]:
        account = c.org_id or c.user_id
        if c.internal_service:
            return "internal", c.customer_id or c.internal_service, None
        if c.enterprise_api_key:
            return "enterprise_api_key", self._enterprise_customer(c, c.enterprise_api_key), c.enterprise_api_key
        if c.user_api_key:
            return "user_api_key", c.customer_id or account, c.user_api_key
        if c.mcp_client_id:
            return "mcp_oauth", account or c.customer_id, c.mcp_client_id
        if account:
            return "jwt", account, c.user_id or c.org_id
        owner = (self.widget_customer(c.widget_key) or c.customer_id) if c.widget_key else None
        if owner:
            return "widget_key", owner, c.widget_key
        return "anon", None, None

    def _enterprise_customer(self, c: Credentials, key: str) -> str:
        return self._mapped(key) or c.customer_id or c.org_id or UNMAPPED_ENTERPRISE

    def _mapped(self, key: str) -> str | None:
        if self.hash_key is None:
            return None
        digests = (hash_key(key) for hash_key in (self.hash_key, *self.former_hash_keys))
        return next(filter(None, map(self.enterprise_customers.get, digests)), None)


def _entitlement_is_of(c: Credentials, auth_kind: str, customer: str | None) -> bool:
    """Whether tier and plan are those of the customer that the credential stands for. Beside a public key whose owner
    is another than the customer whom the application has looked up, they are that other customer's.
    """
    return auth_kind != "widget_key" or c.customer_id in (None, "", customer)
