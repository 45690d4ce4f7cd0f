"""The jobs as Celery's tasks, in a broker of files: Celery's Redis takes a later client than arq does."""

from __future__ import annotations

import json
import os
from base64 import b64decode
from pathlib import Path
from typing import Any, Final

import work  # which switches usage on, where that is done by hand
from celery import Celery
from celery.app.task import Task

FOLDER: Final = Path(os.environ["XDG_STATE_HOME"], "broker")
(FOLDER / "control").mkdir(parents=True, exist_ok=True)

app = Celery("jobs", broker="filesystem://")
app.conf.update(
    broker_transport_options={
        "data_folder_in": str(FOLDER), "data_folder_out": str(FOLDER), "control_folder": str(FOLDER / "control"),
        "polling_interval": 0.05,
    },
    broker_connection_retry_on_startup=True,
    task_ignore_result=True,
    worker_enable_remote_control=False,
)  # fmt: skip


@app.task
def note(case: str, secret: str) -> str:
    return work.note(case, secret)


@app.task
def calls(case: str, secret: str) -> None:
    work.calls(case)


@app.task
def says(case: str, secret: str) -> None:
    work.says(case)


@app.task
def fails(case: str, secret: str) -> None:
    work.fails(case)


@app.task(bind=True, max_retries=1)
def flaky(self: Task, case: str, secret: str) -> None:
    try:
        work.flaky(case)
    except work.Broken as error:
        raise self.retry(exc=error, countdown=0.1) from error


@app.task
def nested(case: str, secret: str) -> None:
    note.delay(f"{case}-inner", secret)
    work.note(case, secret)


async def enqueue(job: str, case: str) -> None:
    app.tasks[f"celery_queue.{job}"].delay(case, work.SECRET)


async def chained(first: str, then: str) -> None:
    """The second is enqueued by the worker, when the first has succeeded."""
    (note.si(first, work.SECRET) | note.si(then, work.SECRET)).delay()


async def at_once(job: str, case: str) -> None:
    """Within the caller."""
    app.conf.task_always_eager = True
    try:
        app.tasks[f"celery_queue.{job}"].delay(case, work.SECRET)
    finally:
        app.conf.task_always_eager = False


async def enqueue_carrying(job: str, case: str, job_id: str, field: str, token: str) -> None:
    app.send_task(f"celery_queue.{job}", (case, work.SECRET), task_id=job_id, headers={field: token})


async def held() -> list[Any]:
    """What the broker holds."""
    return [b64decode(json.loads(file.read_text())["body"]) for file in FOLDER.glob("*.msg")] + [
        file.read_text() for file in FOLDER.glob("*.msg")
    ]
