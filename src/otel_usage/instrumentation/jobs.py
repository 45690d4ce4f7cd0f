"""What the hooks of task queues share: what a job is given on its way, and the span of each attempt at it.

A job is given what is known where it is enqueued, signed for it alone. An attempt is a span in a scope of its own, for
the customer that the job came with, in the trace of whoever enqueued it. Where the job is done at once, by whoever
enqueues it, the span is one more within what is around.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from ..guard import guarded
from ..jobs import Job
from ..runtime import active
from ..scope import UsageScope, current
from ..span import UsageSpan

__all__ = ["KEY", "Job", "attempt", "carried", "deliver", "failed"]

KEY: Final = "otel_usage"
"""Under which a job holds what it carries: a header, an option, a field."""

_ATTEMPT: Final[ContextVar[UsageSpan | None]] = ContextVar("otel_usage.attempt", default=None)


@guarded(None)
def carried(job: Job, has: object = None) -> str | None:
    """What ``job`` is to be given where it is enqueued. None: nothing, and what it ``has`` is left as it is.

    A job that is enqueued again, to be tried again, keeps what it has: it is a part of the work that it was enqueued
    by at first, and not of an attempt that has failed.
    """
    recorder, here = active(), current()
    if recorder is None or here is None or not recorder.jobs.tells or not here.scope.identity.known:
        return None  # before its ids are asked for, which binds its trace
    if has is not None and recorder.jobs.belongs(has, job):
        return None
    return recorder.jobs.token(job, here.scope.identity, here.ids)


@contextmanager
def attempt(read: Callable[[], tuple[Job, object] | None], *, at_once: bool = False) -> Iterator[None]:
    """One attempt at a job: a span, and a scope for what is done within. ``read`` gives the job and what it carries;
    None: the job cannot be read, and is not attempted.

    ``at_once``: whoever enqueues it does it, so that it is a part of what is around. A worker's is not, even where a
    request runs the worker: it does jobs of others.
    """
    span = _begun(read, at_once)
    if span is None:
        yield
        return
    with span:
        token = _ATTEMPT.set(span)
        try:
            yield
        finally:
            _ATTEMPT.reset(token)


@guarded(None)
def _begun(read: Callable[[], tuple[Job, object] | None], at_once: bool) -> UsageSpan | None:
    recorder = active()
    if recorder is None:
        return None
    found = read()
    if found is None:
        return None
    job, token = found
    if at_once and current() is not None:
        return UsageSpan(job.name, {})
    scope = UsageScope(recorder)
    vouched = recorder.jobs.believed(token, job) if token is not None else None
    if vouched is not None:
        scope.vouched(vouched)
    return UsageSpan(job.name, {}, scope)


@guarded(None)
def failed(error: BaseException) -> None:
    """The attempt that is being made has failed: its library keeps the error from whoever has called it."""
    span = _ATTEMPT.get()
    if span is not None:
        span.record_exception(error)


@guarded(None)
def deliver() -> None:
    """Deliver what waits: the process is about to end by ``os._exit``, which runs nothing of ours."""
    recorder = active()
    if recorder is not None:
        recorder.flush()
