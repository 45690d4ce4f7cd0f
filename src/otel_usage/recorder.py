"""What the running pipeline offers to those who record: where spans go, and what every span shares.

The one place where a usage span is made, so that a span is valid by construction: every attribute that stands on it has
passed the schema here.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from ._version import __version__
from .allowlist import filter_attributes
from .attribution import AttributionSigner
from .baggage import UsageBaggage
from .config import FlushMode, UsageConfig
from .distinct import NAMING, DistinctValues
from .errors import ConfigError
from .guard import report
from .hosts import HostPatterns
from .keyed_hash import KeyedHash
from .ledger import DropCounter
from .named_callable import NamedCallable
from .request_facts import HEADERS
from .schema import SCHEMA_URL, RecordKind, UsageEvent

SPAN_KINDS: Final[Mapping[RecordKind, SpanKind]] = {
    RecordKind.REQUEST: SpanKind.SERVER,
    RecordKind.UPSTREAM: SpanKind.CLIENT,
    RecordKind.LLM: SpanKind.CLIENT,
    RecordKind.CUSTOM: SpanKind.INTERNAL,
}

_EVENTS: Final = frozenset(event.value for event in UsageEvent)
_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_UNSET, _ERROR = Status(StatusCode.UNSET), Status(StatusCode.ERROR)


def _random_id(bits: int) -> int:
    """From the system's randomness: the ids tell duplicates, and an application may seed ``random`` as it likes."""
    return secrets.randbits(bits) or 1


class UsageReadableSpan(ReadableSpan):
    """A span that :class:`Recorder` made: the allowlist need not look at it again."""


class Recorder:
    """Makes usage spans and hands them to a processor."""

    def __init__(
        self,
        config: UsageConfig,
        resource: Resource,
        on_end: Callable[[ReadableSpan], None],
        *,
        drops: DropCounter,
        status: Callable[[], str],
        start: Callable[[], object],
        flush: Callable[[], object],
        deliver: Callable[[], object],
        waiting: Callable[[], bool],
    ) -> None:
        """``resource`` must be allowlisted already; ``status`` says how the pipeline is (``ok`` or ``degraded``);
        ``start`` begins to deliver what an earlier process has left; ``flush`` delivers what waits, within the time
        that the end of a process may take; ``deliver`` does so within the time that a request may take, where the
        configuration has requests wait for it; ``waiting`` says whether there is anything to deliver.
        """
        self.config = config
        self.drops = drops
        self.status = status
        self._start = start
        self.flush = flush
        self.deliver = deliver
        self.waiting = waiting
        self.delivers_each = config.flush is FlushMode.REQUEST
        self.hash_key = KeyedHash(config.key_pepper) if config.key_pepper else None
        self.hash_user_agent = KeyedHash(config.user_agent_pepper) if config.user_agent_pepper else None
        self.reasons = config.known_reasons
        self.auth_kinds = config.known_auth_kinds
        self.baggage = UsageBaggage(
            AttributionSigner(config.baggage_keys, HostPatterns("USAGE_BAGGAGE_AUDIENCE", config.baggage_audience)),
            HostPatterns("USAGE_BAGGAGE_HOSTS", config.baggage_hosts),
            drops,
        )
        self.proxy = config.proxy
        self.headers = HEADERS if self.proxy is None else HEADERS | self.proxy.headers
        self._distinct = DistinctValues(drops)
        self._resource = resource
        self._on_end = on_end
        self._scope = InstrumentationScope("otel_usage", __version__, SCHEMA_URL)

    def prepare(self) -> None:
        """Do what would else be done by the first request. Called when an application starts."""
        self._start()
        if isinstance(self.config.identity, NamedCallable):
            try:
                self.config.identity.load()
            except ConfigError as error:
                report("USAGE_IDENTITY", error)

    def new_trace_id(self) -> int:
        """A random trace id."""
        return _random_id(128)

    def new_context(self, trace_id: int) -> SpanContext:
        """The context of a new span in a trace. Always sampled: usage is never sampled away."""
        return SpanContext(trace_id, _random_id(64), is_remote=False, trace_flags=_SAMPLED)

    def emit(
        self,
        kind: RecordKind,
        name: str,
        context: SpanContext,
        attributes: Mapping[str, Any],
        *,
        start_time: int,
        end_time: int,
        parent: SpanContext | None = None,
        events: Sequence[tuple[int, str, Mapping[str, Any]]] = (),
        links: Sequence[Link] = (),
        failed: bool = False,
    ) -> None:
        """Make the span and hand it on. Times are nanoseconds since the epoch; an event is (time, name, attributes)."""
        allowed = self._allowed(kind, {**attributes, "usage.kind": kind.value})
        folded = self._distinct.fold(kind, allowed)
        self._on_end(
            UsageReadableSpan(
                kind.value if folded & NAMING else self._distinct.name(name, kind.value),
                context=context,
                parent=parent,
                resource=self._resource,
                attributes=allowed,
                events=[
                    Event(event, self._event(event, facts), time) for time, event, facts in events if self._known(event)
                ],
                links=links,
                kind=SPAN_KINDS[kind],
                status=_ERROR if failed else _UNSET,
                start_time=start_time,
                end_time=end_time,
                instrumentation_scope=self._scope,
            )
        )

    def _known(self, event: object) -> bool:
        """Whether the schema has an event of this name. Any other name is free text, and is not even counted by it."""
        known = isinstance(event, str) and event in _EVENTS
        if not known:
            self.drops.add("event:unknown")
        return known

    def _event(self, event: str, facts: Mapping[str, Any]) -> dict[str, Any]:
        allowed = self._allowed(event, facts)
        self._distinct.fold(event, allowed)
        return allowed

    def _allowed(self, place: str, attributes: Mapping[str, Any]) -> dict[str, Any]:
        return filter_attributes(place, attributes, self.drops)
