"""What an application has verified about a caller, and the identity that it amounts to: fixed rules, and pure.

Nothing here parses a token or looks anything up. The only cryptography is one keyed hash, cached, and the comparison of
public keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hmac import compare_digest
from typing import Final

from .identity import UsageIdentity, coerce_tier
from .keyed_hash import KeyedHash

UNMAPPED_ENTERPRISE: Final = "enterprise-unmapped"
"""The customer of an enterprise key whose digest the map does not hold: visible, and nobody else's."""


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
