"""One attempt of one call to another service, and how it is named."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from .allowlist import span_name
from .error_type import type_name
from .guard import guarded
from .identity import UsageIdentity
from .request import UsageRequest
from .request_facts import method_of
from .runtime import active
from .schema import RecordKind
from .scope import UsageScope, current

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

    from .baggage import Outgoing
    from .recorder import Recorder


@dataclass(slots=True)
class UpstreamNaming:
    """Who is called and what is asked of them. None: not said."""

    provider: str | None = None
    operation: str | None = None
    cache_status: str | None = None
    attempts: int = 0
    """Attempts that a hook has recorded under this name."""


_NAMING: Final[ContextVar[UpstreamNaming | None]] = ContextVar("otel_usage.upstream", default=None)


def naming() -> UpstreamNaming | None:
    """The name that the surrounding ``with upstream(…)`` gives, or None."""
    here = _NAMING.get()
    while isinstance(here, _Block) and here.ended:  # a task or thread that was started within may outlast it
        here = here.around
    return here


@contextmanager
def named(names: UpstreamNaming | None) -> Iterator[None]:
    """Carry a name into another thread: calls within count for it. None: no name is around them."""
    token = _NAMING.set(names)
    try:
        yield
    finally:
        _NAMING.reset(token)


def provider_of(host: str, providers: Mapping[str, str]) -> str:
    """The provider that ``USAGE_PROVIDERS`` names for a host, else the host itself."""
    if not providers:
        return host
    exact = providers.get(host)
    if exact is not None:
        return exact
    suffixes = (host[index + 1 :] for index, character in enumerate(host) if character == ".")
    return next((providers[f"*.{suffix}"] for suffix in suffixes if f"*.{suffix}" in providers), host)


class UpstreamAttempt:
    """An attempt on its way. Whoever makes it tells what happens; :meth:`finish` makes the span, once."""

    __slots__ = (
        "_context", "_finished", "_first_byte", "_name", "_parent", "_scope", "_start", "_started", "complete", "error",
        "expected", "host", "method", "received", "recorder", "resend_count", "sent", "status",
    )  # fmt: skip

    def __init__(
        self,
        recorder: Recorder,
        name: UpstreamNaming,
        method: str | None,
        host: str | None,
        began: tuple[int, float] | None = None,
    ) -> None:
        """``method`` and ``host`` are None for a call that is not HTTP or that no hook has seen. ``began`` is when it
        began: nanoseconds since the epoch, and the performance counter's seconds. None: now.
        """
        here = current()
        self.recorder = recorder
        self.method = method
        self.host = host
        self.status: int | None = None
        self.sent = 0
        self.received = 0
        self.expected: int | None = None  # bytes that there are to receive; None: its end tells
        self.resend_count = 0
        self.complete = False
        self.error: str | None = None
        self._name = name
        self._scope = here.scope if here is not None else UsageScope(recorder)
        self._parent: SpanContext | None = here.context if here is not None else None
        self._context = recorder.new_context(self._parent.trace_id) if self._parent is not None else self._scope.context
        self._first_byte: float | None = None
        self._finished = False
        self._started, self._start = began or (time.time_ns(), time.perf_counter())
        if isinstance(self._scope, UsageRequest):
            self._scope.upstream_count += 1

    def baggage(self, header: str, host: str, port: int | None) -> Outgoing:
        """What becomes of the ``baggage`` header that the call has, on its way to the host it connects to."""
        return self.recorder.baggage.outgoing(header, host, port, self._scope.identity, self._context)

    def responded(self, status: int) -> None:
        """The response's head has arrived."""
        self.status = status
        self._first_byte = time.perf_counter()

    def failed(self, error: BaseException) -> None:
        """The attempt, or the reading of its answer, raised."""
        self.error = type_name(error)

    def finish(self) -> None:
        """The last byte was read, or the answer was given up. A second call does nothing."""
        if self._finished:
            return
        self._finished = True
        if self.expected is not None and self.received >= self.expected:  # a reader may stop at the last byte
            self.complete = True
        duration = time.perf_counter() - self._start
        if isinstance(self._scope, UsageRequest):
            self._scope.upstream_duration += duration
            self._scope.upstream_received += self.received
        self._scope.attribute(lambda identity: self._emit(identity, duration))
        if self._parent is None:  # outside of any scope: nobody else will say who it was for
            self._scope.close()

    def _emit(self, identity: UsageIdentity, duration: float) -> None:
        bad_status = self.status is not None and self.status >= 400
        provider = self._name.provider or provider_of(self.host or "unknown", self.recorder.config.providers)
        attributes: dict[str, Any] = {
            **self._scope.inherited(),
            **identity.attributes(),
            "usage.provider": provider,
            "usage.operation": self._name.operation,
            "usage.cache.status": self._name.cache_status,
            "http.request.method": method_of(self.method) if self.method is not None else None,
            "server.address": self.host,
            "http.response.status_code": self.status,
            "error.type": self.error or (str(self.status) if bad_status else None),
            "http.request.resend_count": self.resend_count or None,
            "usage.aborted": None if self.complete or self.status is None else True,
        }
        if self.method is not None:
            attributes["http.request.body.size"] = self.sent
            attributes["http.response.body.size"] = self.received
        if self._first_byte is not None:
            attributes["usage.time_to_first_byte"] = self._first_byte - self._start
        self.recorder.emit(
            RecordKind.UPSTREAM,
            span_name(RecordKind.UPSTREAM.value, provider, self._name.operation),
            self._context,
            attributes,
            start_time=self._started,
            end_time=self._started + round(duration * 1e9),
            parent=self._parent,
            failed=bad_status or self.error is not None,
        )


class upstream:  # noqa: N801  # reads as a verb at its call site, as contextlib's own do
    """Name the calls within: ``with upstream("yahoo-finance", "quote"): requests.get(url)``.

    Works with any client. Where a hook sees the calls, each attempt is a span of that name; where none does, the block
    is one span, of the time it took, without bytes. When usage is off it does nothing.
    """

    def __init__(self, provider: str, operation: str | None = None, *, cache_status: str | None = None) -> None:
        """``cache_status`` is what the cache in front of the call said, one of ``schema.CACHE_STATUSES``."""
        self._says = (provider, operation, cache_status)
        self._block: _Block | None = None

    def __enter__(self) -> None:
        self._block = _Block(*self._says, owner=self, around=_NAMING.get())
        _NAMING.set(self._block)

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        here, block = _NAMING.get(), self._block
        if isinstance(here, _Block) and here.owner is self:  # not so where a generator is closed in another context
            _NAMING.set(here.around)
            block = here  # tasks and threads may share one `upstream`: each has a block of its own
        if block is None:
            return
        block.ended = True
        if block.attempts == 0:
            _record(block, exc)


@dataclass(slots=True, kw_only=True)
class _Block(UpstreamNaming):
    """One entering of :class:`upstream`."""

    owner: upstream
    around: UpstreamNaming | None
    ended: bool = False
    began: tuple[int, float] = field(default_factory=lambda: (time.time_ns(), time.perf_counter()))


@guarded(None)
def _record(block: _Block, error: BaseException | None) -> None:
    recorder = active()
    if recorder is None:
        return
    attempt = UpstreamAttempt(recorder, block, None, None, block.began)
    attempt.complete = True
    if error is not None:
        attempt.failed(error)
    attempt.finish()
