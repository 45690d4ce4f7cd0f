"""Dramatiq: a job carries its customer as an option of its message, and each time that a worker processes it is a span.

The message that is enqueued is a copy, so that the application's own stays as it is. Around the processing, the next
step of a pipeline and the enqueueing of a retry are within the attempt. An async actor runs on the event loop of
Dramatiq's middleware in the context of the thread that waits for it.
"""

from __future__ import annotations

from typing import Any, Final

from ..guard import guarded
from .hooks import Function, Hook
from .jobs import KEY, Job, attempt, carried, failed


def _enqueue(original: Function) -> Function:
    def enqueue(self: Any, message: Any, *, delay: Any = None) -> Any:
        return original(self, _told(message) or message, delay=delay)

    return enqueue


@guarded(None)
def _told(message: Any) -> Any:
    """A copy of the message that carries the customer. None: it goes as it is."""
    token = carried(_named(message), message.options.get(KEY))
    return None if token is None else message.copy(options={KEY: token})


def _named(message: Any) -> Job:
    return Job("dramatiq", message.actor_name, message.message_id)


def _process_message(original: Function) -> Function:
    def process_message(self: Any, message: Any) -> Any:
        with attempt(lambda: (_named(message), message.options.get(KEY))):
            return original(self, message)

    return process_message


def _stuff_exception(original: Function) -> Function:
    """Where the worker puts what the actor has raised."""

    def stuff_exception(self: Any, exception: Any) -> Any:
        failed(exception)
        return original(self, exception)

    return stuff_exception


TESTED: Final = {"dramatiq": "2.2"}

HOOKS: Final = (
    Hook("dramatiq.brokers.redis", "RedisBroker.enqueue", _enqueue),
    Hook("dramatiq.brokers.rabbitmq", "RabbitmqBroker.enqueue", _enqueue),
    Hook("dramatiq.brokers.stub", "StubBroker.enqueue", _enqueue),
    Hook("dramatiq.worker", "_WorkerThread.process_message", _process_message),
    Hook("dramatiq.broker", "MessageProxy.stuff_exception", _stuff_exception),
)
