"""Our own spans as OTLP: what they have in common is checked, redacted and encoded once."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from opentelemetry.trace import Link

from ..facts import Facts, ModelFacts, RequestFacts, UpstreamFacts
from ..forms import IDENTIFIER
from ..identity import UsageIdentity
from ..ledger import NotedDrops
from ..maker import SPAN_KINDS, SpanMaker
from ..readable import Event
from ..schema import PERSONAL_KEYS, Attribute, RecordKind, ValueType, allowed_on
from . import wire
from .redacting import Redactor

CALLERS_LIMIT: Final = 16_384
"""Callers that are remembered at most. When there are more, all are forgotten: to learn one again takes 25 µs, and to
know which one to forget would cost each span."""

FACTS_LIMIT: Final = 16_384
"""The same for what spans have in common, in all."""

LONGEST_FACTS: Final = 1024
"""Characters of facts, and of a caller, that are remembered: clients choose how long their headers and claims are."""

STANDINGS_LIMIT: Final = 256
"""Standings of callers that are remembered at most: an application may make a kind of credential of anything."""

COUNTED: Final = frozenset({
    "http.request.body.size", "http.response.body.size", "usage.time_to_first_byte", "usage.upstream.count",
    "usage.upstream.duration", "usage.upstream.response.size",
})  # fmt: skip
"""What is counted here, so that their values are of the schema's types: no application says them."""

OWN: Final = COUNTED | PERSONAL_KEYS | {
    "usage.request.id", "usage.client.request_id", "usage.sentry.trace_id", "usage.user_agent.hash",
    "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens", "gen_ai.request.max_tokens", "usage.llm.prompt_chars",
    "usage.llm.fallback_index",
}  # fmt: skip
"""What a span may have for itself. All else it has in common with others, and no attribute is written twice."""

_SMALL: Final = range(4096)
"""Numbers whose encoding is remembered."""

_HEAD: Final = struct.Struct("<2s16s2s8scQcQ").pack
_TRACE_ID, _SPAN_ID, _PARENT_ID = b"\x0a\x10", b"\x12\x08", b"\x22\x08"

_MADE_ID: Final = wire.attribute(wire.SPAN_ATTRIBUTE, "usage.request.id", "0" * 16)[:-16]
"""What stands before an id that was made here, which has the 16 hexadecimal digits of a span's."""
_made_id: Final = partial(wire.attribute, wire.SPAN_ATTRIBUTE, "usage.request.id")

PLAIN_ID: Final = re.compile(r"[0-9a-f-]{1,64}")
"""An id as most are made: digits, and a UUID's hyphens. It has a form that the schema takes and no mark of a secret's,
so that neither has to look at it."""

_KINDS: Final = {
    RequestFacts: RecordKind.REQUEST,
    UpstreamFacts: RecordKind.UPSTREAM,
    ModelFacts: RecordKind.LLM,
}

Write = Callable[[Any], bytes]


@dataclass(frozen=True, slots=True)
class _Learned:
    """Some attributes, encoded."""

    encoded: bytes
    dropped: tuple[object, ...]
    """What was dropped for them, to be counted for each span."""


@dataclass(frozen=True, slots=True)
class _Caller:
    """What is remembered of a caller."""

    encoded: bytes
    dropped: tuple[object, ...]
    """As for :class:`_Learned`."""
    known: dict[Facts, _Learned]
    """The facts of spans of callers of the same standing."""


