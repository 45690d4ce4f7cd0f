"""The only assembler: a config becomes parts, in an order, and they are started and stopped here."""

from __future__ import annotations

import atexit
import logging
import math
import os
import threading
from typing import Any, Final

import wrapt

from . import metrics
from .circuit_breaker import BreakerState
from .config import UsageConfig, unknown_variables
from .exporters.opening import NO_TOKEN, open_exporter
from .exporters.redacting import Redactor
from .guard import guarded, internal_errors, logger
from .instrumentation.hooks import HookSet
from .instrumentation.integrations import waiting
from .instrumentation.tracing import bridge
from .ledger import DropCounter
from .processors.circuit_breaking import CircuitBreakingSpanProcessor
from .recorder import Recorder
from .runtime import activate
from .service import service_name, service_resource
from .spool.opening import open_spool
from .status import EMPTY_FLUSH, OFF, FlushReport, UsageHealth

LONGEST_FLUSH: Final = 3600.0
"""Seconds that :func:`flush` waits at most."""


class Pipeline:
    """The parts of one configuration, and their lives."""

    def __init__(self, config: UsageConfig) -> None:
        self.config: Final = config
        self._drops: Final = DropCounter()
        redactor = Redactor(self._drops, email_addresses=config.email_addresses)
        resource = service_resource(redactor, self._drops)
        exporter = self._exporter = open_exporter(config, redactor)
        # From the last stage to the first: each is handed the one it feeds. Behind the queue, what was recorded becomes
        # a span that the schema allows, without secrets: no request pays for that, and nothing is sent or kept before.
        # What cannot be kept as bytes is not kept on disk.
        self.delivery: Final = CircuitBreakingSpanProcessor(
            exporter,
            spool=open_spool(config, service_name(resource)) if exporter.durable else None,
            queue_size=config.queue_size,
            batch_size=config.batch_size,
            schedule_delay=config.schedule_delay,
            shutdown_timeout=config.shutdown_timeout,
        )
        self.recorder: Final = Recorder(
            config,
            resource,
            self.delivery.enqueue,
            drops=self._drops,
            status=self.status,
            start=self.delivery.start,
            flush=self.flush,
            deliver=self.deliver,
            waiting=lambda: self.delivery.ledger().left > 0,
        )
        self._said = self.delivery.ledger()
        self._flushed = 0
        self._finalizer: Any = None
        self._over = False
        self._hooks: Final = HookSet(waiting())

    def start(self) -> None:
        """Begin to record. The recorder stands before the hooks that ask for it."""
        if self.config.lacks_token:
            logger.warning(
                "usage is recorded but not sent: AXIOM_API_TOKEN is not set. Set it, or point USAGE_OTLP_ENDPOINT at a "
                "Collector or at `otel-usage serve`."
            )
        activate(self.recorder)
        metrics.expose(self.health)
        self._hooks.install()
        bridge()
        atexit.register(self.stop)
        wrapt.register_post_import_hook(self._end_with_multiprocessing, "multiprocessing.util")

    @guarded(None)
    def stop(self) -> None:
        """Stop recording, deliver what waits, and say how it ended."""
        if self._over:
            return
        self._over = True
        atexit.unregister(self.stop)
        if self._finalizer is not None:
            self._finalizer.cancel()
        self._hooks.remove()
        activate(None)
        self.delivery.shutdown()
        metrics.expose(None)
        self._say_where_spans_went()

    def flush(self) -> None:
        """Deliver what waits, within ``shutdown_timeout``, before a server ends the process. An application and its
        server may both ask, and what could not be delivered is not tried, and waited for, twice.
        """
        produced = self.delivery.ledger().produced
        if produced == self._flushed:
            return
        self._flushed = produced
        self.delivery.force_flush(int(self.config.shutdown_timeout * 1000))
        self._say_where_spans_went()

    def deliver(self) -> None:
        """Deliver what waits, within the time of one attempt, before a request ends."""
        self.delivery.force_flush(int(self.config.export_timeout * 1000))

    def status(self) -> str:
        """``ok`` or ``degraded``."""
        delivery = self.delivery
        well = (
            self.hindrance() is None and delivery.breaker_state is BreakerState.CLOSED and not delivery.backlog.trouble
        )
        return "ok" if well else "degraded"

    def hindrance(self) -> str | None:
        """What keeps spans from being delivered, in a word. None: nothing."""
        return NO_TOKEN if self.config.lacks_token else self.delivery.hindrance

    def health(self) -> UsageHealth:
        """Everything there is to know."""
        return UsageHealth(
            status=self.status(),
            hindrance=self.hindrance(),
            breaker=self.delivery.breaker_state.value,
            spool_trouble=self.delivery.backlog.trouble,
            spool_size=self.delivery.backlog.held.size,
            queue_capacity=self.config.queue_size,
            ledger=self.delivery.ledger(),
            attributes_dropped=self._drops.counts(),
            internal_errors=internal_errors(),
            encoder=self._exporter.encoder_health,
        )

    @guarded(None)
    def _end_with_multiprocessing(self, util: Any) -> None:
        """Its processes end without ``atexit``, but with finalizers of their own: this one, if it is one of them, and
        those that are forked from it.
        """

        def finalize(pipeline: Pipeline) -> None:
            pipeline._finalizer = util.Finalize(pipeline, pipeline.stop, exitpriority=0)

        def in_child(pipeline: Pipeline) -> None:
            if pipeline is _running:
                finalize(pipeline)

        if self._over:  # by the time that somebody imports multiprocessing
            return
        if util.process.parent_process() is not None:  # by way of `util`, so that it is imported by whoever uses it
            finalize(self)
        util.register_after_fork(self, in_child)

    def _say_where_spans_went(self) -> None:
        ledger = self.delivery.ledger()
        if ledger != self._said:
            self._said = ledger
            logger.log(logging.INFO if ledger.delivered else logging.WARNING, "usage: %s", ledger)


