"""A finished usage span: recorded in a microsecond, and an SDK span for whoever asks it for a part."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, TraceFlags

from ._version import __version__
from .guard import report
from .schema import SCHEMA_URL

if TYPE_CHECKING:
    from .facts import Facts
    from .identity import UsageIdentity
    from .maker import SpanMaker

Event = tuple[int, str, Mapping[str, Any]]
"""Time in nanoseconds since the epoch, name, attributes."""


SCOPE: Final = InstrumentationScope("otel_usage", __version__, SCHEMA_URL)
"""The instrumentation scope of every usage span."""

T = TypeVar("T")


class Recorded:
    """Something that has ended and becomes a span: on the worker, where that costs half of what it costs a request,
    which has long had other code in the processor's caches.
    """

    __slots__ = ()

    def finished(self, make: Callable[..., T]) -> T:
        """What ``make`` makes of it, as it was at its end. ``make`` takes what :class:`UsageReadableSpan` does, by
        position: that class, or what writes a span with no object between, which costs less.

        Asked for once, and once more if ``make`` raises.
        """
        raise NotImplementedError  # and no abstract class: of those, Python's code says what belongs to them


class UsageReadableSpan(ReadableSpan, Recorded):
    """What was recorded of one span, as it was at its end.

    To make an SDK span of it takes the schema's look at each attribute (25 µs); that is done when somebody asks for a
    part of it, as any exporter does. Our own encoder reads the slots, and has most of that work done already.
    """

    __slots__ = (
        "ended", "facts", "identity", "link", "made_id", "maker", "own", "parent_id", "recorded", "remote_parent",
        "span_id", "started", "trace_id",
    )  # fmt: skip

    def __init__(  # noqa: PLR0917  # by position, which costs half: one is made for each request
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
    ) -> None:
        """Nothing is checked or copied here: what is handed over must not change any more.

        Args:
            maker: What becomes of it.
            facts: What it has in common with others.
            identity: Whom it is for.
            own: Attributes of this span alone.
            trace_id: 16 bytes.
            span_id: 8 bytes.
            parent_id: 8 bytes. Empty: it is a root.
            started: Nanoseconds since the epoch.
            ended: As above.
            made_id: The request's id, where it was made here. None: it was not, and is in ``own``, or there is none.
            recorded: Its events.
            link: To the application's own span. None: there is none.
            remote_parent: Whether the parent is another process's.
        """
        self.maker = maker
        self.facts = facts
        self.identity = identity
        self.own = own
        self.trace_id = trace_id
        self.span_id = span_id
        self.parent_id = parent_id
        self.started = started
        self.ended = ended
        self.made_id = made_id
        self.recorded = recorded
        self.link = link
        self.remote_parent = remote_parent

    def finished(self, make: Callable[..., T]) -> T:
        return make(
            self.maker,
            self.facts,
            self.identity,
            self.own,
            self.trace_id,
            self.span_id,
            self.parent_id,
            self.started,
            self.ended,
            self.made_id,
            self.recorded,
            self.link,
            self.remote_parent,
        )

    def __getattr__(self, name: str) -> Any:
        # The SDK's class keeps its parts under these names, and has no other way to be made of anything later.
        if name not in _PARTS:
            raise AttributeError(name)
        ReadableSpan.__init__(self, **self.maker.parts(self))
        return getattr(self, name)


Queued = ReadableSpan | Recorded
"""What waits for the worker: a span of any provider, or what one of ours is made of."""


def finished(recorded: Queued) -> ReadableSpan | None:
    """What was recorded, as a span. None: there is no making one of it, which is reported."""
    try:
        return recorded if isinstance(recorded, ReadableSpan) else recorded.finished(UsageReadableSpan)
    except Exception as error:  # one span's failure must not cost those beside it
        report("readable.finished", error)
        return None


def seconds(nanoseconds: int) -> float:
    """A duration, to a 2**20th of a second, which is about a microsecond: the zeros that such a number ends with in
    binary compress, and nanoseconds would take 5 bytes of each span.
    """
    return (nanoseconds << 20) // 1_000_000_000 / (1 << 20)


def span_context(trace_id: bytes, span_id: bytes, remote: bool = False) -> SpanContext:
    """The context of a usage span. Always sampled: usage is never sampled away."""
    return SpanContext(int.from_bytes(trace_id), int.from_bytes(span_id), remote, _SAMPLED)


_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_PARTS: Final = frozenset(vars(ReadableSpan("")))