class SpanWriter:
    """Writes usage spans. One owner: the worker."""

    def __init__(self, maker: SpanMaker, redactor: Redactor) -> None:
        self.maker: Final = maker
        self._redactor = redactor
        self._noted = NotedDrops()  # of the span that is being written, and counted once it is
        self._noting = redactor.counting(self._noted)
        self._callers: dict[UsageIdentity, _Caller] = {}
        # What a request amounts to depends on the kind of credential (`usage.origin.kind`), and callers who are
        # verified have names of their own (`distinct.py`).
        self._known: dict[tuple[str | None, bool], dict[Facts, _Learned]] = {}
        self._room = FACTS_LIMIT
        self._own = {facts: self._writers(kind) for facts, kind in _KINDS.items()}
        self.misses = 0
        """How often facts or a caller had to be learned."""

    def write(  # noqa: PLR0917  # as `UsageReadableSpan`
        self,
        maker: SpanMaker,
        facts: Facts,
        identity: UsageIdentity,
        own: Mapping[str, Any],
        trace_id: bytes,
        span_id: bytes,
        parent_id: bytes,
        started: int,
        ended: int,
        made_id: str | None = None,
        recorded: Sequence[Event] = (),
        link: Link | None = None,
        remote_parent: bool = False,
    ) -> bytes:
        """A span as one of the spans of a scope, of what :class:`~otel_usage.readable.UsageReadableSpan` is made of.

        Raises:
            UnwritableError: it is another maker's, or something of it is not as the schema has it, against every rule.
            KeyError: it is of work that the application names, whose attributes have nothing in common with others'.
        """
        if maker is not self.maker:
            raise wire.UnwritableError
        noted = self._noted.names
        if noted:  # by a span that could not be written: it is counted by whoever writes it
            noted.clear()
        # The order of the steps is that of the bytes: what is random stands at the end, which gzip and sorting want.
        writers = self._own[type(facts)]
        caller = self._callers.get(identity) or self._meet(identity)
        shared = caller.known.get(facts) or self._learn(facts, identity, caller)
        parts = [shared.encoded, caller.encoded]
        for key, value in own.items():
            parts.append(writers[key](value))
        if made_id is not None:
            parts.append(_MADE_ID + made_id.encode() if len(made_id) == 16 else _made_id(made_id))
        if recorded:
            parts += self._events(recorded)
        if link is not None:
            parts.append(wire.link(link))
        if parent_id:
            parts.append(_PARENT_ID + parent_id)
        parts.append(wire.REMOTE_PARENT if remote_parent else wire.LOCAL_PARENT)
        parts.append(_HEAD(_TRACE_ID, trace_id, _SPAN_ID, span_id, b"\x39", started, b"\x41", ended))
        written = wire.field(b"\x12", b"".join(parts))
        if noted or shared.dropped or caller.dropped:
            self._count(shared.dropped + caller.dropped + tuple(noted))
            noted.clear()
        return written

    @property
    def remembered(self) -> int:
        """Callers and facts that are remembered now."""
        return len(self._callers) + FACTS_LIMIT - self._room

    def _meet(self, identity: UsageIdentity) -> _Caller:
        self.misses += 1
        noted = NotedDrops()
        attributes = self._redactor.counting(noted).attributes(self.maker.caller(identity, noted))
        standing = identity.verified_kind, identity.provenance == "verified" and identity.customer_id is not None
        encoded = wire.attributes(wire.SPAN_ATTRIBUTE, attributes)
        if _size(identity.attributes().values()) > LONGEST_FACTS:
            return _Caller(encoded, tuple(noted.names), self._known.get(standing, {}))
        crowded = standing not in self._known and len(self._known) >= STANDINGS_LIMIT
        if crowded or len(self._callers) >= CALLERS_LIMIT:
            self._forget()
        caller = _Caller(encoded, tuple(noted.names), self._known.setdefault(standing, {}))
        self._callers[identity] = caller
        return caller

    def _learn(self, facts: Facts, identity: UsageIdentity, caller: _Caller) -> _Learned:
        self.misses += 1
        noted = NotedDrops()
        shared = self.maker.shared(facts, identity, noted)
        redactor, kind = self._redactor.counting(noted), facts.kind
        heading = wire.heading(redactor.name(shared.name, kind.value), SPAN_KINDS[kind], failed=shared.failed)
        attributes = wire.attributes(wire.SPAN_ATTRIBUTE, redactor.attributes(shared.attributes))
        learned = _Learned(heading + attributes, tuple(noted.names))
        # A caller who is not remembered may have a standing that is not, either.
        if shared.lasting and identity in self._callers and _size(facts) <= LONGEST_FACTS:
            self._remember(facts, learned, caller)
        return learned

    def _remember(self, facts: Facts, learned: _Learned, caller: _Caller) -> None:
        if not self._room:
            for known in self._known.values():
                known.clear()
            self._room = FACTS_LIMIT
        caller.known[facts] = learned
        self._room -= 1

    def _forget(self) -> None:
        self._callers.clear()
        self._known.clear()
        self._room = FACTS_LIMIT

    def _count(self, dropped: tuple[object, ...]) -> None:
        for name in dropped:
            self.maker.drops.add(name)

    def _events(self, recorded: Sequence[Event]) -> list[bytes]:
        written = []
        for time, name, found in recorded:
            allowed = self.maker.event(name, found, self._noted)
            if allowed is not None:
                clean = wire.attributes(wire.EVENT_ATTRIBUTE, self._noting.attributes(allowed))
                written.append(wire.event(time, name, clean))
        return written

    def _writers(self, kind: RecordKind) -> Mapping[str, Write]:
        """For each attribute that a span may have for itself, what checks, redacts and encodes it."""
        of_type = {
            ValueType.STRING: self._text,
            ValueType.INT: self._integer,
            ValueType.DOUBLE: self._double,
            ValueType.BOOLEAN: self._value,
        }
        return {key: of_type[attribute.type](attribute) for key, attribute in allowed_on(kind).items() if key in OWN}

    def _text(self, attribute: Attribute) -> Write:
        key, accept, redacted = attribute.key, attribute.accept, self._noting.text
        encoded = wire.text_attribute(wire.SPAN_ATTRIBUTE, key)
        is_id, plain = attribute.form is IDENTIFIER, PLAIN_ID.fullmatch

        def write(value: Any) -> bytes:
            if is_id and type(value) is str and plain(value):
                return encoded(value)
            accepted: Any = accept(value)
            if accepted is None:
                return self._left_out(key, value)
            return encoded(redacted(key, accepted))

        return write

    def _value(self, attribute: Attribute) -> Write:
        key, accept = attribute.key, attribute.accept

        def write(value: Any) -> bytes:
            accepted = accept(value)
            if accepted is None:
                return self._left_out(key, value)
            return wire.attribute(wire.SPAN_ATTRIBUTE, key, accepted)

        return write

    def _left_out(self, key: str, value: object) -> bytes:
        if value is not None:  # which is not known, and nothing that was dropped
            self._noted.add(key)
        return b""

    def _integer(self, attribute: Attribute) -> Write:
        otherwise = self._value(attribute)
        if attribute.key in COUNTED:
            return _Small(otherwise).__getitem__

        written = _Small(otherwise)
        return lambda value: written[value] if type(value) is int else otherwise(value)  # True is equal to 1

    def _double(self, attribute: Attribute) -> Write:
        head, otherwise = wire.attribute(wire.SPAN_ATTRIBUTE, attribute.key, 0.0)[:-8], self._value(attribute)
        if attribute.key in COUNTED:
            return partial(struct.Struct(f"<{len(head)}sd").pack, head)
        pack = struct.Struct("<d").pack

        def write(value: Any) -> bytes:
            return head + pack(value) if type(value) is float else otherwise(value)

        return write


class _Small(dict[int, bytes]):
    """Numbers, encoded. Those of :data:`_SMALL` are remembered; what is called to find one is C's."""

    def __init__(self, encode: Write) -> None:
        self._encode = encode

    def __missing__(self, number: int) -> bytes:
        encoded = self._encode(number)
        if number in _SMALL:
            self[number] = encoded
        return encoded


def _size(parts: Iterable[object]) -> int:
    """Characters of the texts among ``parts``, and of those in pairs among them."""
    size = 0
    for part in parts:
        if isinstance(part, tuple):
            size += sum(_size(pair) for pair in part)
        elif isinstance(part, (str, bytes)):
            size += len(part)
    return size
