"""What the running pipeline offers to those who record: where spans go, and what it takes to record them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from opentelemetry.sdk.resources import Resource

from .attribution import AttributionSigner, Purpose
from .baggage import UsageBaggage
from .config import FlushMode, UsageConfig
from .errors import ConfigError
from .guard import report
from .hosts import HostPatterns
from .jobs import UsageJobs
from .keyed_hash import KeyedHash
from .ledger import DropCounter
from .maker import SpanMaker
from .named_callable import NamedCallable
from .readable import Queued
from .request_facts import headers_for
from .said import Callers


class Recorder:
    """Takes finished usage spans and hands them on."""

    def __init__(
        self,
        config: UsageConfig,
        resource: Resource,
        emit: Callable[[Queued], None],
        *,
        drops: DropCounter,
        status: Callable[[], str],
        start: Callable[[], object],
        flush: Callable[[], object],
        deliver: Callable[[], object],
        waiting: Callable[[], bool],
    ) -> None:
        """``resource`` must be allowlisted already; ``emit`` takes what was recorded;
        ``status`` says how the pipeline is (``ok`` or ``degraded``);
        ``start`` begins to deliver what an earlier process has left; ``flush`` delivers what waits, within the time
        that the end of a process may take; ``deliver`` does so within the time that a request may take, where the
        configuration has requests wait for it; ``waiting`` says whether there is anything to deliver.
        """
        self.config: Final = config
        self.emit: Final = emit
        self.drops: Final = drops
        self.status = status
        self._start = start
        self.flush = flush
        self.deliver = deliver
        self.waiting = waiting
        self.maker: Final = SpanMaker(config, resource, drops)
        self.delivers_each = config.flush is FlushMode.REQUEST
        self.hash_user_agent = KeyedHash(config.user_agent_pepper) if config.user_agent_pepper else None
        self.reasons = config.known_reasons
        hash_key = KeyedHash(config.key_pepper) if config.key_pepper else None
        self.callers: Final = Callers(config.known_auth_kinds, hash_key, drops)
        self.baggage = UsageBaggage(
            AttributionSigner(config.baggage_keys, HostPatterns("USAGE_BAGGAGE_AUDIENCE", config.baggage_audience)),
            HostPatterns("USAGE_BAGGAGE_HOSTS", config.baggage_hosts),
            drops,
        )
        self.jobs: Final = UsageJobs(
            AttributionSigner(
                config.baggage_keys,
                HostPatterns("", ()),  # a job names its audience itself
                purpose=Purpose.JOB,
                lifetime=config.job_lifetime,
            ),
            drops,
        )
        self.proxy = config.proxy
        self.headers = headers_for(config.personal, agent=self.hash_user_agent is not None) | (
            self.proxy.headers if self.proxy is not None else frozenset()
        )
        self.needs_peer: Final = self.proxy is not None or bool(config.personal)
        """Whether it is looked at who is at the other end of the connection, and more is said of a request for that."""

    def prepare(self) -> None:
        """Do what would else be done by the first request. Called when an application starts."""
        self._start()
        if isinstance(self.config.identity, NamedCallable):
            try:
                self.config.identity.load()
            except ConfigError as error:
                report("USAGE_IDENTITY", error)
