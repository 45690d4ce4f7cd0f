"""RQ: a job carries its customer as a field of its own in the hash that RQ keeps of it, and each attempt is a span.

Not in the job's ``meta``, which belongs to the application: that may be replaced, and is shown. RQ reads the fields
that it knows, in any version, and writes only those: ours stays until the job is deleted.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Final

from ..guard import guarded
from .hooks import Function, Hook
from .jobs import KEY, Job, attempt, carried, deliver, failed

_CARRIES: Final = "_otel_usage"
"""The attribute of RQ's job that holds the field."""


def _create(original: Function) -> Function:
    def create(cls: Any, *args: Any, **kwargs: Any) -> Any:
        job = original(cls, *args, **kwargs)
        _tell(job)
        return job

    return create


@guarded(None)
def _tell(job: Any) -> None:
    token = carried(_named(job))
    if token is not None:
        setattr(job, _CARRIES, token)


def _named(job: Any) -> Job:
    """An id may be used again, and RQ leaves fields in the hash that it does not write: the moment tells jobs apart."""
    return Job("rq", job.func_name, f"{job.id}@{job.created_at:%Y-%m-%dT%H:%M:%S.%f}")


def _to_dict(original: Function) -> Function:
    def to_dict(self: Any, *args: Any, **kwargs: Any) -> Any:
        fields = original(self, *args, **kwargs)
        token = getattr(self, _CARRIES, None)
        return fields if token is None else {**fields, KEY: token}

    return to_dict


def _restore(original: Function) -> Function:
    def restore(self: Any, raw_data: Any) -> Any:
        restored = original(self, raw_data)
        _remember(self, raw_data)
        return restored

    return restore


@guarded(None)
def _remember(job: Any, fields: Any) -> None:
    token = fields.get(KEY.encode(), fields.get(KEY))  # of text where the connection decodes
    if token is not None:
        setattr(job, _CARRIES, token.decode("ascii", "replace") if isinstance(token, bytes) else token)


def _perform_job(original: Function) -> Function:
    """A worker's. Beside the job's function it calls what the job has for its success or failure."""

    def perform_job(self: Any, job: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            with _attempt(job, at_once=False):
                return original(self, job, *args, **kwargs)
        finally:
            if getattr(self, "is_horse", False):
                deliver()  # a process for this job alone, which ends by os._exit

    return perform_job


def _run_sync(original: Function) -> Function:
    """A queue's, where it is not to be asynchronous: within whoever enqueues."""

    def run_sync(self: Any, job: Any) -> Any:
        with _attempt(job, at_once=True):
            return original(self, job)

    return run_sync


def _attempt(job: Any, *, at_once: bool) -> AbstractContextManager[None]:
    return attempt(lambda: _read(job), at_once=at_once)


def _read(job: Any) -> tuple[Job, object] | None:
    try:
        return _named(job), getattr(job, _CARRIES, None)
    except Exception:  # what it is to call cannot be unpickled: RQ is about to say so, and calls nothing
        return None


def _perform(original: Function) -> Function:
    """The job's own: both of the above keep its error."""

    def perform(self: Any) -> Any:
        try:
            return original(self)
        except BaseException as error:
            failed(error)
            raise

    return perform


TESTED: Final = {"rq": "3.0"}

HOOKS: Final = (
    Hook("rq.job", "Job.create", _create),
    Hook("rq.job", "Job.to_dict", _to_dict),
    Hook("rq.job", "Job.restore", _restore),
    Hook("rq.job", "Job.perform", _perform),
    Hook("rq.worker.base", "BaseWorker.perform_job", _perform_job),
    Hook("rq.queue", "Queue.run_sync", _run_sync),
)
