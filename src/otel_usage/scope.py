"""The unit that usage is attributed to: one request, or one piece of work outside of any request.

A :class:`UsageScope` travels in a context variable of its own and not in OpenTelemetry's context: propagators that
extract from a request replace that context whole, and whatever is in it can be injected into calls to third parties.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar, Token
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, Protocol

from opentelemetry import trace
from opentelemetry.context import get_current
from opentelemetry.trace import Link, SpanContext

from .guard import guarded
from .identity import UNKNOWN, UsageIdentity
from .ids import new_ids

if TYPE_CHECKING:
    from .attribution import Attribution
    from .recorder import Recorder

GRACE: Final = 60 * 10**9
"""Nanoseconds after its end that work started by a request is still counted for it.

A library may start a long-lived thread or task during a request (a client's connection pool, a queue's consumer). It
inherits the request's context, and without this bound would be counted for that customer for ever."""

PENDING_LIMIT: Final = 64
"""Finished spans that wait for the caller to become known at most; then the oldest goes as it is."""

EVENT_LIMIT: Final = 128
"""Events on one span at most (the SDK's own limit)."""

Event = tuple[int, str, dict[str, Any]]
"""Time in nanoseconds since the epoch, name, attributes."""


class Recording(Protocol):
    """What recording functions need of the place they are called in: a scope, or a span within one."""

    @property
    def scope(self) -> UsageScope:
        """The scope that the place belongs to."""

    @property
    def recorder(self) -> Recorder:
        """The scope's."""

    @property
    def ids(self) -> tuple[bytes, bytes]:
        """The trace of new spans, 16 bytes, and the span that they become children of, 8 bytes."""

    @property
    def live(self) -> Recording | None:
        """Itself while it lasts, then what is around it, as long as work is counted for that. None: no more."""

    def event(self, name: str, attributes: dict[str, Any]) -> None:
        """Add an event to that span."""

    def identify(self, identity: UsageIdentity) -> None:
        """Tell the scope what has become known here about the caller."""


class _Aside(Enum):
    """Where something was said of the caller, other than by the work itself."""

    THREAD = "thread"
    TASK = "task"


