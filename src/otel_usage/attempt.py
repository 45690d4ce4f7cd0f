"""One attempt of one call to another service, and how it is named."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from .blocks import Block, begin, end, said
from .error_type import type_name
from .facts import UpstreamFacts, plain
from .guard import guarded
from .identity import UNKNOWN, UsageIdentity
from .ids import new_span_id
from .ledger import Drops
from .readable import Recorded, T, seconds
from .request import UsageRequest
from .runtime import active
from .scope import Recording, UsageScope, current

if TYPE_CHECKING:
    from .baggage import Outgoing
    from .recorder import Recorder


@dataclass(slots=True)
class UpstreamNaming:
    """Who is called and what is asked of them. None: not said."""

    provider: str | None = None
    operation: str | None = None
    cache_status: str | None = None
    attempts: int = 0
    """Attempts that a hook has recorded under this name, and answers that a cache has given in the place of one."""

    def nearer(self, own: dict[str, Any]) -> UpstreamNaming:
        """The name of one call that says ``own`` of itself, within what this names."""
        return UpstreamNaming(
            own.get("provider", self.provider),
            own.get("operation", self.operation),
            own.get("cache_status", self.cache_status),
        )

    def words(self, drops: Drops) -> tuple[str | None, str | None, str | None]:
        """Provider, operation and cache status: those that are text. The others are counted."""
        # By identity: what an application says may be anything, such as an array, which compares by raising.
        if self.provider is None and self.operation is None and self.cache_status is None:
            return _NOTHING_SAID
        return self._text((self.provider, self.operation, self.cache_status), drops)

    def _text(self, said: tuple[object, ...], drops: Drops) -> tuple[str | None, str | None, str | None]:
        provider, operation, cache_status = words = tuple(map(plain, said))
        for key, given, word in zip(_KEYS, said, words, strict=True):
            if word is None and given is not None:
                drops.add(key)
        return provider, operation, cache_status


_NOTHING_SAID: Final = (None, None, None)
_KEYS: Final = ("usage.provider", "usage.operation", "usage.cache.status")


def naming() -> UpstreamNaming | None:
    """The name that the surrounding ``with upstream(…)`` gives, or None."""
    return said(UpstreamNaming)


class UpstreamAttempt(Recorded):
    """An attempt on its way. Whoever makes it tells what happens; :meth:`finish` makes the span, once."""

    # As for a request: what most attempts never say is a default of the class.
    status: int | None = None
    sent: int = 0
    received: int = 0
    expected: int | None = None
    """Bytes that there are to receive. None: its end tells."""
    resend_count: int = 0
    complete: bool = False
    error: str | None = None
    _first_byte: int | None = None
    _finished: bool = False
    _ended: int = 0
    _end: tuple[int, int, bool, str | None]
    _route: str | None = None
    _whose: UsageIdentity = UNKNOWN

    def __init__(  # noqa: PLR0917  # by position, which costs less: one is made for each call
        self,
        recorder: Recorder,
        name: UpstreamNaming,
        method: str | None,
        host: str | None,
        began: tuple[int, int] | None = None,
        place: Callable[[], Recording | None] = current,
    ) -> None:
        """``method`` and ``host`` are None for a call that is not HTTP or that no hook has seen. ``began`` is when it
        began: nanoseconds since the epoch, and by the performance counter. None: now. ``place`` says where it began.
        """
        self._started, self._start = began or (time.time_ns(), time.perf_counter_ns())
        here = place()
        self.recorder = recorder
        self.method = method
        self.host = host
        self._name = name
        if here is None:  # outside of any scope: a root, in one of its own
            self._scope = UsageScope(recorder)
            (self._trace_id, self._span_id), self._parent_id = self._scope.ids, b""
        else:
            self._scope = here.scope
            self._trace_id, self._parent_id = here.ids
            self._span_id = new_span_id()
            if isinstance(self._scope, UsageRequest) and self._scope.closed_at is None:
                self._scope.upstream_count += 1

    def baggage(self, header: str, host: str, port: int | None) -> Outgoing:
        """What becomes of the ``baggage`` header that the call has, on its way to the host it connects to."""
        ids = self._trace_id, self._span_id
        return self.recorder.baggage.outgoing(header, host, port, self._scope.identity, ids)

    def responded(self, status: int) -> None:
        """The response's head has arrived."""
        self.status = int(status)  # plain: a member of an enum is equal to its number, and is not written as one
        self._first_byte = time.perf_counter_ns()

    def failed(self, error: BaseException) -> None:
        """The attempt, or the reading of its answer, raised."""
        self.error = type_name(error)

    def finish(self, duration: int | None = None) -> None:
        """The last byte was read, or the answer was given up. A second call does nothing.

        ``duration``: nanoseconds that it took. None: until now.
        """
        if self._finished:
            return
        self._finished = True
        if self.expected is not None and self.received >= self.expected:  # a reader may stop at the last byte
            self.complete = True
        if duration is None:
            duration = time.perf_counter_ns() - self._start
        if isinstance(self._scope, UsageRequest) and self._scope.closed_at is None:
            self._scope.upstream_duration += duration
            self._scope.upstream_received += self.received
        self._ended = self._started + duration
        # A stream that another thread has closed may still be read, and end in an error.
        self._end = self.sent, self.received, self.complete, self.error
        self._scope.attribute(self._emit)
        if not self._parent_id:  # nobody else will say who it was for
            self._scope.close()

    def _emit(self, identity: UsageIdentity) -> None:
        self._whose = identity
        self._route = self._scope.template
        self.recorder.emit(self)

    def finished(self, make: Callable[..., T]) -> T:
        recorder, scope = self.recorder, self._scope
        own = scope.inherited()
        sent, received, complete, error = self._end
        if self.method is not None:
            own["http.request.body.size"] = sent
            own["http.response.body.size"] = received
        if self._first_byte is not None:
            own["usage.time_to_first_byte"] = seconds(self._first_byte - self._start)
        words = self._name.words(recorder.drops)
        facts = self.method, self.host, *words, self.status, complete, error, self.resend_count, self._route
        return make(
            recorder.maker,
            tuple.__new__(UpstreamFacts, facts),  # as for a request
            self._whose,
            own,
            self._trace_id,
            self._span_id,
            self._parent_id,
            self._started,
            self._ended,
            scope.made_id,
        )


