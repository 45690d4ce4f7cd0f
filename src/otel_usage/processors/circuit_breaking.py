"""Delivery: a bounded queue, one worker, a circuit breaker and a ledger in front of an exporter."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Final

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter

from ..circuit_breaker import BreakerState, CircuitBreaker
from ..exporters.outcome import (
    Accepted,
    BadData,
    Discarded,
    Failed,
    ForeignExporter,
    Misconfigured,
    Outcome,
    RetryLater,
    TooLarge,
    Unencodable,
    UsageExporter,
)
from ..guard import logger, report
from ..ledger import Ledger, LedgerSnapshot
from ..redaction import redact

PROBE_PERIOD: Final = 60.0
"""Seconds between attempts while the sink refuses everything (401, 403 and kin)."""

DROPS_PER_LOG: Final = 100
"""Drops that one log line stands for."""

_LAST_BREATH: Final = 0.1  # seconds for the worker to notice that its exporter has been shut down


class CircuitBreakingSpanProcessor(SpanProcessor):
    """Sends spans from a worker thread of its own, and stops trying while the sink is down.

    ``on_end`` appends to a queue and does nothing else: it never waits for the sink, never raises, and when the queue
    is full it drops the span and counts it. What could not be sent stays in the queue, in order, and goes when the sink
    is back; delivery is at least once, ``(trace_id, span_id)`` tells duplicates. After a fork the child starts empty,
    and the parent still delivers its own.
    """

    def __init__(
        self,
        exporter: SpanExporter,
        *,
        queue_size: int = 8192,
        batch_size: int = 512,
        schedule_delay: float = 1.0,
        shutdown_timeout: float = 2.0,
        breaker: CircuitBreaker | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Any exporter will do; one that is a :class:`UsageExporter` tells more than success or failure.

        Args:
            exporter: Sends a batch. Its timeout bounds an attempt.
            queue_size: Spans that wait at most.
            batch_size: Spans in one attempt at most.
            schedule_delay: Seconds that a span waits for company.
            shutdown_timeout: Seconds that :meth:`shutdown` waits for the queue to empty.
            breaker: None: one of the default policy.
            clock: Seconds that never go back.
        """
        self._exporter = exporter if isinstance(exporter, UsageExporter) else ForeignExporter(exporter)
        self._queue_size: Final = queue_size
        self._batch_size: Final = batch_size
        self._schedule_delay: Final = schedule_delay
        self._shutdown_timeout: Final = shutdown_timeout
        self._clock: Final = clock
        self._breaker = breaker if breaker is not None else CircuitBreaker(clock)
        self._stopped = False
        self._generation = 0
        self._start_empty()
        if hasattr(os, "register_at_fork"):
            in_child = weakref.WeakMethod(self._after_fork)
            os.register_at_fork(after_in_child=lambda: (method := in_child()) and method())

    @property
    def breaker_state(self) -> BreakerState:
        """What the breaker does with attempts now."""
        return self._breaker.state

    @property
    def hindrance(self) -> str | None:
        """What keeps spans from being delivered now, in a word. None: nothing."""
        return self._hindrance

    def ledger(self) -> LedgerSnapshot:
        """Where every span of this process went, at one moment."""
        with self._lock:
            return self._ledger.snapshot(len(self._queue))

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Nothing: a span is delivered when it has ended."""

    def on_end(self, span: ReadableSpan) -> None:
        if span.context is not None and not span.context.trace_flags.sampled:
            return  # recorded for the process's own eyes: exporters get sampled spans only (OpenTelemetry's trace SDK)
        with self._lock:
            self._ledger.produced += 1
            if self._stopped:
                self._ledger.dropped["shutdown"] += 1
                return
            waiting = len(self._queue)
            if waiting >= self._queue_size:
                self._ledger.dropped["queue_full"] += 1
                return
            self._queue.append(span)
        if self._worker is None:
            self._start_worker()
        if waiting + 1 == self._batch_size:  # not above it: in an outage that would wake the worker for every request
            self._wake.put(None)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Send what waits, now. True if nothing is left; False when time was up or the sink does not take it."""
        deadline = time.monotonic() + timeout_millis / 1000
        if self._queue and self._worker is None:
            self._start_worker()
        with self._settled:
            self._flush_asked += 1
            mine = self._flush_asked
            self._wake.put(None)
            while self._queue or self._ledger.in_flight:
                left = deadline - time.monotonic()
                if left <= 0 or self._flush_done >= mine or not (self._worker or self._starting):
                    break
                self._settled.wait(left)
            return not self._queue and not self._ledger.in_flight

    def shutdown(self) -> None:
        """Send what waits for ``shutdown_timeout`` seconds at most; what is left then is dropped and counted."""
        with self._lock:
            if self._stopped:
                return
            self._stopped = True
            self._stop_at = time.monotonic() + self._shutdown_timeout
        worker = self._worker
        if worker is not None:
            self._wake.put(None)
            worker.join(self._shutdown_timeout)
        with self._lock:
            left = len(self._queue) + self._ledger.in_flight
            if left:
                self._ledger.dropped["shutdown"] += left
            self._ledger.in_flight = 0
            self._queue.clear()
            self._generation += 1  # an attempt that is still stuck must not settle its spans a second time
        try:
            self._exporter.shutdown()
        except Exception as error:  # perhaps someone else's code, on the way out of the application
            report("processors.circuit_breaking.shutdown", error)
        if worker is not None:
            worker.join(_LAST_BREATH)

    # -- the worker ----------------------------------------------------------------------------------------------------

    def _start_empty(self) -> None:
        # Re-entrant, both: a garbage collection or a signal inside on_end may end another span on the same thread. An
        # Event is not: it holds a plain lock while it is set.
        self._lock = threading.RLock()
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._settled = threading.Condition(self._lock)
        self._queue: deque[ReadableSpan] = deque()
        self._ledger = Ledger()
        self._worker: threading.Thread | None = None
        self._starting = False
        self._stop_at = 0.0
        self._not_before = 0.0
        self._hindrance: str | None = None
        self._logged_drops = 0
        self._flush_asked = 0
        self._flush_done = 0

    def _after_fork(self) -> None:
        self._start_empty()
        self._breaker = self._breaker.renewed()
        self._exporter.after_fork()

    def _start_worker(self) -> None:
        with self._lock:
            if self._worker is not None or self._starting:
                return
            self._starting = True
        # Without the lock: starting waits for the new thread, in which a garbage collection may end a span.
        worker = threading.Thread(target=self._work, name="otel-usage-worker", daemon=True)
        try:
            worker.start()
            self._worker = worker
        except RuntimeError as error:  # no thread to be had, or the interpreter is on its way out
            report("processors.circuit_breaking.start_worker", error)
        finally:
            self._starting = False

    def _work(self) -> None:
        while True:
            with suppress(Empty):
                self._wake.get(timeout=self._pause())
            with self._lock:  # in which a flush asks and wakes, so that one round answers both
                asked, stopping = self._flush_asked, self._stopped
                while not self._wake.empty():
                    self._wake.get_nowait()
            try:
                self._drain()
                self._log_drops()
            except Exception as error:  # the worker must outlive anything
                report("processors.circuit_breaking.work", error)
            with self._settled:
                self._flush_done = asked
                self._settled.notify_all()
            if stopping:
                return

    def _pause(self) -> float:
        if self._stopped:
            return 0.0
        return max(self._schedule_delay, self._not_before - self._clock(), self._breaker.wait)

    def _drain(self) -> None:
        """Send batches while there are any and the sink takes them."""
        while self._queue and self._may_try():
            generation = self._generation  # before taking: a shutdown in between leaves nothing to take
            if not self._send(self._take(), generation):
                return

    def _may_try(self) -> bool:
        if self._stopped and time.monotonic() >= self._stop_at:
            return False
        return self._clock() >= self._not_before and self._breaker.allow()

    def _take(self) -> list[ReadableSpan]:
        with self._lock:
            batch = [self._queue.popleft() for _ in range(min(len(self._queue), self._batch_size))]
            self._ledger.in_flight = len(batch)
            return batch

    def _send(self, batch: list[ReadableSpan], generation: int) -> bool:
        """Send ``batch``, in halves where it is refused. False: the rest was put back, and it is time to wait."""
        parts = [batch] if batch else []
        try:
            while parts and generation == self._generation:
                part = parts[-1]
                outcome = self._deliver(part)
                if isinstance(outcome, RetryLater | Misconfigured | Failed):
                    self._hold(outcome)
                    return False
                parts.pop()
                if isinstance(outcome, TooLarge | BadData | Unencodable) and len(part) > 1:
                    middle = len(part) // 2
                    parts += [part[middle:], part[:middle]]
                else:
                    self._settle(outcome, len(part), generation)
                if not isinstance(outcome, Unencodable):
                    self._succeeded()  # the sink is well: it reads and answers
            return True
        finally:  # whatever happened, a logging handler that raises included: no span and no probe is lost
            self._put_back(reversed(parts), generation)
            self._breaker.give_back()

    def _deliver(self, part: Sequence[ReadableSpan]) -> Outcome:
        try:
            return self._exporter.deliver(part)
        except Exception as error:  # it promises not to; one that does must neither lose the batch nor end the worker
            report("processors.circuit_breaking.deliver", error)
            return Failed(type(error).__qualname__)

    def _settle(self, outcome: Outcome, count: int, generation: int) -> None:
        with self._lock:
            if generation != self._generation:
                return
            ledger = self._ledger
            ledger.in_flight -= count
            match outcome:
                case Accepted(rejected=rejected):
                    rejected = min(max(rejected, 0), count)
                    ledger.accepted += count - rejected
                    ledger.rejected += rejected
                case BadData():
                    ledger.rejected += count
                case Unencodable():
                    ledger.dropped["unencodable"] += count
                case TooLarge():
                    ledger.dropped["too_large"] += count
                case Discarded(reason=reason):
                    ledger.dropped[reason] += count
        if isinstance(outcome, Accepted) and outcome.rejected:
            message = redact(outcome.message)[:200]  # the sink's words, which may repeat what it was sent
            logger.warning("the sink rejected %d of %d spans: %r", min(outcome.rejected, count), count, message)
        elif isinstance(outcome, BadData):
            logger.warning("the sink rejected a span for good (HTTP %d)", outcome.status)

    def _put_back(self, parts: Iterable[Sequence[ReadableSpan]], generation: int) -> None:
        spans = [span for part in parts for span in part]
        with self._lock:
            if generation != self._generation:
                return
            self._queue.extendleft(reversed(spans))
            self._ledger.in_flight -= len(spans)
            excess = len(self._queue) - self._queue_size
            for _ in range(excess):  # what has come meanwhile filled the queue: the newest give way
                self._queue.pop()
                self._ledger.dropped["queue_full"] += 1

    def _succeeded(self) -> None:
        if self._breaker.succeed():
            logger.info("the sink takes usage again; %d spans are waiting", len(self._queue))
        self._hindrance = None

    def _found_alive(self) -> None:
        """The sink answered without taking anything: a probe is over, and no sample either way."""
        if self._breaker.state is BreakerState.HALF_OPEN:
            self._breaker.succeed()

    def _hold(self, outcome: RetryLater | Misconfigured | Failed) -> None:
        """Remember why and how long to wait, and say so once."""
        now, previous = self._clock(), self._hindrance
        match outcome:
            case RetryLater(after=after):
                self._not_before = now + after
                self._hindrance = "rate_limited"
                self._found_alive()
            case Misconfigured(status=status, advice=advice):
                self._not_before = now + PROBE_PERIOD
                self._hindrance = f"http_{status}"
                self._found_alive()
                if previous != self._hindrance:
                    logger.error("the sink refuses usage with HTTP %d. %s Trying again each minute.", status, advice)
            case Failed(why=why):
                self._hindrance = why
                if self._breaker.fail():
                    logger.error("usage cannot be delivered (%s): the circuit breaker is open; spans are kept", why)

    def _log_drops(self) -> None:
        dropped = dict(self._ledger.dropped)
        total = sum(dropped.values())
        if total and (self._logged_drops == 0 or total >= self._logged_drops + DROPS_PER_LOG):
            self._logged_drops = total
            logger.warning("usage was dropped, in all: %s", ", ".join(f"{n} {why}" for why, n in dropped.items()))