class UsageScope:
    """Identity, trace and unfinished business of one unit of work."""

    # Of two threads that say something of one scope at the same time, neither's word may be lost. One lock for all: it
    # is held for a microsecond, and one for each would cost each request. Re-entrant, because a finalizer that runs in
    # between may say something too.
    _lock = threading.RLock()

    # What most requests never say is a default of the class, and not of each of them: that halves what one costs.
    identity: UsageIdentity = UNKNOWN
    link: Link | None = None
    closed_at: int | None = None
    """By the performance counter, in nanoseconds. None: it goes on."""
    _said_by: _Aside | None = None
    events: tuple[Event, ...] = ()
    remote_trace_id: bytes | None = None
    """The trace that the caller said it is in. None: none."""
    _ids: tuple[bytes, bytes] | None = None
    _parent: tuple[bytes, bytes] | None = None
    _waiting: deque[Callable[[UsageIdentity], None]] | None = None

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder

    def __deepcopy__(self, memo: object) -> UsageScope:
        """Itself: an application may copy the ASGI scope that it stands in, and that is still this request."""
        return self

    def __copy__(self) -> UsageScope:
        return self

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        """None: an application may send what it stands in to another process, where nothing is recorded for it."""
        return type(None), ()

    @property
    def scope(self) -> UsageScope:
        return self

    @property
    def ids(self) -> tuple[bytes, bytes]:
        """The trace, bound when it is first asked for, and the span that stands for this scope."""
        return self._ids or self._bound()

    @property
    def made_id(self) -> str | None:
        """The request's id, where it was made here. None: it was not, or this is no request."""
        return None

    @property
    def template(self) -> str | None:
        """The route's template. None: this is no request, or no route has matched."""
        return None

    @property
    def live(self) -> Recording | None:
        """Itself until it ends, and for :data:`GRACE` after."""
        return self if self.closed_at is None or time.perf_counter_ns() - self.closed_at < GRACE else None

    @property
    def parent_id(self) -> bytes:
        """The span of another process that this one's span is a child of. Empty: it is a root."""
        return self._parent[1] if self._parent is not None else b""

    def vouched(self, attribution: Attribution) -> None:
        """Begin with what a service of ours vouches for."""
        self._parent = attribution.trace_id, attribution.span_id
        self.remote_trace_id = attribution.trace_id
        self.identity = attribution.identity

    def event(self, name: str, attributes: dict[str, Any]) -> None:
        added = time.time_ns(), name, attributes
        with self._lock:
            room = len(self.events) < EVENT_LIMIT and self.closed_at is None
            if room:
                self.events = (*self.events, added)
        if not room:
            self.recorder.drops.add(f"event:{name}")

    def bind_trace(self) -> None:
        """Bind the trace now, if it is not, and link to the application's own span that is current.

        Where the trace was bound by a call inside the application, the span that was current then was a smaller one.
        """
        self._bound()
        if get_current():  # an empty context has no span, as where nobody traces
            self._link_to_user()

    def identify(self, identity: UsageIdentity, *, inherited: bool = False) -> None:
        """Merge what has become known about the caller, and attribute what waited for it.

        ``inherited``: a thread says it that the work has started and that may be at somebody else's by now, as may a
        task (:meth:`elsewhere`). Another customer than the one that is vouched for is refused there, and counted; the
        first one is believed until the work itself says that it is another's.
        """
        if identity is self.identity:
            return  # it is said again, as by each part of an application that has looked
        aside = _Aside.THREAD if inherited else _Aside.TASK if self.elsewhere() else None
        with self._lock:
            if self.identity is UNKNOWN and identity.known:
                self.identity, self._said_by = identity, aside  # as `merged` would have it: most requests say no more
            elif self.outranks(identity):
                return
            elif aside is not None and self.identity.contradicted_by(identity):
                self.recorder.drops.add("identify:other_customer")
                return
            else:
                if not self.identity.known:
                    self._said_by = aside
                known = self.identity if aside is not None else self._kept_beside(identity)
                self.identity = known.merged(identity)
        if self._waiting:
            self._attribute_known()

    def elsewhere(self) -> bool:
        """Whether it is asked on a task that the work has started and that is not a part of it, as far as that can be
        told. For work without tasks it is not.
        """
        return False

    def outranks(self, identity: UsageIdentity) -> bool:
        """Whether what is known here is not to be changed by such an identity."""
        # A service of ours that calls for a customer vouches for the customer: its own name does not take their place.
        behind = self._parent is not None and self.identity.vouched_customer is not None
        return behind and identity.auth_kind == "internal"

    def found_out(self, identity: UsageIdentity) -> None:
        """Put what was looked up about the caller beneath what has been said explicitly by the work itself."""
        with self._lock:
            said = self._kept_beside(identity)
            self.identity = identity if said == UNKNOWN else identity.merged(said)
        self._attribute_known()

    def _kept_beside(self, word: UsageIdentity) -> UsageIdentity:
        """What is known of the caller beside the work's own word. What was first said aside goes where the work names
        another customer; where it says that there is none, a thread is believed less than that, and a task, which most
        likely is a part of the work after all, is not.
        """
        nobody = word.auth_kind == "anon" and self._said_by is _Aside.THREAD
        if self._said_by is not None and (nobody or self.identity.names_another(word)):
            self.recorder.drops.add("identify:other_customer")
            self._said_by = None
            return UNKNOWN
        return self.identity

    def attribute(self, emit: Callable[[UsageIdentity], None]) -> None:
        """Call ``emit`` with the identity: at once if it is known, else when it is, or when the scope closes."""
        if self._waiting is None:
            if self.identity.known:
                emit(self.identity)
                return
            with self._lock:
                # A deque: each of several threads that attribute at the same time takes spans that no other takes.
                if self._waiting is None:  # an empty one is another thread's, which is about to append to it
                    self._waiting = deque()
        self._waiting.append(emit)  # first: what another thread says from here on finds it there
        if self.identity.known or self.closed_at is not None:
            self._attribute()
        elif len(self._waiting) > PENDING_LIMIT:
            self.recorder.drops.add("identify:too_late")  # the span is not lost, but it is nobody's
            self._attribute(keep=PENDING_LIMIT)

    def inherited(self) -> dict[str, Any]:
        """The attributes that spans within the scope share with it, beside identity, route and an id made here."""
        return {}

    def close(self) -> None:
        """The work is over: what still waits goes with what is known."""
        self.closed_at = time.perf_counter_ns()
        if self._waiting:
            self._attribute()

    def _attribute_known(self) -> None:
        if self.identity.known:
            self._attribute()

    def _attribute(self, keep: int = 0) -> None:
        waiting = self._waiting
        while waiting is not None and len(waiting) > keep:
            try:
                emit = waiting.popleft()
            except IndexError:  # another thread took the last one
                return
            _emit(emit, self.identity)

    def _bound(self) -> tuple[bytes, bytes]:
        trace_id = self.remote_trace_id
        # What is current after the end is another's: on the worker perhaps of whichever request started it. Not under
        # the lock: a span of the application's own class may wait there for one that waits for ours.
        if trace_id is None and self.closed_at is None and self._ids is None and get_current():
            trace_id = self._link_to_user()
        with self._lock:
            if self._ids is None:
                new_trace_id, span_id = new_ids()
                self._ids = trace_id or new_trace_id, span_id
            return self._ids

    def _link_to_user(self) -> bytes | None:
        """Link to the application's current span if its backend will have it. Returns the trace it is in."""
        span = trace.get_current_span()
        context = span.get_span_context()
        if not context.is_valid:
            return None
        # The instrumentation of ASGI wraps every send in a span of its own, whose parent is the request's.
        parent = getattr(span, "parent", None)
        server_kind = getattr(span, "kind", None) is trace.SpanKind.SERVER
        target = context if server_kind or parent is None or parent.is_remote else parent
        if context.trace_flags.sampled and not context.is_remote:  # a remote one is the caller's, merely passed on
            self.link = Link(SpanContext(target.trace_id, target.span_id, target.is_remote, target.trace_flags))
        return context.trace_id.to_bytes(16)


