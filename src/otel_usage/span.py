"""``usage_span`` and ``metered``: work that the application names, as a span of its own."""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar, cast

from opentelemetry.trace import INVALID_SPAN_CONTEXT, Span, SpanContext, Status, StatusCode
from opentelemetry.util.types import Attributes

from .error_type import type_name
from .facts import WorkFacts
from .guard import guarded
from .identity import UsageIdentity
from .ids import new_span_id
from .readable import UsageReadableSpan, span_context
from .runtime import active
from .schema import UsageEvent
from .scope import EVENT_LIMIT, Event, Recording, UsageScope, current, enter, leave

if TYPE_CHECKING:
    from contextvars import Token

    from .recorder import Recorder

P = ParamSpec("P")
T = TypeVar("T")

_EVENTS: Final = frozenset(UsageEvent)


class UsageSpan(Span):
    """A custom usage span, as OpenTelemetry's own :class:`~opentelemetry.trace.Span`.

    It keeps its attributes in a plain dict and becomes an SDK span once, at its end. Attributes and events that the
    schema does not name are dropped then, and counted by key. Within a request it is a child of the request's span;
    outside, it is a root, and ``identify()`` within it says whom it is for.
    """

    def __init__(self, name: str, attributes: Mapping[str, Any], stands_for: UsageScope | None = None) -> None:
        """``stands_for``: a scope that has not begun, whose own span this is. None: it belongs to what is around it."""
        self._stands_for = stands_for
        self._name = name
        self._attributes = dict(attributes)
        self._events: list[Event] = []
        self._failed = False
        self._ended = False
        self._started = 0
        self._start = 0
        self._parent: Recording | None = None
        self._scope: UsageScope | None = None
        self._ids: tuple[bytes, bytes] | None = None
        self._token: Token[Recording | None] | None = None

    @property
    def scope(self) -> UsageScope:
        assert self._scope is not None  # current() only ever returns a span that has been entered
        return self._scope

    @property
    def recorder(self) -> Recorder:
        return self.scope.recorder

    @property
    def ids(self) -> tuple[bytes, bytes]:
        return self._ids if self._ids is not None else self.scope.ids

    @property
    def live(self) -> Recording | None:
        """Itself until it ends. What it has started may go on, and is then counted for what is around it."""
        if self._ended:
            return self._parent.live if self._parent is not None else self.scope.live
        return self if self.scope.live is not None else None

    def event(self, name: str, attributes: dict[str, Any]) -> None:
        if len(self._events) < EVENT_LIMIT:
            self._events.append((time.time_ns(), name, attributes))
        else:
            # Free text is not even counted by its name.
            self.scope.recorder.drops.add(f"event:{name}" if name in _EVENTS else "event:unknown")

    def identify(self, identity: UsageIdentity) -> None:
        """Say who it is for where the span was begun: in a thread that inherited that, no more than the thread may."""
        (self._parent or self.scope).identify(identity)

    def get_span_context(self) -> SpanContext:
        return span_context(*self.ids) if self._scope is not None else INVALID_SPAN_CONTEXT

    def is_recording(self) -> bool:
        return self._scope is not None and not self._ended

    @guarded(None)
    def set_attribute(self, key: str, value: Any) -> None:
        self._attributes[key] = value

    @guarded(None)
    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        self._attributes.update(attributes)

    @guarded(None)
    def add_event(self, name: str, attributes: Attributes = None, timestamp: int | None = None) -> None:
        """Add one of the schema's events; any other is dropped at the end. ``timestamp`` is not taken: it is now."""
        if self.is_recording():
            self.event(name, dict(attributes or {}))

    def add_link(self, context: SpanContext, attributes: Attributes = None) -> None:
        """Links of a usage span are the package's own, so that no foreign context leaves with it. Does nothing."""

    def update_name(self, name: str) -> None:
        self._name = name

    @guarded(None)
    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        """Only whether it is an error is kept: a description is free text, and does not leave."""
        code = status.status_code if isinstance(status, Status) else status
        self._failed = code is StatusCode.ERROR

    @guarded(None)
    def record_exception(
        self,
        exception: BaseException,
        attributes: Attributes = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        """Only the exception's class is kept: its message and stack trace may hold what a customer sent."""
        self._failed = True
        self._attributes["error.type"] = type_name(exception)

    def __enter__(self) -> UsageSpan:
        self._begin()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if exc is not None:
            self.record_exception(exc)
        self.end()

    @guarded(None)
    def _begin(self) -> None:
        recorder = active()
        if recorder is None or self._scope is not None:
            return
        self._started, self._start = time.time_ns(), time.perf_counter_ns()
        self._parent = current() if self._stands_for is None else None
        self._scope = self._stands_for or (self._parent.scope if self._parent is not None else UsageScope(recorder))
        if self._parent is not None:
            self._ids = self._parent.ids[0], new_span_id()
        self._token = enter(self)

    @guarded(None)
    def end(self, end_time: int | None = None) -> None:
        """End the span; a second call does nothing. ``end_time``: nanoseconds since the epoch. None: now."""
        scope = self._scope
        if scope is None or self._ended:
            return
        self._ended = True
        if self._token is not None:
            leave(self._token)
        end = self._started + time.perf_counter_ns() - self._start if end_time is None else end_time
        name, own, events = self._name, dict(self._attributes), tuple(self._events)
        failed = self._failed  # copies, all: later calls change nothing

        def emit(identity: UsageIdentity) -> None:
            scope.recorder.emit(
                UsageReadableSpan(
                    scope.recorder.maker,
                    WorkFacts(name, failed, scope.template),
                    identity,
                    scope.inherited() | own,
                    *self.ids,
                    self._parent.ids[1] if self._parent is not None else scope.parent_id,
                    self._started,
                    end,
                    scope.made_id,
                    events,
                    scope.link if self._parent is None else None,
                    self._parent is None and bool(scope.parent_id),
                )
            )

        scope.attribute(emit)
        if self._parent is None:
            scope.close()


def usage_span(name: str, *, quantity: float | None = None, unit: str | None = None) -> UsageSpan:
    """Make a span for work that the application names: a context manager, which times what is within it.

    Works in sync and async code, within a request and outside of one. When usage is off it does nothing.

    Args:
        name: What is done, from a small set of names. Not an id, not a path.
        quantity: How much is done. None: it is not counted.
        unit: What the quantity counts.
    """
    return UsageSpan(name, {"usage.quantity": quantity, "usage.unit": unit})


def metered(name: str, *, quantity: float | None = None, unit: str | None = None) -> Callable[
    [Callable[P, T]], Callable[P, T]
]:  # fmt: skip
    """The same as a decorator, for functions and coroutine functions: each call is one span.

    A generator function is measured until it returns its generator, not while that is iterated.
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def acall(*args: P.args, **kwargs: P.kwargs) -> Any:
                with usage_span(name, quantity=quantity, unit=unit):
                    return await function(*args, **kwargs)

            return cast("Callable[P, T]", acall)

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            with usage_span(name, quantity=quantity, unit=unit):
                return function(*args, **kwargs)

        return call

    return decorate
