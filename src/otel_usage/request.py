"""One inbound request: what is known of it, and the one span that it becomes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from .error_type import type_name
from .guard import report
from .identity import UsageIdentity
from .request_facts import (
    cache_tier_of,
    client_request_id,
    domain_of,
    host_of,
    method_of,
    origin_kind,
    personal_facts,
    reason_of,
    sentry_trace_id,
    trace_id_of,
)
from .schema import BY_KEY, RecordKind
from .scope import UsageScope

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

    from .attribution import Attribution
    from .recorder import Recorder


class UsageRequest(UsageScope):
    """The scope of a request. Its middleware tells it what happens; :meth:`close` makes the span."""

    __slots__ = (
        "_asked", "_ended", "_first_byte", "_headers", "_parent", "_peer", "_proxied", "_start", "_started", "_task",
        "_tasks", "annotations", "cache_control", "carrier", "client_gone", "complete", "error", "found",
        "interrupted", "method", "mounted", "preflight", "reason", "received", "request_id", "route", "sent",
        "status", "upstream_count", "upstream_duration", "upstream_received",
    )  # fmt: skip

    def __init__(
        self,
        recorder: Recorder,
        method: str,
        headers: Mapping[str, str],
        peer: str | None,
        carrier: Mapping[str, Any],
        *,
        attribution: Attribution | None = None,
    ) -> None:
        """``headers`` holds those of ``recorder.headers`` that were sent; ``peer`` is the address of the connection.

        ``carrier`` is the ASGI scope or the WSGI environ, for the application's resolver. ``attribution`` is what a
        service of ours vouches for. None: this request begins here.
        """
        super().__init__(recorder, trace_id_of(headers.get("traceparent")))
        self._parent: SpanContext | None = None
        self._task: asyncio.Task[Any] | None = None
        self._tasks: WeakSet[asyncio.Task[Any]] | None = None
        if attribution is not None:
            self._parent = attribution.caller
            self.remote_trace_id = attribution.caller.trace_id
            self.identity = attribution.identity
        self._started = time.time_ns()
        self._start = time.perf_counter()
        self._ended: float | None = None
        self._first_byte: float | None = None
        self._headers = headers
        self._peer = peer
        self.carrier = carrier
        self._asked = False
        self.method = method_of(method)
        self.preflight = method == "OPTIONS" and "access-control-request-method" in headers
        self._proxied = recorder.proxy.facts(headers, peer) if recorder.proxy is not None else None
        given = self._proxied.request_id if self._proxied is not None else None
        self.request_id = given or f"{recorder.new_trace_id():032x}"
        self.annotations: dict[str, Any] = {}
        self.reason: str | None = None
        self.route: str | None = None
        self.mounted = ""
        self.found = False
        self.status: int | None = None
        self.cache_control: str | None = None
        self.received = 0
        self.sent = 0
        self.complete = False
        self.client_gone = False
        self.error: str | None = None
        self.interrupted = False
        self.upstream_count = 0
        self.upstream_duration = 0.0
        self.upstream_received = 0

    @property
    def aborted(self) -> bool:
        """Whether the exchange was cut off before the response's last byte."""
        return not self.complete

    @property
    def template(self) -> str | None:
        """The route's template with the templates of the mounts around it. None: no route has matched."""
        if self.route is not None:
            return self.mounted + self.route
        return f"{self.mounted}/{{path}}" if self.mounted or self.found else None

    def matched(self, template: str) -> None:
        """A route of this template serves the request, beneath the mounts that it came through."""
        self.route = template
        self.found = True

    def entered(self, prefix: str, *, routes: bool) -> None:
        """The request has come through a mount. ``routes``: what is mounted there has routes of its own to match."""
        self.mounted += prefix
        self.found = not routes

    def response_started(self, status: int, cache_control: str | None) -> None:
        """The response begins."""
        self.status = status
        self.cache_control = cache_control
        self._first_byte = time.perf_counter()
        self.bind_trace()
        self._ask()

    def response_sent(self, size: int) -> None:
        """``size`` more bytes of the body have been sent."""
        self.sent += size
        self._ended = time.perf_counter()

    def failed(self, error: BaseException) -> None:
        """The application raised."""
        self.error = type_name(error)
        self.interrupted = not isinstance(error, (Exception, SystemExit, KeyboardInterrupt))

    def close(self) -> None:
        """The exchange is over. Where no response was started, the server answers 500."""
        if not self._asked:
            self._ask()
        if self.status is None and not self.client_gone:
            self.status, self.complete, self.sent = 500, True, 0
        super().close()
        end = self._ended if self._ended is not None else time.perf_counter()
        self.recorder.emit(
            RecordKind.REQUEST,
            self._name(),
            self.context,
            self._attributes(end),
            start_time=self._started,
            end_time=self._started + round((end - self._start) * 1e9),
            parent=self._parent,
            events=self.events,
            links=(self.link,) if self.link is not None else (),
            failed=not self._served and not self._abandoned,
        )
        # A thread that outlives the request may hold on to it, which must not keep what the client sent.
        self.carrier = self._headers = {}
        self._task = self._tasks = None

    def identify(self, identity: UsageIdentity, *, inherited: bool = False) -> None:
        """Merge what has become known about the caller. A service of ours that calls for a customer vouches for the
        customer: its own name does not take their place.
        """
        behind = self._parent is not None and self.identity.vouched_customer is not None
        if not (behind and identity.auth_kind == "internal"):
            super().identify(identity, inherited=inherited)

    def works_here(self) -> None:
        """The task that this is called on is a part of the request: it called the application, receives or sends its
        messages, or serves its route. Others that it has started may be at somebody else's.
        """
        task = _task()
        if task is None or task is self._task or self.closed_at is not None:
            return
        if self._task is not None:  # most requests have one; a connection may receive and send on very many
            self._tasks = self._tasks if self._tasks is not None else WeakSet()
            self._tasks.update((self._task, task))
        self._task = task

    def elsewhere(self) -> bool:
        task = _task() if self._task is not None else None
        return not (task is None or task is self._task or (self._tasks is not None and task in self._tasks))

    def inherited(self) -> dict[str, Any]:
        return {"usage.request.id": self.request_id, "usage.route": self.template}

    @property
    def _abandoned(self) -> bool:
        """Whether the client left before the response's last byte."""
        return self.client_gone and not self.complete

    @property
    def _served(self) -> bool:
        """Whether there was a whole answer that is not a server's failure."""
        return self.complete and self.status is not None and self.status < 500

    def _ask(self) -> None:
        """Ask the application's resolver. What ``identify()`` said explicitly goes before its answer."""
        self._asked = True
        ask = self.recorder.config.identity
        if ask is None:
            return
        try:
            found = ask(self.carrier)
        except Exception as error:  # the application's code, on a path that must not raise
            report("USAGE_IDENTITY", error)
            return
        if found is None:
            return
        if type(found) is not UsageIdentity:  # the application's word, which its type does not make true
            report("USAGE_IDENTITY", TypeError("the callable must return a UsageIdentity or None"))
            return
        self.found_out(found)

    def _name(self) -> str:
        """The method and the route's template, if that is one that may leave as an attribute."""
        template = BY_KEY["http.route"].accept(self.template)
        return f"{self.method} {template}" if template else self.method

    def _attributes(self, end: float) -> dict[str, Any]:
        headers, template = self._headers, self.template
        host = host_of(headers.get("host"))
        attributes: dict[str, Any] = {
            **self.identity.attributes(),
            "usage.request.id": self.request_id,
            "usage.client.request_id": self._client_request_id(),
            "http.route": template,
            "usage.domain": domain_of(template),
            "http.request.method": self.method,
            "server.address": host,
            "http.response.status_code": self.status,
            "usage.reason": self._reason(),
            "error.type": self.error or (str(self.status) if (self.status or 0) >= 500 else None),
            "http.request.body.size": self.received,
            "http.response.body.size": self.sent,
            "usage.aborted": True if self.aborted else None,
            "usage.origin.kind": origin_kind(self.identity.verified_kind, headers.get("origin"), headers.get("host")),
            "usage.cache.tier": self._cache_tier(),
            "usage.sentry.trace_id": sentry_trace_id(headers.get("sentry-trace")),
        }
        if self._first_byte is not None:
            attributes["usage.time_to_first_byte"] = self._first_byte - self._start
        if self.upstream_count:
            attributes["usage.upstream.count"] = self.upstream_count
            attributes["usage.upstream.duration"] = self.upstream_duration
            attributes["usage.upstream.response.size"] = self.upstream_received
        if self._proxied is not None:
            attributes.update(self._proxied.attributes)
        return attributes | self._person() | self.annotations

    def _client_request_id(self) -> str | None:
        """What the client calls the request, unless its proxy has put its own id there."""
        sent = client_request_id(self._headers.get("x-request-id"))
        return sent if sent != self.request_id else None

    def _reason(self) -> str:
        """The application's reason, unless it says ``ok`` of a failure; else the one that the outcome amounts to."""
        derived = self._derived_reason()
        return derived if self.reason is None or (self.reason == "ok" and derived != "ok") else self.reason

    def _derived_reason(self) -> str:
        if self._abandoned:
            return "client_aborted"
        if self.error is not None and not self._served:  # an error in the work after a response is not the response's
            # Cancelled, and not because the client had left: the server did it, as it does when it has to stop.
            return "server_error" if self.interrupted else "unhandled_exception"
        status = self.status if self.complete else None  # the status of an answer that was cut off says little
        return reason_of(status=status, method=self.method, has_route=self.found, is_preflight=self.preflight)

    def _cache_tier(self) -> str | None:
        if self.method != "GET" or self.status not in (200, 304):
            return None
        return cache_tier_of(self.cache_control, self.recorder.config.cache_bands)

    def _person(self) -> dict[str, Any]:
        recorder, found = self.recorder, {}
        if recorder.config.personal:
            client = self._peer if self._proxied is None else self._proxied.client_address
            found = personal_facts(self._headers, client, recorder.config.personal)
        agent = self._headers.get("user-agent")
        if recorder.hash_user_agent is not None and agent:
            return {**found, "usage.user_agent.hash": recorder.hash_user_agent(agent)}
        return found


def _task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # no loop runs on this thread, or it is not asyncio's
        return None
