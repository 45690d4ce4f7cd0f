"""One inbound request: what is known of it, and the one span that it becomes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet

from .error_type import type_name
from .facts import RequestFacts
from .guard import report
from .identity import UsageIdentity
from .ids import new_trace_id
from .readable import UsageReadableSpan
from .request_facts import method_of, personal_facts, sentry_trace_id, trace_id_of
from .schema import BY_KEY
from .scope import UsageScope

if TYPE_CHECKING:
    from .attribution import Attribution
    from .recorder import Recorder
    from .trusted_proxy import ProxyFacts


LONGEST_ID: Final = BY_KEY["usage.client.request_id"].cap


class UsageRequest(UsageScope):
    """The scope of a request. Its middleware tells it what happens; :meth:`close` makes the span."""

    reason: str | None = None
    route: str | None = None
    mounted: str = ""
    found: bool = False
    preflight: bool = False
    status: int | None = None
    cache_control: str | None = None
    received: int = 0
    sent: int = 0
    complete: bool = False
    client_gone: bool = False
    error: str | None = None
    interrupted: bool = False
    upstream_count: int = 0
    upstream_duration: float = 0.0
    upstream_received: int = 0
    annotations: Mapping[str, str] = {}
    """Attributes that the application has put in the place of derived ones. Replaced, and never changed."""
    made_id: str | None = None
    _parent: tuple[bytes, bytes] | None = None
    _proxied: ProxyFacts | None = None
    _asked: bool = False
    _ended: float | None = None
    _first_byte: float | None = None
    _task: asyncio.Task[Any] | None = None
    _tasks: WeakSet[asyncio.Task[Any]] | None = None

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
        """``headers`` holds those of ``recorder.headers`` that were sent; ``peer`` is the address of the connection,
        which is looked at where ``recorder.needs_peer``.

        ``carrier`` is the ASGI scope or the WSGI environ, for the application's resolver. ``attribution`` is what a
        service of ours vouches for. None: this request begins here.
        """
        super().__init__(recorder, trace_id_of(headers["traceparent"]) if "traceparent" in headers else None)
        self._started = time.time_ns()
        self._start = time.perf_counter()
        self._headers = headers
        self._peer = peer
        self.carrier = carrier
        self.method = method_of(method)
        if attribution is not None:
            self._parent = attribution.trace_id, attribution.span_id
            self.remote_trace_id = attribution.trace_id
            self.identity = attribution.identity
        if method == "OPTIONS":
            self.preflight = "access-control-request-method" in headers
        if recorder.proxy is not None:
            self._proxied = recorder.proxy.facts(headers, peer)
        if self._proxied is None or self._proxied.request_id is None:
            self.made_id = new_trace_id().hex()

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
        trace_id, span_id = self._bound()
        self.recorder.emit(
            UsageReadableSpan(
                self.recorder.maker,
                self._facts(),
                self.identity,
                self._own(),
                trace_id,
                span_id,
                self._parent[1] if self._parent is not None else b"",
                self._started,
                self._started + round((end - self._start) * 1e9),
                self.made_id,
                tuple(self.events),
                self.link,
                self._parent is not None,
            )
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
        try:
            task = asyncio.current_task()
        except RuntimeError:  # no loop runs on this thread, or it is not asyncio's
            return
        if task is not self._task and task is not None and self.closed_at is None:
            if self._task is not None:  # most requests have one; a connection may receive and send on very many
                self._tasks = self._tasks if self._tasks is not None else WeakSet()
                self._tasks.update((self._task, task))
            self._task = task

    def elsewhere(self) -> bool:
        task = _task() if self._task is not None else None
        return not (task is None or task is self._task or (self._tasks is not None and task in self._tasks))

    def inherited(self) -> dict[str, Any]:
        given = self._given_id()
        return {} if given is None else {"usage.request.id": given}

    def _given_id(self) -> str | None:
        """The request's id, as a declared proxy gave it. None: it was made here."""
        return self._proxied.request_id if self._proxied is not None else None

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

    def _facts(self) -> RequestFacts:
        headers = self._headers
        return RequestFacts(
            self.method,
            self.template,
            self.found,
            self.preflight,
            self.status,
            self.complete,
            self.client_gone,
            self.error,
            self.interrupted,
            self.reason,
            headers.get("host"),
            headers.get("origin"),
            self.cache_control,
            tuple(self._proxied.attributes.items()) if self._proxied is not None else (),
            tuple(self.annotations.items()),
        )

    def _own(self) -> dict[str, Any]:
        """The attributes that are this request's alone."""
        own: dict[str, Any] = {"http.request.body.size": self.received, "http.response.body.size": self.sent}
        if self._first_byte is not None:
            own["usage.time_to_first_byte"] = self._first_byte - self._start
        if self.upstream_count:
            own["usage.upstream.count"] = self.upstream_count
            own["usage.upstream.duration"] = self.upstream_duration
            own["usage.upstream.response.size"] = self.upstream_received
        headers, recorder = self._headers, self.recorder
        given = self._given_id()
        if given is not None:
            own["usage.request.id"] = given
        if "x-request-id" in headers:
            sent = headers["x-request-id"]
            if sent != given:  # so it is where the proxy has put its own id there
                own["usage.client.request_id"] = sent if len(sent) <= LONGEST_ID else ""
        if "sentry-trace" in headers:
            own["usage.sentry.trace_id"] = sentry_trace_id(headers["sentry-trace"])
        if recorder.config.personal:
            client = self._peer if self._proxied is None else self._proxied.client_address
            own.update(personal_facts(headers, client, recorder.config.personal))
        if recorder.hash_user_agent is not None and headers.get("user-agent"):
            own["usage.user_agent.hash"] = recorder.hash_user_agent(headers["user-agent"])
        return own


def _task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # no loop runs on this thread, or it is not asyncio's
        return None
