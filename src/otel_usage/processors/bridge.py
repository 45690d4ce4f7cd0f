"""Makes usage of the spans of other instrumentations: model calls, and calls of the services that are chosen."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any, Final

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import NonRecordingSpan, SpanKind, StatusCode, use_span

from ..attempt import UpstreamAttempt, UpstreamNaming
from ..conventions import (
    called,
    error_of,
    http_status,
    is_hooked,
    is_model_call,
    model_of,
    model_provider_of,
    model_usage,
    of_gen_ai,
    reason_of_call,
)
from ..facts import provider_of
from ..forms import MODEL_CALLS
from ..guard import guarded
from ..model_calls import ModelCall
from ..recorder import Recorder
from ..runtime import active
from .open_spans import OpenSpan, OpenSpans, instrumentation_of

_CALLS: Final = (SpanKind.CLIENT, SpanKind.PRODUCER)
_MODEL_CALLS: Final = (SpanKind.CLIENT, SpanKind.INTERNAL)


def _forgotten() -> None:
    recorder = active()
    if recorder is not None:
        recorder.drops.add("span:too_many_open")


OPEN: Final = OpenSpans(_forgotten)
"""One for all bridges, so that a span that two of them see is recorded once."""


class Chosen:
    """What of other instrumentations' spans becomes usage."""

    def __init__(self, *, gen_ai: bool, scopes: Iterable[str], http: bool = False) -> None:
        self.gen_ai: Final = gen_ai
        self.scopes: Final = frozenset(scopes)
        self.http: Final = http
        self._below: Final = tuple(f"{name}." for name in self.scopes)

    def model_call(self, span: ReadableSpan) -> bool:
        """Whether it becomes a model call."""
        return self.gen_ai and span.kind in _MODEL_CALLS and is_model_call(span.attributes or {})

    def call(self, span: ReadableSpan) -> bool:
        """Whether it becomes a call of another service. HTTP and gRPC are seen by hooks of our own, byte by byte."""
        attributes = span.attributes or {}
        if span.kind not in _CALLS or of_gen_ai(attributes) or (is_hooked(attributes) and not self.http):
            return False
        name = instrumentation_of(span)
        return name in self.scopes or name.startswith(self._below)


class UsageBridgeProcessor(SpanProcessor):
    """Add it to the application's own ``TracerProvider``: model calls (``gen_ai`` spans), and spans of the chosen
    instrumentation scopes, become usage of the request that they were begun in.

    It sees the spans that the provider records: one that a sampler drops is no usage. Of a span it reads the attributes
    that ``conventions`` names, its kind, status and times, and keeps none of it. Does nothing while usage is off, and
    never raises. Several of them, on one provider or on several, record a span once.
    """

    def __init__(self, *, gen_ai: bool = True, scopes: Iterable[str] = (), http: bool = False) -> None:
        """Choose what becomes usage.

        Args:
            gen_ai: Whether model calls do. Spans around them (agents, chains, tools, and a second span of the same
                call) do not: their tokens would count twice.
            scopes: The instrumentations whose CLIENT and PRODUCER spans do, by the name of their instrumentation scope
                or by what is before one of its dots: ``opentelemetry.instrumentation.redis``. Empty: none.
            http: Whether HTTP requests, calls of AWS and of gRPC among those do, which the hooks of this package record
                already.
        """
        if isinstance(scopes, str):
            raise TypeError("scopes are several names, such as a tuple of them")
        self._chosen = Chosen(gen_ai=gen_ai, scopes=scopes, http=http)

    def chosen(self, recorder: Recorder) -> Chosen:
        """What becomes usage now."""
        return self._chosen

    @guarded(None)
    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        recorder = active()
        if recorder is None:
            return
        opened = OPEN.begin(span)
        if opened.upstream is not None and self.chosen(recorder).call(span):
            opened.upstream.attempts += 1  # the block around it need not stand for the call itself

    @guarded(None)
    def on_end(self, span: ReadableSpan) -> None:
        recorder = active()
        if recorder is None:
            return
        chosen = self.chosen(recorder)
        if chosen.model_call(span):
            opened = OPEN.end(span)
            if opened is not None and not opened.within:
                with _its_trace(span, opened):
                    _record_model_call(recorder, span, opened)
        elif chosen.call(span):
            opened = OPEN.end(span)
            if opened is not None:
                with _its_trace(span, opened):
                    _record_call(recorder, span, opened)

    def shutdown(self) -> None:
        """Nothing: what was recorded is the pipeline's, which outlasts any provider."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing waits here."""
        return True


class ConfiguredBridge(UsageBridgeProcessor):
    """Takes what the running configuration names: a provider keeps it, whatever is configured next."""

    def chosen(self, recorder: Recorder) -> Chosen:
        return _configured(recorder.config.bridge)


@lru_cache(maxsize=8)
def _configured(names: frozenset[str]) -> Chosen:
    return Chosen(gen_ai=MODEL_CALLS in names, scopes=names - {MODEL_CALLS})


def _its_trace(span: ReadableSpan, opened: OpenSpan) -> AbstractContextManager[object]:
    """Makes a record that belongs to no request one of the trace that the span is in."""
    context = span.get_span_context()
    if opened.place is not None or context is None:
        return nullcontext()
    return use_span(NonRecordingSpan(context))


def _record_model_call(recorder: Recorder, span: ReadableSpan, opened: OpenSpan) -> None:
    attributes = span.attributes or {}
    started, ended = _times(span)
    ModelCall(
        provider=model_provider_of(attributes),
        model=model_of(attributes),
        stage=opened.model.stage,
        reason=reason_of_call(attributes, _error(span)),
        own={**model_usage(attributes), "usage.llm.fallback_index": opened.model.fallback_index},
        started=started,
        ended=ended,
    ).record(recorder, opened.place)


def _record_call(recorder: Recorder, span: ReadableSpan, opened: OpenSpan) -> None:
    attributes = span.attributes or {}
    found = called(span.name, attributes)
    named = provider_of(found.host, recorder.config.providers) if found.host is not None else None
    provider = named if named != found.host else found.system
    started, ended = _times(span)
    attempt = UpstreamAttempt(
        recorder,
        _named(opened.upstream, provider, found.operation),
        None,
        found.host,
        (started, time.perf_counter_ns()),
        lambda: opened.place,
    )
    attempt.status = http_status(attributes)
    attempt.error = _error(span)
    attempt.complete = True
    attempt.finish(ended - started)


def _named(said: UpstreamNaming | None, provider: str | None, operation: str | None) -> UpstreamNaming:
    """What the application says goes before what its instrumentation does."""
    if said is None:
        return UpstreamNaming(provider, operation)
    return UpstreamNaming(
        provider if said.provider is None else said.provider,
        operation if said.operation is None else said.operation,
        said.cache_status,
    )


def _times(span: ReadableSpan) -> tuple[int, int]:
    started = span.start_time or time.time_ns()
    return started, max(span.end_time or started, started)


def _error(span: ReadableSpan) -> str | None:
    failed = span.status.status_code is StatusCode.ERROR
    raised: Any = None
    for event in reversed(span.events) if failed else ():
        if event.name == "exception":
            raised = (event.attributes or {}).get("exception.type")
            break
    return error_of(span.attributes or {}, failed=failed, exception=raised)
