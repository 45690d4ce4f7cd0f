"""The customer's way between services of one's own, as W3C Baggage: in which requests it goes, and which are believed.

Fail-closed: the members below are written into requests to hosts that are named for it, and taken out of every other,
also of those that come in, so that no propagator passes them on.
"""

from __future__ import annotations

from contextvars import Token
from typing import Final, NamedTuple
from urllib.parse import quote, unquote_plus

from opentelemetry import baggage
from opentelemetry.context import Context, attach, detach, get_current
from opentelemetry.trace import SpanContext

from .attribution import Attribution, AttributionSigner, Refusal
from .guard import guarded
from .hosts import HostPatterns
from .identity import UsageIdentity
from .ledger import DropCounter

CUSTOMER: Final = "usage.customer.id"
TIER: Final = "usage.tier"
PLAN: Final = "usage.plan"
SIGNATURE: Final = "usage.signature"

MEMBERS: Final = frozenset({CUSTOMER, TIER, PLAN, SIGNATURE})
"""The members that are ours. The signature holds what the others say, which are there for other programs to read."""

LONGEST_HEADER: Final = 8192
"""Bytes of a ``baggage`` header that is sure to be propagated whole (W3C Baggage, section 3.3.2)."""

MOST_MEMBERS: Final = 180
"""Members that OpenTelemetry's propagator reads at most."""


class Received(NamedTuple):
    """What came in with a request."""

    attribution: Attribution | None
    """What a service of ours vouches for. None: nothing, or nothing that is believed."""
    remaining: str
    """The header without the members that are ours, or as it was where there are none. Empty: nothing is left."""


class Outgoing(NamedTuple):
    """The ``baggage`` header of a call. Empty: there is none."""

    own: str
    """As the application made it, without members that are ours: it may have copied them from somewhere."""
    whole: str
    """As it goes over the wire: the same, and the members that are ours where the call may tell the customer."""


NOTHING: Final = Received(None, "")
"""What is taken from a header that cannot be read."""


class UsageBaggage:
    """Writes and reads the members that are ours."""

    def __init__(self, signer: AttributionSigner, hosts: HostPatterns, drops: DropCounter) -> None:
        """``hosts``: where customers may go. ``drops`` counts what was not believed and what had no room."""
        self._signer = signer
        self._hosts = hosts
        self._drops = drops

    @guarded(None)
    def received(self, header: str) -> Received:
        """What a ``baggage`` header holds. A broken or forged member is counted, and is nobody's."""
        others, ours = _parted(header)
        if not ours:
            return Received(None, header)
        return Received(self._believed(ours, len(header)), ",".join(others))

    def outgoing(
        self, header: str, host: str, port: int | None, identity: UsageIdentity, caller: SpanContext
    ) -> Outgoing:
        """What becomes of the ``baggage`` header of a call to ``host`` that the span ``caller`` makes."""
        others, stale = _parted(header) if header else ([], [])
        own = ",".join(others) if stale else header
        audience = self._hosts.match(host, port) if identity.known else None
        ours = self._members(Attribution(identity, caller), audience) if audience is not None else ()
        if len(others) + len(ours) > MOST_MEMBERS or len(own) + sum(map(len, ours)) + len(ours) > LONGEST_HEADER:
            self._drops.add("baggage:no_room")  # rather than to crowd out what the application sends
            return Outgoing(own, own)
        return Outgoing(own, ",".join((own, *ours) if own else ours))

    def _believed(self, ours: list[tuple[str, str]], length: int) -> Attribution | None:
        members = dict(ours)
        found: Attribution | Refusal = Refusal.FORGED
        if len(members) == len(ours) and length <= LONGEST_HEADER and SIGNATURE in members:
            found = self._signer.verify(members.pop(SIGNATURE))
        if isinstance(found, Attribution) and not members.items() <= _plain(found.identity).items():
            found = Refusal.FORGED
        if isinstance(found, Refusal):
            self._drops.add(f"baggage:{found}")
            return None
        return found

    def _members(self, attribution: Attribution, audience: str) -> tuple[str, ...]:
        token = self._signer.sign(attribution, audience)
        if token is None:
            return ()
        plain = _plain(attribution.identity)
        return (*(f"{name}={quote(value, safe='')}" for name, value in plain.items()), f"{SIGNATURE}={token}")


def _plain(identity: UsageIdentity) -> dict[str, str]:
    """The members that anybody can read."""
    facts = {CUSTOMER: identity.customer_id, TIER: identity.tier, PLAN: identity.plan}
    return {name: str(value) for name, value in facts.items() if value is not None}


def _parted(header: str) -> tuple[list[str], list[tuple[str, str]]]:
    """The members of others, as they came, and our own, decoded."""
    others, ours = [], []
    for member in header.split(","):
        key, _, value = member.partition("=")
        # Decoded as OpenTelemetry's propagator does, so that no spelling of a name gets past here and not past there.
        name = unquote_plus(key).strip().lower()
        if name in MEMBERS:
            ours.append((name, unquote_plus(value.partition(";")[0]).strip()))
        elif member.strip():
            others.append(member)
    return others, ours


@guarded(None)
def shed_baggage() -> Token[Context] | None:
    """Take the members that are ours out of the current context, where a propagator has put them there before the
    request came to us. Returns what :func:`restore_baggage` takes. None: there were none.
    """
    ours = [name for name in baggage.get_all() if name.lower() in MEMBERS]
    if not ours:
        return None
    context = get_current()
    for name in ours:
        context = baggage.remove_baggage(name, context)
    return attach(context)


def restore_baggage(token: Token[Context] | None) -> None:
    """Undo :func:`shed_baggage`."""
    if token is not None:
        detach(token)
