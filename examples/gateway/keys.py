"""API keys, what each kind of route needs, and how much each plan may do.

The keys are written out because they open nothing but this example. They are found by their SHA-256, as they would be
in a table that stores no raw key.
"""

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from hmac import compare_digest
from typing import Final


class KeyKind(StrEnum):
    """The kinds of key, by prefix. The values are those of ``usage.auth.kind``."""

    USER = "user_api_key"
    ENTERPRISE = "enterprise_api_key"
    """Issued by the customer's own identity provider: only that can say whose it is."""
    WIDGET = "widget_key"
    """Stands in public web pages, so it is good for one origin only."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What the gateway knows of one key without asking anybody."""

    kind: KeyKind
    customer: str
    suspended: bool = False
    origin: str | None = None
    """The only origin that may use it. None: any."""


@dataclass(frozen=True, slots=True)
class Entitlement:
    """What a customer has subscribed to."""

    tier: int
    """0 is free."""
    plan: str


@dataclass(frozen=True, slots=True)
class Limit:
    """Requests per second in the long run, and how many may come at once."""

    per_second: float
    burst: int


_ISSUED: Final = {
    "sk_demo_acme_9f2c": ApiKey(KeyKind.USER, "acme"),
    "sk_demo_northwind_0b7d": ApiKey(KeyKind.USER, "northwind"),
    "sk_demo_initech_e3a8": ApiKey(KeyKind.USER, "initech"),
    "sk_demo_fabrikam_4d19": ApiKey(KeyKind.USER, "fabrikam", suspended=True),
    "wk_demo_contoso_c66a": ApiKey(KeyKind.WIDGET, "contoso", origin="https://shop.example.com"),
}

_ENTERPRISE_PREFIX: Final = "ek_"

_LIMITS: Final = {
    "free": Limit(5, 10),
    "widget": Limit(500, 1000),
    "api_pro": Limit(2000, 4000),
    "enterprise": Limit(5000, 10_000),
}
_LIMIT_OF_UNKNOWN_PLAN: Final = Limit(1000, 2000)
"""Generous on purpose: an outage of ours must not turn a paying customer away."""

_MINIMUM_TIERS: Final = {"/v1/export": 1, "/v1/briefs": 2, "/partner": 1}
"""Path prefix → the lowest tier that may call it. All else is for every tier."""

_PROTECTED_PREFIXES: Final = ("/v1/", "/partner/")


def _digest(raw: str) -> bytes:
    return hashlib.sha256(raw.encode("utf-8", "surrogatepass")).digest()


_BY_DIGEST: Final = tuple((_digest(raw), key) for raw, key in _ISSUED.items())


def find(raw: str) -> ApiKey | None:
    """The key that was issued here as ``raw``, or None.

    Public keys are found like secret ones: each is compared, in constant time, also after one has matched. How long it
    takes tells nothing of what was issued. (A table that is too large for that is searched by digest, and what is found
    is compared like this.)
    """
    presented, found = _digest(raw), None
    for digest, key in _BY_DIGEST:
        if compare_digest(presented, digest):
            found = key
    return found


def is_enterprise(raw: str) -> bool:
    """Whether another identity provider issued the key."""
    return raw.startswith(_ENTERPRISE_PREFIX)


def is_protected(path: str) -> bool:
    """Whether the path needs a key."""
    return path.startswith(_PROTECTED_PREFIXES)


def minimum_tier(path: str) -> int:
    """The lowest tier that may call the path: 0 for most."""
    return next((tier for prefix, tier in _MINIMUM_TIERS.items() if path.startswith(prefix)), 0)


def limit_of(entitlement: Entitlement | None) -> Limit:
    """How much a plan may do. None: the plan could not be read."""
    return _LIMITS.get(entitlement.plan, _LIMIT_OF_UNKNOWN_PLAN) if entitlement else _LIMIT_OF_UNKNOWN_PLAN