class upstream:  # noqa: N801  # reads as a verb at its call site, as contextlib's own do
    """Name the calls within: ``with upstream("yahoo-finance", "quote"): requests.get(url)``.

    Works with any client. Where a hook sees the calls, each attempt is a span of that name; where none does, the block
    is one span, of the time it took, without bytes, unless a cache has answered in the place of the call
    (:func:`~otel_usage.record_cache`). When usage is off it does nothing.
    """

    def __init__(self, provider: str, operation: str | None = None, *, cache_status: str | None = None) -> None:
        """``cache_status`` is what the cache in front of the call said, one of ``schema.CACHE_STATUSES``."""
        self._says = (provider, operation, cache_status)
        self._block: Block | None = None

    def __enter__(self) -> None:
        self._block = begin(self, _BlockNaming(*self._says))

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        block = end(self, self._block)
        if block is not None and isinstance(block.says, _BlockNaming) and block.says.attempts == 0:
            _record(block.says, exc)


@dataclass(slots=True, kw_only=True)
class _BlockNaming(UpstreamNaming):
    """The name of a block, which is an attempt itself where no hook sees any."""

    began: tuple[int, int] = field(default_factory=lambda: (time.time_ns(), time.perf_counter_ns()))


@guarded(None)
def _record(name: _BlockNaming, error: BaseException | None) -> None:
    recorder = active()
    if recorder is None:
        return
    attempt = UpstreamAttempt(recorder, name, None, None, name.began)
    attempt.complete = True
    if error is not None:
        attempt.failed(error)
    attempt.finish()