_running: Pipeline | None = None
_lock: Final = threading.Lock()


def instrument(config: UsageConfig | None = None) -> None:
    """Switch usage on in this process: ``opentelemetry-instrument`` does the same with no code.

    Call it before applications and clients are made. A second call does nothing until :func:`uninstrument`.

    Args:
        config: None: read from the environment, where ``USAGE_TELEMETRY=1`` must be set for anything to happen.

    Raises:
        ConfigError: a variable has a value that it does not take.
    """
    global _running
    with _lock:
        if _running is not None:
            return
        if config is None:
            config = UsageConfig.from_env()
            _warn_of_unknown_variables(config)
        if config.enabled:
            pipeline = Pipeline(config)
            pipeline.start()
            _running = pipeline


def uninstrument() -> None:
    """Switch usage off: take our hooks off and nothing else, deliver what waits, end our threads."""
    global _running
    with _lock:
        pipeline, _running = _running, None
    if pipeline is not None:
        pipeline.stop()


@guarded(EMPTY_FLUSH)
def flush(timeout: float = 2.0) -> FlushReport:
    """Send what waits, now, and wait for it ``timeout`` seconds at most. Never raises."""
    pipeline = _running
    if pipeline is None:
        return EMPTY_FLUSH
    pipeline.delivery.force_flush(_milliseconds(timeout))
    return FlushReport.of(pipeline.delivery.ledger())


def _milliseconds(timeout: object) -> int:
    """At most an hour, which is also what no number at all is taken for. 0 where the time is over already."""
    seconds = timeout if isinstance(timeout, int | float) and not math.isnan(timeout) else LONGEST_FLUSH
    return round(min(max(seconds, 0.0), LONGEST_FLUSH) * 1000)


@guarded(OFF)
def health() -> UsageHealth:
    """How usage is doing in this process. Never raises."""
    pipeline = _running
    return OFF if pipeline is None else pipeline.health()


def _warn_of_unknown_variables(config: UsageConfig) -> None:
    for name in unknown_variables(os.environ) if config.enabled else ():
        logger.warning("%s is not a setting of this version of otel_usage and has no effect", name)
