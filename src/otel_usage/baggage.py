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

from .attribution import CUSTOMER, PLAN, TIER, Attribution, AttributionSigner, Refusal
from .guard import guarded
from .hosts import HostPatterns
from .identity import UsageIdentity
from .ledger import DropCounter

SIGNATURE: Final = "usage.signature"

MEMBERS: Final = frozenset({CUSTOMER, TIER, PLAN, SIGNATURE})
"""The members that are ours. The signature holds what the others say, which are there for other programs to read."""

_SHORTEST: Final = min(map(len, MEMBERS))


class Received(NamedTuple):
    """What came in with a request."""

    attribution: Attribution | None
    """What a service of ours vouches for. None: nothing, or nothing that is believed."""
    remaining: str
    """The header without the members that are ours, or as it was where there are none. Empty: nothing is left."""


class Outgoing(NamedTuple):
    """The ``baggage`` headers of a call. Empty: there is none."""

    own: str
    """As the application made it, without members that are ours: it may have copied them from somewhere."""
    ours: str
    """The members that are ours, where the call may tell the customer. They go as a line of their own: so neither takes
    the other's room, whoever has filled it, and no line is longer than a server takes (W3C Baggage allows several)."""


NOTHING: Final = Received(None, "")
"""What is taken from a header that cannot be read."""


class UsageBaggage:
    """Writes and reads the members that are ours."""

    def __init__(self, signer: AttributionSigner, hosts: HostPatterns, drops: DropCounter) -> None:
        """``hosts``: where customers may go. ``drops`` counts what was not believed, and what could not be told."""
        self._signer = signer
        self._hosts = hosts
        self._drops = drops
        self.tells: Final = bool(hosts)
        """Whether there is a host that may be told. Where there is none, a call without baggage stays as it is."""

    @guarded(None)
    def received(self, header: str) -> Received:
        """What a ``baggage`` header holds. A broken or forged member is counted, and is nobody's."""
        others, ours = _parted(header)
        if not ours:
            return Received(None, header)
        return Received(self._believed(ours), ",".join(others))

    def outgoing(
        self, header: str, host: str, port: int | None, identity: UsageIdentity, ids: tuple[bytes, bytes]
    ) -> Outgoing:
        """What becomes of the ``baggage`` header of a call to ``host``, by the span that has these ids of its trace and
        its own.
        """
        others, stale = _parted(header) if header else ([], [])
        audience = self._hosts.match(host, port) if identity.known else None
        ours = "" if audience is None else self._members(Attribution(identity, *ids), audience)
        return Outgoing(",".join(others) if stale else header, ours)

    def _believed(self, ours: list[tuple[str, str]]) -> Attribution | None:
        members = dict(ours)
        found: Attribution | Refusal = Refusal.FORGED
        if len(members) == len(ours) and SIGNATURE in members:
            found = self._signer.verify(members.pop(SIGNATURE))
        if isinstance(found, Attribution) and not _agree(members, found.members):
            found = Refusal.FORGED
        if isinstance(found, Refusal):
            self._drops.add(f"baggage:{found}")
            return None
        return found

    def _members(self, attribution: Attribution, audience: str) -> str:
        token = self._signer.tell(attribution, audience)
        if token is None:
            self._drops.add("baggage:untold")
            return ""
        members = (f"{name}={quote(str(value), safe='')}" for name, value in attribution.members.items())
        return ",".join((*members, f"{SIGNATURE}={token}"))


def _agree(members: dict[str, str], signed: dict[str, str | int]) -> bool:
    return all(name in signed and str(signed[name]) == value for name, value in members.items())


def _parted(header: str) -> tuple[list[str], list[tuple[str, str]]]:
    """The members of others, as they came, and our own, decoded."""
    others, ours = [], []
    for member in header.split(","):
        key, _, value = member.partition("=")
        name = _name(key)
        if name in MEMBERS:
            ours.append((name, unquote_plus(value.partition(";")[0]).strip()))
        elif member.strip():
            others.append(member)
    return others, ours


def _name(key: str) -> str:
    """A member's name, decoded as OpenTelemetry's propagator does, so that none gets past here and not past there."""
    if len(key) - 2 * key.count("%") < _SHORTEST:
        return ""  # not ours in any spelling: a header may have very many of them
    return (unquote_plus(key) if "%" in key or "+" in key else key).strip().lower()


def shed_baggage() -> Token[Context] | None:
    """Take the members that are ours out of the current context, where a propagator has put them there before the
    request came to us. Returns what :func:`restore_baggage` takes. None: there were none.
    """
    context = get_current()
    return _shed(context) if context else None  # it is empty where nobody traces: then that is all it costs


@guarded(None)
def _shed(context: Context) -> Token[Context] | None:
    ours = [name for name in baggage.get_all(context) if name.lower() in MEMBERS]
    if not ours:
        return None
    for name in ours:
        context = baggage.remove_baggage(name, context)
    return attach(context)


def restore_baggage(token: Token[Context] | None) -> None:
    """Undo :func:`shed_baggage`."""
    if token is not None:
        detach(token)
