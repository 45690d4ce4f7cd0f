"""A real HTTP server on localhost that behaves as Axiom does, with faults on demand."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from ..local.access import Access
from ..local.http_server import HttpServer, Transmission
from ..local.limits import FieldLimits
from ..local.messages import Request, Response
from ..local.otlp import MAX_BODY_BYTES, ReceivedSpan
from ..local.receiver import MAX_SPANS, TRACES_PATH, Exchange, Judge, Receiver
from .faults import Fault, Outcome, Refuse

_SHOWN_NAMES: Final = 10


@dataclass(frozen=True, slots=True)
class StubRequest:
    """One request that the stub received."""

    method: str
    path: str
    headers: Mapping[str, str]
    """By lower-case name."""
    size: int
    """Bytes of the body as it was sent, before decompression. -1: too long, and not read."""
    spans: int
    """Spans that were taken from it. 0 also where its answer was an error."""
    status: int | None
    """The status that was answered. None: the stub hung, reset the connection or sent garbage."""


class AxiomStub:
    """Axiom for tests: ``with AxiomStub() as stub:`` and point ``USAGE_OTLP_ENDPOINT`` at ``stub.url``.

    It answers as Axiom does (token, dataset header, limits, partial success), keeps what it received, and fails when it
    is told to. All of it is thread-safe. It closes every socket and joins every thread at its end, also one that hangs.
    """

    def __init__(
        self,
        token: str | None = "xaat-test",
        dataset: str = "api_usage",
        *,
        other_datasets: Collection[str] = (),
        port: int = 0,
        judge: Judge | None = None,
        max_body_bytes: int = MAX_BODY_BYTES,
        max_spans: int = MAX_SPANS,
    ) -> None:
        """``token`` None: neither token nor dataset is checked.

        ``other_datasets`` exist, and the token may not write to them (403). ``judge`` says why a span is rejected
        (partial success); None: Axiom's field limits. ``port`` 0: any free one.
        """
        access = Access({token: (dataset,)}, other_datasets=other_datasets) if token is not None else None
        self._receiver = Receiver(
            access, judge=judge or FieldLimits(), max_body_bytes=max_body_bytes, max_spans=max_spans
        )
        self._server = HttpServer(self._handle, port=port, max_body_bytes=max_body_bytes)
        self._changed = threading.Condition()
        self._spans: list[ReceivedSpan] = []
        self._requests: list[StubRequest] = []
        self._fault: Fault | None = None
        self._strikes_left: int | None = None
        self._refusing = False

    def start(self) -> None:
        """Listen. ``with`` does it too."""
        self._server.start()

    def close(self) -> None:
        """Stop at once, whatever the stub was doing. May be called twice."""
        self._server.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        """``http://127.0.0.1:port``: the value of ``USAGE_OTLP_ENDPOINT``."""
        return self._server.url

    @property
    def port(self) -> int:
        """The port, which stays the same while connections are refused."""
        return self._server.port

    @property
    def endpoint(self) -> str:
        """Where spans are posted to: the URL with ``/v1/traces``."""
        return self.url + TRACES_PATH

    @property
    def spans(self) -> list[ReceivedSpan]:
        """All spans taken, as often as they arrived: a copy. In the order in which their requests did; those of one
        request, which have no order there, in that in which they ended.
        """
        with self._changed:
            return list(self._spans)

    @property
    def unique_spans(self) -> list[ReceivedSpan]:
        """The same without the repetitions of at-least-once delivery: the first arrival of each."""
        first: dict[tuple[str, str], ReceivedSpan] = {}
        for span in self.spans:
            first.setdefault(span.key, span)
        return list(first.values())

    @property
    def requests(self) -> list[StubRequest]:
        """All requests, also those that failed: a copy."""
        with self._changed:
            return list(self._requests)

    def wait_for(self, n: int, timeout: float = 5.0) -> list[ReceivedSpan]:
        """The spans, as soon as at least ``n`` have arrived. Repetitions count. ``timeout`` in seconds.

        Raises:
            AssertionError: fewer had arrived after ``timeout``. The message says what had.
        """
        self._wait(lambda: len(self._spans) >= n, timeout, f"{n} spans")
        return self.spans

    def wait_for_requests(self, n: int, timeout: float = 5.0) -> list[StubRequest]:
        """The requests, as soon as at least ``n`` have arrived, whatever was answered. ``timeout`` in seconds.

        Raises:
            AssertionError: fewer had arrived after ``timeout``. The message says what had.
        """
        self._wait(lambda: len(self._requests) >= n, timeout, f"{n} requests")
        return self.requests

    def clear(self) -> None:
        """Forget all spans and requests. A fault stays."""
        with self._changed:
            self._spans.clear()
            self._requests.clear()

    def fail_with(self, fault: Fault | Refuse, times: int | None = None) -> None:
        """Fail from the next request on; this replaces an earlier fault.

        ``times``: the requests to strike, after which the stub is healthy again. None: until :meth:`heal`.

        Raises:
            ValueError: ``times`` with :class:`Refuse`, which meets connections and not requests, or below 1.
        """
        if times is not None and (times < 1 or isinstance(fault, Refuse)):
            raise ValueError("times is at least 1, and not for Refuse")
        self.heal()
        if isinstance(fault, Refuse):
            self._server.pause()
            self._refusing = True
            return
        with self._changed:
            self._fault, self._strikes_left = fault, times

    def heal(self) -> None:
        """Be healthy again. A request that hangs already keeps hanging."""
        with self._changed:
            self._fault, self._strikes_left = None, None
        if self._refusing:
            self._refusing = False
            self._server.resume()

    def _handle(self, request: Request) -> Response | Transmission:
        exchange = self._receiver.handle(request)
        fault = self._next_fault()
        if fault is None:
            outcome = Outcome(exchange.response, exchange.spans, exchange.response.status)
        else:
            outcome = fault.strike(exchange)
        self._record(exchange, outcome)
        return outcome.reply

    def _next_fault(self) -> Fault | None:
        with self._changed:
            fault = self._fault
            if self._strikes_left is not None:
                self._strikes_left -= 1
                if self._strikes_left == 0:
                    self._fault, self._strikes_left = None, None
            return fault

    def _record(self, exchange: Exchange, outcome: Outcome) -> None:
        # Before the answer goes out: a client that has its 200 finds its spans here.
        request, size = exchange.request, -1 if exchange.request.body is None else len(exchange.request.body)
        seen = StubRequest(request.method, request.path, request.headers, size, len(outcome.spans), outcome.status)
        with self._changed:
            self._spans.extend(sorted(outcome.spans, key=lambda span: span.end_time))
            self._requests.append(seen)
            self._changed.notify_all()

    def _wait(self, arrived: Callable[[], bool], timeout: float, what: str) -> None:
        with self._changed:
            if not self._changed.wait_for(arrived, timeout):
                raise AssertionError(f"no {what} within {timeout} s: {self._summary()}")

    def _summary(self) -> str:
        names = ", ".join(span.name for span in self._spans[:_SHOWN_NAMES])
        more = ", …" if len(self._spans) > _SHOWN_NAMES else ""
        statuses = [request.status for request in self._requests]
        return f"{len(self._spans)} spans ({names}{more}), {len(statuses)} requests answered with {statuses}"
