"""Spans of the application's own tracing that go on: where each was begun, and which of them stand for one model call.

A span is held weakly, and what is known of it for as long as it lives itself. One that has been recorded is forgotten:
however many bridges see it, it is recorded once.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from opentelemetry.sdk.trace import ReadableSpan, Span

from ..attempt import UpstreamNaming, naming
from ..conventions import is_model_call, model_of
from ..model_calls import ModelNaming, model_naming
from ..scope import Recording, current

OPEN_LIMIT: Final = 8192
"""Spans that are open at most; then the oldest is forgotten, and counted as ``span:too_many_open``."""

APART: Final = frozenset({"opentelemetry.instrumentation.anthropic", "opentelemetry.instrumentation.langchain"})
"""The instrumentations (OpenLLMetry's) that do not make the span of a model call the current one: what others beneath
them make of the same call is no child of theirs, but stands beside it."""


@dataclass(slots=True, eq=False)
class OpenSpan:
    """What is known of a span since it was begun."""

    place: Recording | None
    """Where. None: outside of any request or work."""
    upstream: UpstreamNaming | None
    model: ModelNaming
    instrumentation: str
    parent_id: int | None
    span: weakref.ref[Span]
    counted: bool = False
    """Whether those around it know that it is a model call."""
    within: set[str] = field(default_factory=set)
    """The instrumentations that have made a span of the same call beneath this one: theirs are what is recorded."""


class OpenSpans:
    """The open spans of one process, whichever providers they are of."""

    def __init__(self, forgotten: Callable[[], None]) -> None:
        """``forgotten`` is told of each that there was no room for."""
        self._forgotten = forgotten
        # Of a dict and a list, single operations only: each is whole without a lock, which a weak reference that dies
        # anywhere at all, or a child that was forked while it was held, could wait for for ever.
        self._open: dict[int, OpenSpan] = {}
        self._apart: list[OpenSpan] = []

    def __len__(self) -> int:
        return len(self._open)

    def begin(self, span: Span) -> OpenSpan:
        """A span has begun, here."""
        span_id = span.get_span_context().span_id
        known = self._open.get(span_id)
        if known is not None:
            return known  # another bridge has seen it first
        self._make_room()
        opened = OpenSpan(
            current(),
            naming(),
            model_naming(),
            instrumentation_of(span),
            span.parent.span_id if span.parent is not None else None,
            weakref.ref(span, lambda _dead: self._forget(span_id)),
        )
        self._open[span_id] = opened
        if opened.instrumentation in APART:
            self._apart.append(opened)
        self._tell_those_around(opened, span.attributes or {})
        return opened

    def end(self, span: ReadableSpan) -> OpenSpan | None:
        """A span that is to be recorded has ended. None: it is recorded already, or was forgotten."""
        context = span.get_span_context()
        opened = self._forget(context.span_id) if context is not None else None
        if opened is not None:
            self._tell_those_around(opened, span.attributes or {})
        return opened

    def _make_room(self) -> None:
        with suppress(RuntimeError, StopIteration):  # other threads are at it, too: there will be room again
            while len(self._open) >= OPEN_LIMIT:
                if self._forget(next(iter(self._open))) is not None:
                    self._forgotten()

    def _forget(self, span_id: int) -> OpenSpan | None:
        opened = self._open.pop(span_id, None)
        if opened is not None and opened.instrumentation in APART:
            with suppress(ValueError):
                self._apart.remove(opened)
        return opened

    def _tell_those_around(self, opened: OpenSpan, attributes: Mapping[str, Any]) -> None:
        """Spans around a model call may stand for the same one. Told when it begins, if its attributes say what it is
        by then: what is around it may end before it, as where a stream is given up.
        """
        model = model_of(attributes)
        if opened.counted or model is None or not is_model_call(attributes):
            return
        opened.counted = True
        outer = self._around(opened)
        while outer is not None:
            outer.within.add(opened.instrumentation)
            outer = self._around(outer)
        for beside in reversed(tuple(self._apart)):
            if _same_call(beside, opened, model):
                beside.within.add(opened.instrumentation)
                return

    def _around(self, opened: OpenSpan) -> OpenSpan | None:
        return self._open.get(opened.parent_id) if opened.parent_id is not None else None


def _same_call(beside: OpenSpan, opened: OpenSpan, model: str) -> bool:
    """Whether a span that stands apart is of the same call as one that was begun after it: of the same model, in the
    same place, and by an instrumentation that has not made one of it yet.
    """
    span = beside.span()
    return (
        span is not None
        and opened.instrumentation not in (beside.instrumentation, *beside.within)
        and beside.parent_id == opened.parent_id
        and _scope(beside) is _scope(opened)
        and model_of(span.attributes or {}) == model
    )


def _scope(opened: OpenSpan) -> object:
    return opened.place.scope if opened.place is not None else None


def instrumentation_of(span: ReadableSpan) -> str:
    """The name of its instrumentation scope."""
    scope = span.instrumentation_scope
    return scope.name if scope is not None else ""
