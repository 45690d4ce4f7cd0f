"""arq: a job carries its customer beside what arq keeps of it, and each call of its coroutine is a span.

arq has no headers: a job is one value, a pickled dict of five keys. What is ours stands behind the pickle's end, where
every unpickler stops reading ("Bytes past the pickled representation of the object are ignored", says Python's
documentation of ``pickle.loads``), and where it is found without unpickling anything. Where the application has a
serializer of its own, it is one more key of the dict, of which arq reads those that it knows. Either way a worker
without usage runs the job.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any, Final
from uuid import uuid4

import wrapt

from ..attribution import LONGEST_TOKEN
from ..guard import guarded
from .hooks import Function, Hook
from .jobs import KEY, Job, attempt, carried

_MARK: Final = f"\n{KEY}:".encode()
"""What stands between a pickle and what is ours."""

_LONGEST: Final = len(_MARK) + LONGEST_TOKEN
"""Bytes at the end of a job that are looked at."""

_TOLD: Final[ContextVar[str | None]] = ContextVar("otel_usage.arq.told", default=None)
"""What the job carries that is being enqueued here."""


def _enqueue_job(original: Function) -> Function:
    async def enqueue_job(self: Any, function: Any, *args: Any, _job_id: Any = None, **kwargs: Any) -> Any:
        job_id = _job_id or uuid4().hex  # as arq makes one
        token = _TOLD.set(carried(Job("arq", function, job_id)))
        try:
            return await original(self, function, *args, _job_id=job_id, **kwargs)
        finally:
            _TOLD.reset(token)

    return enqueue_job


def _serialize_job(original: Function) -> Function:
    def serialize_job(*args: Any, serializer: Any = None, **kwargs: Any) -> Any:
        told = _TOLD.get()
        if told is None:
            return original(*args, serializer=serializer, **kwargs)
        if serializer is None:
            return original(*args, **kwargs) + _MARK + told.encode()
        return original(*args, serializer=_adding(serializer, told), **kwargs)

    return serialize_job


def _adding(serializer: Callable[[Any], Any], told: str) -> Callable[[Any], Any]:
    def serialize(job: Any) -> Any:
        try:
            return serializer({**job, KEY: told})
        except Exception:  # one that takes the keys that it knows, and no other
            return serializer(job)

    return serialize


@dataclass(slots=True)
class _Running:
    """A job that is being run."""

    id: str
    token: object = None


_RUNNING: Final[ContextVar[_Running | None]] = ContextVar("otel_usage.arq.running", default=None)


def _run_job(original: Function) -> Function:
    async def run_job(self: Any, job_id: Any, score: Any) -> None:
        running = _Running(job_id)
        token = _RUNNING.set(running)
        try:
            await original(_Observed(self, running), job_id, score)
        finally:
            _RUNNING.reset(token)

    return run_job


def _deserialize_job_raw(original: Function) -> Function:
    def deserialize_job_raw(r: Any, *, deserializer: Any = None) -> Any:
        running = _RUNNING.get()
        if running is None:
            return original(r, deserializer=deserializer)
        running.token = _behind(r)  # also where the worker alone has an unpickler of its own
        return original(r, deserializer=_reading(deserializer, running) if deserializer is not None else None)

    return deserialize_job_raw


@guarded(None)
def _behind(value: bytes) -> str | None:
    _, mark, token = value[-_LONGEST:].rpartition(_MARK)
    return token.decode("ascii", "replace") if mark else None


def _reading(deserializer: Callable[[Any], Any], running: _Running) -> Callable[[Any], Any]:
    def deserialize(value: Any) -> Any:
        job = deserializer(value)
        if isinstance(job, dict):
            running.token = job.get(KEY, running.token)
        return job

    return deserialize


class _Observed(wrapt.ObjectProxy):  # type: ignore[type-arg]  # wrapt 1's takes none
    """A worker as it looks while it runs one job: its functions are observed. The worker itself stays as it is."""

    def __init__(self, worker: Any, running: _Running) -> None:
        super().__init__(worker)
        self._self_running = running

    @property
    def functions(self) -> _Functions:
        return _Functions(self.__wrapped__.functions, self._self_running)


@dataclass(frozen=True, slots=True)
class _Functions:
    """A worker's functions, for one job."""

    found: Any
    running: _Running

    def __getitem__(self, name: Any) -> Any:
        function = self.found[name]
        return _observed(function, Job("arq", name, self.running.id), self.running.token) or function


@guarded(None)
def _observed(function: Any, job: Job, token: object) -> Any:
    coroutine = function.coroutine

    @wraps(coroutine)
    async def call(*args: Any, **kwargs: Any) -> Any:
        with attempt(lambda: (job, token)):
            return await coroutine(*args, **kwargs)

    return replace(function, coroutine=call)


TESTED: Final = {"arq": "0.28"}

HOOKS: Final = (
    Hook("arq.connections", "ArqRedis.enqueue_job", _enqueue_job),
    Hook("arq.connections", "serialize_job", _serialize_job),
    Hook("arq.worker", "Worker.run_job", _run_job),
    Hook("arq.worker", "deserialize_job_raw", _deserialize_job_raw),
)