def _renew_lock() -> None:
    UsageScope._lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)  # a thread that the child does not have may hold the parent's


@dataclass(frozen=True, slots=True)
class Inherited:
    """A place of recording as a thread has it that was started there.

    The thread may serve others by now, as a queue's consumer does. What it says of the caller is believed as far as it
    does not put the work on another customer's account.
    """

    place: Recording

    @property
    def recorder(self) -> Recorder:
        return self.place.recorder

    @property
    def scope(self) -> UsageScope:
        return self.place.scope

    @property
    def ids(self) -> tuple[bytes, bytes]:
        return self.place.ids

    @property
    def live(self) -> Recording | None:
        """What is left of the place, still as inherited."""
        live = self.place.live
        return None if live is None else inherited(live)

    def event(self, name: str, attributes: dict[str, Any]) -> None:
        self.place.event(name, attributes)

    def identify(self, identity: UsageIdentity) -> None:
        self.scope.identify(identity, inherited=True)


def inherited(place: Recording) -> Recording:
    """The place as a thread has it that is started there, and all that the thread starts in its turn."""
    return place if isinstance(place, Inherited) else Inherited(place)


@guarded(None)
def _emit(emit: Callable[[UsageIdentity], None], identity: UsageIdentity) -> None:
    """One span's failure must not keep those that wait behind it, nor the request's own."""
    emit(identity)


CURRENT: Final[ContextVar[Recording | None]] = ContextVar("otel_usage.current", default=None)
"""What is current, expired or not. Ask :func:`current`."""


def current() -> Recording | None:
    """The scope, or the span within one, that the caller runs in. None outside, and when its scope has expired."""
    recording = CURRENT.get()
    return recording.live if recording is not None else None


def enter(recording: Recording | None) -> Token[Recording | None]:
    """Make ``recording`` current until :func:`leave`."""
    return CURRENT.set(recording)


def leave(token: Token[Recording | None]) -> None:
    """Undo :func:`enter`. An async generator may be closed in another context; there is nothing to undo there."""
    try:
        CURRENT.reset(token)
    except ValueError:
        return
