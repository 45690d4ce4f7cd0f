"""Delivery: a bounded queue, one worker, a circuit breaker, a spool and a ledger in front of an exporter."""

from __future__ import annotations

import math
import os
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final, TypeVar

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter

from ..circuit_breaker import BreakerState, CircuitBreaker
from ..delivery.attempts import Attempts
from ..delivery.backlog import Backlog
from ..delivery.gate import Gate
from ..delivery.paced_log import DropLog
from ..delivery.sender import Sender
from ..exporters.outcome import ForeignExporter, Prepared, UsageExporter
from ..guard import report
from ..ledger import Account, Ledger, LedgerSnapshot
from ..native import Empty, SimpleQueue, Thread, start_thread
from ..payload import Payload
from ..readable import Queued
from ..spool.contract import REPLAY_PAUSE, Spool
from ..spool.memory import MemorySpool

_FOR_KEEPING: Final = 0.25
"""Share of the time for shutdown that is left to spooling what could not be sent."""

_PASSES: Final = 8
"""Times that the queue is gone through for a flush, and at the end: requests that are just over still come."""

_LAST_BREATH: Final = 0.1  # seconds for threads to notice that it is over

T = TypeVar("T")


class CircuitBreakingSpanProcessor(SpanProcessor):
    """Sends spans from a worker thread of its own, and stops trying while the sink is down.

    ``on_end`` appends to a queue and does nothing else: it never waits for the sink, never raises, and when the queue
    is full it drops the span and counts it. What could not be sent goes to a spool, and from there, oldest first, when
    the sink is back; while something hinders delivery, spans are spooled before they are sent. Delivery is at least
    once, ``(trace_id, span_id)`` tells duplicates. After a fork the child starts empty, and the parent still delivers
    its own.
    """

    def __init__(
        self,
        exporter: SpanExporter,
        *,
        queue_size: int = 8192,
        batch_size: int = 512,
        schedule_delay: float = 1.0,
        shutdown_timeout: float = 2.0,
        spool: Spool | None = None,
        breaker: CircuitBreaker | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Any exporter will do; one that is a :class:`UsageExporter` tells more than success or failure.

        Args:
            exporter: Sends a batch. Its timeout bounds an attempt.
            queue_size: Spans that wait in the queue at most.
            batch_size: Spans in one attempt at most.
            schedule_delay: Seconds that a span waits for company.
            shutdown_timeout: Seconds that :meth:`shutdown` takes at most.
            spool: Keeps what could not be sent. None: memory, for as many spans as the queue.
            breaker: None: one of the default policy.
            clock: Seconds that never go back.
        """
        self._exporter = exporter if isinstance(exporter, UsageExporter) else ForeignExporter(exporter)
        self._queue_size: Final = queue_size
        self._batch_size: Final = batch_size
        self._schedule_delay: Final = schedule_delay
        self._shutdown_timeout: Final = shutdown_timeout
        self._gate = Gate(breaker if breaker is not None else CircuitBreaker(clock), clock)
        self._begin()
        self._backlog = Backlog(spool or MemorySpool(most_bytes=1 << 40, most_spans=queue_size), self._ledger)
        self._stopped = False
        _at_fork(self)

    @property
    def breaker_state(self) -> BreakerState:
        """What the breaker does with attempts now."""
        return self._gate.state

    @property
    def hindrance(self) -> str | None:
        """What keeps spans from being delivered now, in a word. None: nothing."""
        return self._gate.hindrance

    @property
    def backlog(self) -> Backlog:
        """What could not be sent yet."""
        return self._backlog

    def ledger(self) -> LedgerSnapshot:
        """Where every span of this process went, at one moment."""
        return self._ledger.snapshot()

    def start(self) -> None:
        """Begin to send what earlier processes have left, if anything. Spans that end begin it too."""
        if self._worker is None and self._backlog.may_hold:
            self._due = time.monotonic()
            self._start_worker()

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Nothing: a span is delivered when it has ended."""

    def on_end(self, span: ReadableSpan) -> None:
        if span.context is not None and not span.context.trace_flags.sampled:
            return  # recorded for the process's own eyes: exporters get sampled spans only (OpenTelemetry's trace SDK)
        self.enqueue(span)

    def enqueue(self, span: Queued) -> None:
        """Take a span that is to be sent whatever its context says, as usage spans are."""
        queue = self._queue
        if self._ledger.closed or len(queue) >= self._queue_size:  # or by one more for each thread that asks just now
            self._ledger.refuse()
            return
        queue.append(span)
        if self._worker is None:
            self._start_worker()
        if len(queue) >= self._batch_size and self._wake.empty():  # once, and not for each request above it
            self._wake.put(None)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Send what waits, now. True if nothing is left; False when time was up or the sink does not take more now."""
        if not self._ledger.snapshot().left:
            return True
        if self._worker is None:
            self._start_worker()
        if self._has_worker():
            answer: SimpleQueue[None] = SimpleQueue()
            self._flushes.put(answer)
            self._wake.put(None)
            with suppress(Empty):
                answer.get(timeout=timeout_millis / 1000)
        return not self._ledger.snapshot().left

    def shutdown(self) -> None:
        """Send what waits, or spool it, within ``shutdown_timeout`` seconds; what is neither is dropped and counted."""
        if self._stopped:
            return
        ends = time.monotonic() + self._shutdown_timeout
        self._stop_at = ends - self._shutdown_timeout * _FOR_KEEPING
        self._stopped = True
        worker = self._worker or (self._start_worker() if self._queue else None)
        if worker is not None:
            self._wake.put(None)
            self._attempts.hurry()
            worker.join(ends - time.monotonic())
        elif self._queue:
            self._last_round()
        self._ledger.close(self._backlog.perishable)
        try:
            self._exporter.shutdown()
        except Exception as error:  # perhaps someone else's code, on the way out of the application
            report("processors.circuit_breaking.shutdown", error)
        self._attempts.stop(_LAST_BREATH)
        if worker is not None:
            worker.join(_LAST_BREATH)
        if worker is None or not worker.is_alive():
            self._backlog.close()

    def _last_round(self) -> None:
        """What the worker would do, where there is none and none is to be had: the interpreter is on its way out."""
        try:
            self._round(_PASSES)
            self._backlog.look(hurry=True)
        except Exception as error:  # on the way out of the application
            report("processors.circuit_breaking.last_round", error)

    # -- the worker ----------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._flushes: SimpleQueue[SimpleQueue[None]] = SimpleQueue()
        self._queue: deque[Queued] = deque()
        self._ledger = Ledger(self._queue)
        self._worker: Thread | None = None
        self._may_start: SimpleQueue[None] = SimpleQueue()
        self._may_start.put(None)
        self._due = time.monotonic() + self._schedule_delay
        self._stop_at = math.inf
        self._attempts = Attempts(self._exporter, meanwhile=self._spool_queue, until=lambda: self._stop_at)
        self._sender = Sender(self._attempts.make, self._gate)
        self._drop_log = DropLog()

    def _before_fork(self) -> None:
        self._backlog.before_fork()

    def _after_fork_in_parent(self) -> None:
        self._backlog.after_fork_in_parent()

    def _after_fork_in_child(self) -> None:
        self._gate = self._gate.renewed()
        self._begin()
        self._backlog = self._backlog.renewed(self._ledger)
        self._exporter.after_fork()

    def _start_worker(self) -> Thread | None:
        # A token and no lock: starting waits for the new thread, and a garbage collection may end a span meanwhile.
        with suppress(Empty):
            self._may_start.get_nowait()
            self._worker = start_thread(self._work, "otel-usage-worker")
            if self._worker is None:
                self._may_start.put(None)
        return self._worker

    def _has_worker(self) -> bool:
        """Whether there is a worker that will hear what it is asked, or one is being started."""
        return self._may_start.empty() and (self._worker is None or self._worker.is_alive())

    def _work(self) -> None:
        flushes: list[SimpleQueue[None]] = []
        while True:
            due = self._rest()
            stopping = self._stopped
            flushes += _taken(self._flushes)
            try:
                self._round(_PASSES if stopping or flushes else int(due))
                self._drop_log.look(self._ledger.snapshot().dropped)
            except Exception as error:  # the worker must outlive anything
                report("processors.circuit_breaking.work", error)
            if stopping or not self._goes_on:
                for answer in flushes:
                    answer.put(None)
                flushes.clear()
            if stopping:
                self._backlog.look(hurry=True)
                return

    def _rest(self) -> bool:
        """Wait until there is something to do. Whether it is time for what is queued, and not only for the spool."""
        pause = max(0.0, self._due - time.monotonic())
        if self._goes_on:
            pause = min(pause, REPLAY_PAUSE)
        with suppress(Empty):
            self._wake.get(timeout=0.0 if self._stopped else pause)
            _taken(self._wake)
            self._due = time.monotonic()
        if time.monotonic() < self._due:
            return False
        self._due = time.monotonic() + self._schedule_delay
        return True

    def _round(self, passes: int) -> None:
        """Send what is queued, or spool it where it cannot be sent: ``passes`` times, or until nothing more has come.
        Then send some of what was spooled.
        """
        self._backlog.look()
        for _ in range(passes):
            if not self._send_queue():
                return  # the sink has failed just now
            if not self._queue:
                break
        # One at a time, so that a sink that is back is not run over; at the end, all that would be lost.
        while self._backlog.held.spans and not self._gate.wait and not self._late:
            if self._stopped and not self._backlog.perishable:
                return
            well = self._gate.hindrance is None
            if not self._backlog.replay(self._sender.send, well=well) or not self._stopped:
                return

    def _send_queue(self) -> bool:
        """Send what is queued now, or spool it. False: an attempt has failed."""
        for batch in self._batches():
            if not self._may_send or self._late:
                self._keep(batch)
            elif not self._send(batch):
                self._spool_queue()
                return False
        return True

    @property
    def _may_send(self) -> bool:
        """Whether spans are sent as they come, and not spooled before."""
        backlog, gate = self._backlog, self._gate
        # With another process at the spool, or no way to it, what is new is what the sink is tried with.
        return gate.hindrance is None or ((backlog.others_replay or backlog.stuck) and not gate.wait)

    @property
    def _goes_on(self) -> bool:
        """Whether there is more to replay, and the sink takes it."""
        return bool(self._backlog.held.spans) and self._gate.hindrance is None and not self._backlog.idle

    @property
    def _late(self) -> bool:
        return time.monotonic() >= self._stop_at

    def _batches(self) -> Iterator[list[Queued]]:
        """What is queued now, in batches. What comes meanwhile is for another time, or there would be no end to it."""
        waiting = len(self._queue)
        while (size := min(waiting, self._batch_size, len(self._queue))) > 0:
            waiting -= size
            yield self._ledger.take(size)

    def _send(self, batch: list[Queued]) -> bool:
        """Send a batch, and spool what the sink does not take. True: it has taken, or refused for good, all of it."""
        payload = self._prepare(batch)
        if payload is None:
            return True
        sent = self._sender.send(payload)
        for target, count in sent.settled.items():
            self._ledger.move(count, Account.IN_FLIGHT, target)
        if sent.left is not None:
            self._backlog.keep(sent.left, Account.IN_FLIGHT)
        return sent.left is None

    def _spool_queue(self) -> None:
        """Spool everything that is queued."""
        for batch in self._batches():
            self._keep(batch)

    def _keep(self, batch: list[Queued]) -> None:
        payload = self._prepare(batch)
        if payload is not None:
            self._backlog.keep(payload, Account.IN_FLIGHT)

    def _prepare(self, batch: list[Queued]) -> Payload | None:
        try:
            prepared = self._exporter.prepare(batch)
        except Exception as error:  # it promises not to
            report("processors.circuit_breaking.prepare", error)
            prepared = Prepared(None, len(batch))
        self._ledger.move(prepared.unencodable, Account.IN_FLIGHT, "unencodable")
        return prepared.payload


def _taken(queue: SimpleQueue[T]) -> list[T]:
    """All that is in a queue now."""
    found: list[T] = []
    with suppress(Empty):
        while True:
            found.append(queue.get_nowait())
    return found


def _at_fork(processor: CircuitBreakingSpanProcessor) -> None:
    """Have it told of forks for as long as it lives."""

    def told(method: Callable[[], None]) -> Callable[[], None]:
        reference = weakref.WeakMethod(method)

        def tell() -> None:
            if (alive := reference()) is not None:
                alive()

        return tell

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(
            before=told(processor._before_fork),
            after_in_parent=told(processor._after_fork_in_parent),
            after_in_child=told(processor._after_fork_in_child),
        )
