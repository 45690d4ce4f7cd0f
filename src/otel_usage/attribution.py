"""What one process of ours vouches for to another, signed: whose usage a call or a job is, and which span made it.

The signature is HMAC-SHA256 by itsdangerous (Pallets). A token names the key that signed it, the moment it was issued,
its expiry, and its audience: the one service, or the one job, that it is meant for.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from .hosts import HostPatterns
from .identity import UsageIdentity
from .schema import BY_KEY

if TYPE_CHECKING:
    from itsdangerous import URLSafeTimedSerializer

LIFETIME: Final = 300
"""Seconds that a token of a call is good for."""

SKEW: Final = 30
"""Seconds that the clocks of two services may be apart."""

LONGEST_TOKEN: Final = 4096
"""Characters of a token that is looked at, at most (W3C Baggage: of a list member that is sure to be propagated)."""

CUSTOMER: Final = "usage.customer.id"
TIER: Final = "usage.tier"
PLAN: Final = "usage.plan"


class Purpose(StrEnum):
    """What a token is for. A key signs differently for each, so that none passes for one of another purpose."""

    CALL = "attribution"
    JOB = "job"


class Refusal(StrEnum):
    """Why a token was not believed."""

    FORGED = "forged"
    """No signature, not a valid one, or members beside it that say something else."""
    EXPIRED = "expired"
    """Its time is over, or has not come."""
    UNKNOWN_KEY = "unknown_key"
    """It names a key that this service does not have."""
    OTHER_AUDIENCE = "other_audience"
    """It is meant for another service, or for another job."""


@dataclass(frozen=True, slots=True)
class Attribution:
    """Whose usage a call or a job is, and the span that made it."""

    identity: UsageIdentity
    trace_id: bytes
    """16 bytes."""
    span_id: bytes
    """8 bytes."""

    @property
    def members(self) -> dict[str, str | int]:
        """What is known of the customer, under the names of attributes."""
        facts = {CUSTOMER: self.identity.customer_id, TIER: self.identity.tier, PLAN: self.identity.plan}
        return {name: value for name, value in facts.items() if value is not None}


class AttributionSigner:
    """Signs with the first of its keys, and verifies by all of them, so that a key can be replaced without a gap."""

    def __init__(
        self,
        keys: Mapping[str, str],
        audience: HostPatterns,
        clock: Callable[[], float] = time.time,
        *,
        purpose: Purpose = Purpose.CALL,
        lifetime: float = LIFETIME,
    ) -> None:
        """``keys``: key id to secret. ``audience``: as whom this service is called; none: no call is believed.

        ``clock`` gives seconds since the epoch. ``lifetime`` is for how many of them a token is good.
        """
        self._serializers: Final = {key_id: _serializer(secret, purpose, clock) for key_id, secret in keys.items()}
        self._signing: Final = next(iter(self._serializers.items()), None)
        self._audience = audience
        self._lifetime = lifetime
        self._clock = clock

    @property
    def signs(self) -> bool:
        """Whether there is a key."""
        return self._signing is not None

    def sign(self, attribution: Attribution, audience: str) -> str | None:
        """A token for the service at ``audience`` (``host:port``), or for that job. None: there is no key."""
        if self._signing is None:
            return None
        key_id, serializer = self._signing
        identity = attribution.identity
        facts = {
            "aud": audience,
            "exp": int(self._clock() + self._lifetime),
            "customer": identity.customer_id,
            "tier": identity.tier,
            "plan": identity.plan,
            "auth": identity.auth_kind,
            "provenance": identity.provenance,
            "trace": attribution.trace_id.hex(),
            "span": attribution.span_id.hex(),
        }
        token = serializer.dumps({key: value for key, value in facts.items() if value is not None})
        return f"{key_id}.{token if isinstance(token, str) else token.decode()}"

    def tell(self, attribution: Attribution, audience: str) -> str | None:
        """As :meth:`sign`, for what would be believed. None: there is no key, or the token would be too long, or what
        is known of the customer could not leave as an attribute, and so is no customer's name.
        """
        if self._signing is None or not all(
            BY_KEY[key].accept(v) is not None for key, v in attribution.members.items()
        ):
            return None
        token = self.sign(attribution, audience)
        return token if token is not None and len(token) <= LONGEST_TOKEN else None

    def verify(self, token: str, audience: str | None = None) -> Attribution | Refusal:
        """What ``token`` vouches for, or why it is not believed. Never raises.

        ``audience``: what it must be meant for. None: this service, by one of its hosts.
        """
        key_id, _, signed = token.partition(".")
        serializer = self._serializers.get(key_id)
        if not signed or len(token) > LONGEST_TOKEN or not token.isascii():
            return Refusal.FORGED
        if serializer is None:
            return Refusal.UNKNOWN_KEY
        try:
            facts, issued = serializer.loads(signed, return_timestamp=True)
            if not issued.timestamp() - SKEW <= self._clock() < facts["exp"] + SKEW:
                return Refusal.EXPIRED
            return self._believed(facts, audience)
        except Exception:  # itsdangerous's errors, and whatever the facts of another version lack
            return Refusal.FORGED

    def _believed(self, facts: Mapping[str, Any], audience: str | None) -> Attribution | Refusal:
        if not (self._is_here(facts["aud"]) if audience is None else facts["aud"] == audience):
            return Refusal.OTHER_AUDIENCE
        identity = UsageIdentity(
            customer_id=_text(facts.get("customer")),
            tier=facts.get("tier"),
            plan=_text(facts.get("plan")),
            auth_kind=_text(facts.get("auth")),
            provenance=facts["provenance"],
        )
        return Attribution(identity, _id(facts["trace"], 16), _id(facts["span"], 8))

    def _is_here(self, audience: str) -> bool:
        host, _, port = audience.rpartition(":")
        return self._audience.match(host, int(port)) is not None


def _serializer(secret: str, purpose: Purpose, clock: Callable[[], float]) -> URLSafeTimedSerializer:
    from itsdangerous import TimestampSigner, URLSafeTimedSerializer  # an extra: only who has a key needs it

    class Signer(TimestampSigner):
        def get_timestamp(self) -> int:
            return int(clock())

    return URLSafeTimedSerializer(
        secret,
        salt=f"otel_usage.{purpose}",
        signer=Signer,
        signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha256},
    )


def _text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise TypeError


def _id(text: str, size: int) -> bytes:
    found = bytes.fromhex(text)
    if len(found) != size or not any(found):
        raise ValueError
    return found
