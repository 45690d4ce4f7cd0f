"""Spans of the application's own tracing that go on: where each was begun, and which of them stand for one model call.

A span is held weakly, and what is known of it for as long as it lives itself. One that has been recorded is forgotten:
however many bridges see it, it is recorded once.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

from opentelemetry.sdk.trace import ReadableSpan, Span

from ..attempt import UpstreamNaming, naming
from ..conventions import is_model_call, model_of, of_gen_ai
from ..model_calls import ModelNaming, model_naming
from ..scope import Recording, current

OPEN_LIMIT: Final = 8192
"""Spans that are open at most; then the oldest is forgotten, and counted as ``span:too_many_open``."""

NEAREST: Final = 512
"""Spans in one place that are looked at for the other one of a call, at most: those that never end stay among them."""

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
    """Whether those around it and beside it know which model it calls."""
    within: dict[str, OpenSpan] = field(default_factory=dict)
    """Spans of the same call beneath this one, which are what is recorded: the first of each instrumentation."""
    model_asked: str | None = None
    """The model that it calls, once that was asked for and known: of spans that never end there may be thousands."""

    @property
    def attributes(self) -> Mapping[str, Any]:
        """What the span says by now."""
        span = self.span()
        return (span.attributes if span is not None else None) or {}

    def asks(self, model: str) -> bool:
        """Whether it calls this model."""
        if self.model_asked is None:
            self.model_asked = model_of(self.attributes)
        return self.model_asked == model


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
        if opened.counted or not is_model_call(attributes):
            return
        for outer in self._around(opened):
            outer.within.setdefault(opened.instrumentation, opened)
        model = model_of(attributes)
        if model is not None:
            opened.counted = True
            self._pair(opened, model)

    def _around(self, opened: OpenSpan) -> Iterator[OpenSpan]:
        """The spans around it, up to one of an agent or a tool: what that asks a model is a call of its own."""
        outer: OpenSpan | None = opened
        while outer is not None and outer.parent_id is not None:
            outer = self._open.get(outer.parent_id)
            said = outer.attributes if outer is not None else {}
            if outer is None or (of_gen_ai(said) and not is_model_call(said)):
                return
            yield outer

    def _pair(self, opened: OpenSpan, model: str) -> None:
        """Find the span that stands apart and is of the same call: of the same model, in the same place, and not found
        by another one of this instrumentation yet.
        """
        scope = _scope(opened)
        here = (
            beside
            for beside in reversed(tuple(self._apart))
            if beside.parent_id == opened.parent_id and _scope(beside) is scope
        )
        for beside in islice(here, NEAREST):
            if (
                opened.instrumentation not in beside.within
                and beside.instrumentation != opened.instrumentation
                and beside.asks(model)
                # One operation, by which one of several threads finds it.
                and beside.within.setdefault(opened.instrumentation, opened) is opened
            ):
                return


def _scope(opened: OpenSpan) -> object:
    return opened.place.scope if opened.place is not None else None


def instrumentation_of(span: ReadableSpan) -> str:
    """The name of its instrumentation scope."""
    scope = span.instrumentation_scope
    return scope.name if scope is not None else ""
