"""The queues of the conformance suite. A new one joins with a program of its jobs and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

PROGRAMS: Final = Path(__file__).parent / "programs"


@dataclass(frozen=True, slots=True)
class Queue:
    """One library with one kind of worker."""

    name: str
    library: str
    """As tokens name it."""
    module: str
    """The program of its jobs, in the folder ``programs``."""
    worker: tuple[str, ...]
    """The command that runs its worker there. ``{redis}`` stands for the broker's URL."""
    job: str
    """What it calls a job. ``{}`` stands for the function's name."""
    by_hand: tuple[str, ...] = ()
    """What is added to the command where usage is switched on by hand."""
    cannot: Mapping[str, str] = field(default_factory=dict)
    """The cases that it does not have, and why."""

    @property
    def subject(self) -> tuple[str, str, str]:
        """As the table has it: its name, the distribution, and what it is tried with."""
        return self.name, self.library, ""


_CELERY: Final = ("celery", "-A", "celery_queue", "worker", "-l", "INFO", "--without-mingle", "--without-gossip")
_PREFORK: Final = (*_CELERY, "-P", "prefork", "-c", "2", "--max-tasks-per-child", "4")
_RQ: Final = ("rq", "worker", "-u", "{redis}", "jobs")
_RQ_BY_HAND: Final = ("-c", "work")  # a module of settings, which the worker imports before it has a job
_NEVER_AT_ONCE: Final = {"at_once": "it has no way to run a job within the caller"}
_NO_CHAIN: Final = {"chain": "its worker enqueues no next job by itself"}

QUEUES: Final = (
    Queue("celery-prefork", "celery", "celery_queue", _PREFORK, "celery_queue.{}"),
    Queue("celery-solo", "celery", "celery_queue", (*_CELERY, "-P", "solo"), "celery_queue.{}"),
    Queue("celery-threads", "celery", "celery_queue", (*_CELERY, "-P", "threads", "-c", "2"), "celery_queue.{}"),
    Queue("celery-gevent", "celery", "celery_queue", (*_CELERY, "-P", "gevent", "-c", "4"), "celery_queue.{}"),
    Queue("rq", "rq", "rq_queue", _RQ, "rq_queue.{}", _RQ_BY_HAND, _NO_CHAIN),
    Queue(
        "rq-simple", "rq", "rq_queue", (*_RQ, "-w", "rq.worker.SimpleWorker"), "rq_queue.{}", _RQ_BY_HAND, _NO_CHAIN
    ),
    Queue("arq", "arq", "arq_queue", ("arq", "arq_queue.WorkerSettings"), "{}", cannot=_NEVER_AT_ONCE | _NO_CHAIN),
    Queue(
        "dramatiq", "dramatiq", "dramatiq_queue", ("dramatiq", "dramatiq_queue", "--processes", "2", "--threads", "2"),
        "{}", cannot=_NEVER_AT_ONCE,
    ),
)  # fmt: skip

MODES: Final = ("zero-code", "by-hand")
