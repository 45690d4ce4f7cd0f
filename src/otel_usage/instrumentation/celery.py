"""Celery: a job carries its customer as a header of its message, and each time that a worker traces it is a span.

The tracer of a task is what each pool calls, and eager mode too: around it, callbacks, the next steps of a chain and
the publishing of a retry are within the attempt. It keeps the task's error to itself, and says in its answer how it
ended.
"""

from __future__ import annotations

from typing import Any, Final
from uuid import uuid4

from ..guard import guarded
from .hooks import Function, Hook
from .jobs import KEY, Job, attempt, carried, deliver, failed


def _send_task(original: Function) -> Function:
    def send_task(  # noqa: PLR0917  # as Celery's own
        self: Any,
        name: Any,
        args: Any = None,
        kwargs: Any = None,
        countdown: Any = None,
        eta: Any = None,
        task_id: Any = None,
        *others: Any,
        **options: Any,
    ) -> Any:
        told = _told(name, task_id, options.get("headers"))
        if told is not None:
            task_id, options["headers"] = told
        return original(self, name, args, kwargs, countdown, eta, task_id, *others, **options)

    return send_task


@guarded(None)
def _told(name: Any, task_id: Any, headers: Any) -> tuple[str, dict[str, Any]] | None:
    """The job's id, which Celery would make else, and its headers. None: they stay as they are."""
    task_id = task_id or str(uuid4())
    own = dict(headers or {})  # Celery takes pairs as well
    token = carried(Job("celery", name, task_id), own.get(KEY))
    return None if token is None else (task_id, {**own, KEY: token})


def _build_tracer(original: Function) -> Function:
    def build_tracer(name: Any, task: Any, *args: Any, **kwargs: Any) -> Any:
        trace = original(name, task, *args, **kwargs)

        def trace_task(uuid: Any, args: Any, kwargs: Any, request: Any = None) -> Any:
            known = request or {}
            with attempt(lambda: (Job("celery", name, uuid), known.get(KEY)), at_once=bool(known.get("is_eager"))):
                outcome = trace(uuid, args, kwargs, request)
                _ended(outcome)
                return outcome

        return trace_task

    return build_tracer


@guarded(None)
def _ended(outcome: Any) -> None:
    info = outcome.info
    if info is None or info.state not in _FAILED:
        return
    # A retry is raised by the task, and holds what the task has failed of, if anything.
    cause = getattr(info.retval, "exc", None) if info.state == "RETRY" else None
    failed(cause if isinstance(cause, BaseException) else info.retval)


_FAILED: Final = ("FAILURE", "RETRY")  # others are a task's own wish, to be ignored or rejected


def _process_destructor(original: Function) -> Function:
    def process_destructor(pid: Any, exitcode: Any) -> Any:
        try:
            return original(pid, exitcode)
        finally:
            deliver()  # the pool's process has done its last job, and ends by os._exit

    return process_destructor


TESTED: Final = {"celery": "5.7"}

HOOKS: Final = (
    Hook("celery.app.base", "Celery.send_task", _send_task),
    Hook("celery.app.trace", "build_tracer", _build_tracer),
    # Imported by name, perhaps before usage is on: it makes the tracers of pools without processes.
    Hook("celery.worker.consumer.consumer", "build_tracer", _build_tracer),
    Hook("celery.concurrency.prefork", "process_destructor", _process_destructor),
)
