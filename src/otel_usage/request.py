"""One inbound request: what is known of it, and the one span that it becomes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet

from opentelemetry.context import get_current

from .error_type import type_name
from .facts import RequestFacts
from .forms import OPERATION, OTHER
from .guard import report
from .identity import UNKNOWN, UsageIdentity
from .readable import Recorded, T, seconds
from .request_facts import METHODS, personal_facts, sentry_trace_id, trace_id_of
from .schema import BY_KEY
from .scope import UsageScope, current

if TYPE_CHECKING:
    from .attribution import Attribution
    from .recorder import Recorder
    from .trusted_proxy import ProxyFacts


_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})

LONGEST_KEPT: Final = 2048
"""Characters of headers that wait with the request for the worker."""

_READ_LATER: Final = ("host", "origin")
"""The headers that are facts, which requests have in common."""

LONGEST_ID: Final = BY_KEY["usage.client.request_id"].cap


class UsageRequest(UsageScope, Recorded):
    """The scope of a request. Its middleware tells it what happens, until :meth:`close`. What happens after that, on a
    task or thread that goes on, is not the span's, which the worker makes of this object later.
    """

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
    upstream_duration: int = 0
    """Nanoseconds."""
    upstream_received: int = 0
    annotations: tuple[tuple[str, str], ...] = ()
    """Attributes that the application has put in the place of derived ones. Replaced, and never changed."""
    operation: str | None = None
    """The one operation that the client has asked for by name. Empty: several, or one without a name."""
    given_id: str | None = None
    """The request's id, as a declared proxy gave it. None: it was made here."""
    _peer: str | None = None
    _place: tuple[tuple[str, str], ...] = ()
    _proxied: ProxyFacts | None = None
    _whose: UsageIdentity = UNKNOWN
    _asked: bool = False
    _kept: Mapping[str, Any] | None = None
    _ended: int | None = None
    _first_byte: int | None = None
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
        # Not by way of the base's: with one call less, and with nothing set that is the class's default, it costs half.
        self.recorder = recorder
        self._started = time.time_ns()
        self._start = time.perf_counter_ns()
        self._headers = headers
        self.carrier = carrier
        self.method = METHODS.get(method, OTHER)
        if "traceparent" in headers:
            self.remote_trace_id = trace_id_of(headers["traceparent"])
        if attribution is not None:
            self.vouched(attribution)
        if method == "OPTIONS":
            self.preflight = "access-control-request-method" in headers
        if recorder.needs_peer:
            self.came_from(peer)

    def came_from(self, peer: str | None) -> None:
        """The address of the connection, which some servers only tell when the request is on its way."""
        self._peer = peer
        if self.recorder.proxy is not None:
            proxied = self._proxied = self.recorder.proxy.facts(self._headers, peer)
            self._place = tuple(proxied.attributes.items())
            self.given_id = proxied.request_id

    @property
    def template(self) -> str | None:
        """The route's template with the templates of the mounts around it. None: no route has matched."""
        if self.route is not None:
            return self.mounted + self.route
        return f"{self.mounted}/{{path}}" if self.mounted or self.found else None

    @property
    def made_id(self) -> str | None:
        # That of its span, in hexadecimal: it tells as much, and 16 characters more would take 12 bytes in gzip.
        return None if self.given_id is not None else self.ids[1].hex()

    def matched(self, template: str) -> None:
        """A route of this template serves the request, beneath the mounts that it came through."""
        if self.closed_at is not None:
            return
        self.route = template
        self.found = True

    def entered(self, prefix: str, *, routes: bool) -> None:
        """The request has come through a mount. ``routes``: what is mounted there has routes of its own to match."""
        if self.closed_at is not None:
            return
        self.mounted += prefix
        self.found = not routes

    def asked_for(self, operation: str | None) -> None:
        """The request has an operation of this name, which the client chose, in a language that has such. Where there
        are several, as in a batch, no name says what the request was.
        """
        if self.closed_at is not None:
            return
        name = operation if operation is not None and OPERATION.fullmatch(operation) else ""
        self.operation = name if self.operation in (None, name) else ""

    def response_started(self, status: int, cache_control: str | None) -> None:
        """The response begins."""
        if self.closed_at is not None:
            return
        self.status = status
        self._first_byte = time.perf_counter_ns()
        self.cache_control = cache_control
        if get_current():  # an empty context holds no span to link to, as where nobody traces
            self.bind_trace()
        if self.recorder.config.identity is not None:
            self._ask()

    def response_sent(self, size: int) -> None:
        """``size`` more bytes of the body have been sent."""
        if self.closed_at is not None:
            return
        self._ended = time.perf_counter_ns()
        self.sent += size

    def failed(self, error: BaseException) -> None:
        """The application raised. Of several errors, the first is why: others are what a framework made of it."""
        if self.closed_at is not None or self.error is not None:
            return
        self.error = type_name(error)
        self.interrupted = not isinstance(error, (Exception, SystemExit, KeyboardInterrupt))

    def close(self) -> None:
        """The exchange is over. Where no response was started, the server answers 500."""
        if not self._asked and self.recorder.config.identity is not None:
            self._ask()
        if self.status is None and not self.client_gone:
            self.status, self.complete, self.sent = 500, True, 0
        if self._first_byte is None and get_current():  # it may hold a span to link to
            self._bound()
        self.closed_at = time.perf_counter_ns()  # as the base's, with a call less
        if self._waiting:
            self._attribute()
        self._whose = self.identity  # what is said later is for what comes later
        if sum(map(len, self._headers.values())) > LONGEST_KEPT:
            self._shorten()
        self.recorder.emit(self)
        # A thread that outlives the request may hold on to it, which must not keep what the client sent.
        self.carrier = _NOTHING
        self._task = self._tasks = None

    def finished(self, make: Callable[..., T]) -> T:
        first, headers = self._first_byte, self._headers
        trace_id, span_id = self._ids or self._bound()
        own: dict[str, Any] = {"http.request.body.size": self.received, "http.response.body.size": self.sent}
        if first is not None:
            own["usage.time_to_first_byte"] = seconds(first - self._start)
        if self.upstream_count:
            own["usage.upstream.count"] = self.upstream_count
            own["usage.upstream.duration"] = seconds(self.upstream_duration)
            own["usage.upstream.response.size"] = self.upstream_received
        if self._kept is not None:
            own |= self._kept
        elif self.recorder.needs_peer or len(headers) > ("host" in headers):
            own |= self._more()
        facts = (
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
            self._place,
            (*self.annotations, ("usage.operation", self.operation)) if self.operation else self.annotations,
        )
        made = make(
            self.recorder.maker,
            tuple.__new__(RequestFacts, facts),  # its own constructor is a function of Python's between
            self._whose,
            own,
            trace_id,
            span_id,
            self._parent[1] if self._parent is not None else b"",
            self._started,
            self._started + (self._ended or self.closed_at or self._start) - self._start,
            self.made_id,
            self.events,
            self.link,
            self._parent is not None,
        )
        self._headers = _NOTHING  # a thread that outlives the request must not keep what the client sent
        return made

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
        if self._task is None:
            return False
        try:
            task = asyncio.current_task()
        except RuntimeError:  # as above
            return False
        return not (task is None or task is self._task or (self._tasks is not None and task in self._tasks))

    def inherited(self) -> dict[str, Any]:
        return {} if self.given_id is None else {"usage.request.id": self.given_id}

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

    def _shorten(self) -> None:
        """Keep of long headers what they amount to: a queue of them would be of any size."""
        self._kept = self._more()
        # Both are read by patterns that are shorter still: what is cut here is none, as it was.
        self._headers = {name: self._headers[name][:LONGEST_KEPT] for name in _READ_LATER if name in self._headers}

    def _more(self) -> dict[str, Any]:
        """Attributes of this request alone that few requests have."""
        own: dict[str, Any] = {}
        headers, recorder = self._headers, self.recorder
        if self.given_id is not None:
            own["usage.request.id"] = self.given_id
        if "x-request-id" in headers:
            sent = headers["x-request-id"]
            if sent != self.given_id:  # so it is where the proxy has put its own id there
                own["usage.client.request_id"] = sent if len(sent) <= LONGEST_ID else ""
        if "sentry-trace" in headers:
            own["usage.sentry.trace_id"] = sentry_trace_id(headers["sentry-trace"])
        if recorder.config.personal:
            client = self._peer if self._proxied is None else self._proxied.client_address
            own.update(personal_facts(headers, client, recorder.config.personal))
        if recorder.hash_user_agent is not None and headers.get("user-agent"):
            own["usage.user_agent.hash"] = recorder.hash_user_agent(headers["user-agent"])
        return own


def current_request() -> UsageRequest | None:
    """The request that the caller is at work for. None: none, or something else than a request."""
    here = current()
    return here.scope if here is not None and isinstance(here.scope, UsageRequest) else None
