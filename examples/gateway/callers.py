"""Who calls the gateway in the demonstration, as each of them sees itself."""

from dataclasses import dataclass
from typing import Final

KEY_HEADER: Final = "x-api-key"


@dataclass(frozen=True, slots=True)
class Refusal:
    """The answer to every request that a caller makes with its key."""

    status: int
    reason: str
    protected_only: bool = False
    """Whether routes that need no key still answer."""


@dataclass(frozen=True, slots=True)
class Caller:
    """One caller. ``customer`` and ``tier`` are what its requests must be counted for."""

    name: str
    customer: str | None
    tier: int | None
    """None: the gateway cannot know it."""
    weight: int
    """How often it calls routes that need a key, compared with the others. 0 for one that only its exchanges name."""
    key: str | None = None
    origin: str | None = None
    open_weight: int | None = None
    """The same for routes that need none. None: as often."""
    limited: bool = False
    """Whether it calls more often than its plan allows, so that any answer may be a 429 instead."""
    refusal: Refusal | None = None

    @property
    def headers(self) -> dict[str, str]:
        """The headers that it sends with every request."""
        sent = {KEY_HEADER: self.key, "origin": self.origin}
        return {name: value for name, value in sent.items() if value}

    def share(self, *, protected: bool) -> int:
        """How often it calls routes that need a key, or routes that do not. At least 1."""
        return (self.weight if protected or self.open_weight is None else self.open_weight) or 1


ANONYMOUS: Final = Caller(
    "anonymous", None, 0, 3, open_weight=120, refusal=Refusal(401, "auth_401", protected_only=True)
)
"""No key. Tier 0 where that is enough; a route that needs a key learns nothing about the caller, not even that."""

BROWSER: Final = Caller("browser", None, None, 0, origin="https://app.example.com")
"""Sends preflights, which carry no key: nobody gets to ask who it is."""

STRANGE_SITE: Final = Caller("strange site", None, None, 0, origin="https://elsewhere.example.net")
"""A page that the gateway does not share with."""

CALLERS: Final = (
    Caller("acme", "acme", 2, 32, key="sk_demo_acme_9f2c"),
    Caller("globex", "globex", 3, 20, key="ek_demo_globex_51c0"),
    Caller("contoso", "contoso", 1, 10, key="wk_demo_contoso_c66a", origin="https://shop.example.com"),
    Caller("northwind", "northwind", 0, 4, key="sk_demo_northwind_0b7d", limited=True),
    Caller("initech, whose tier cannot be read", "initech", None, 5, key="sk_demo_initech_e3a8"),
    Caller(
        "fabrikam, suspended", "fabrikam", None, 1, key="sk_demo_fabrikam_4d19", refusal=Refusal(403, "auth_403")
    ),
    Caller(
        "contoso's key on another site", "contoso", None, 1, key="wk_demo_contoso_c66a",
        origin="https://elsewhere.example.net", refusal=Refusal(403, "origin_403"),
    ),
    Caller("unknown key", None, None, 1, key="sk_demo_nobody_0000", refusal=Refusal(401, "auth_401")),
    Caller("unknown enterprise key", None, None, 1, key="ek_demo_nobody_0000", refusal=Refusal(401, "auth_401")),
    Caller(
        "unverifiable enterprise key", None, None, 1, key="ek_demo_outage_77e1",
        refusal=Refusal(503, "auth_unavailable"),
    ),
    ANONYMOUS,
)  # fmt: skip
