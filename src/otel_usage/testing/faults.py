"""What can go wrong between a service and Axiom, each as a value to give to ``AxiomStub.fail_with``.

A fault decides on its own whether the spans of the request were taken. That matters: a server that has taken them and
cannot say so makes the client send them a second time.
"""

from __future__ import annotations

import math
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from ..local.http_server import Transmission, encode_response
from ..local.messages import Response, error_response
from ..local.otlp import ReceivedSpan
from ..local.receiver import Exchange, export_response

_LINGER_ZERO: Final = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a fault made of one exchange."""

    reply: Response | Transmission
    spans: tuple[ReceivedSpan, ...] = ()
    """The spans that the server took all the same."""
    status: int | None = None
    """The status that the client can see. None: it sees no answer."""


class Fault(Protocol):
    """Changes the answer to a request. ``exchange`` holds what would have been answered."""

    def strike(self, exchange: Exchange) -> Outcome:
        """What happens instead."""
        ...


@dataclass(frozen=True, slots=True)
class Status:
    """Answers with a status and takes no span: 500, 503 with ``Retry-After``, 302 with ``Location``, 401, 413, …"""

    code: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    """None: the JSON error that Axiom would send."""

    def strike(self, exchange: Exchange) -> Outcome:
        """Answer with the status."""
        if self.body is None:
            response = error_response(self.code, f"answered with {self.code} on demand", self.headers)
        else:
            response = Response(self.code, self.headers, self.body)
        return Outcome(response, status=self.code)


@dataclass(frozen=True, slots=True)
class RateLimited:
    """Answers 429 with Axiom's headers and message, and takes no span. Axiom documents no ``Retry-After``."""

    reset_seconds: float = 1.0
    """Seconds from the answer until the window resets. The header holds whole epoch seconds, rounded up."""
    scope: str = "organization"
    """``user`` or ``organization``."""
    limit: int = 1000
    """Requests that a window allows."""

    def strike(self, exchange: Exchange) -> Outcome:
        """Answer 429."""
        headers = {
            "X-RateLimit-Scope": self.scope,
            "X-RateLimit-Limit": str(self.limit),
            "X-RateLimit-Remaining": "0",
            "X-RateLimit-Reset": str(math.ceil(time.time() + self.reset_seconds)),
        }
        return Outcome(error_response(429, "rate limit exceeded", headers), status=429)


@dataclass(frozen=True, slots=True)
class PartialSuccess:
    """Answers 200 and rejects the last ``rejected`` spans of the batch."""

    rejected: int
    """What the answer claims, also where the batch had fewer. 0 with a message is OTLP's warning."""
    message: str = "rejected on demand"

    def strike(self, exchange: Exchange) -> Outcome:
        """Take the first spans and answer 200 with ``partial_success``."""
        if exchange.response.status != 200:
            return _unchanged(exchange)
        taken = exchange.spans[: max(0, len(exchange.spans) - self.rejected)]
        return Outcome(export_response(exchange.request, rejected=self.rejected, message=self.message), taken, 200)


@dataclass(frozen=True, slots=True)
class Poison:
    """Answers 400 and takes nothing where any span of the batch matches. Other batches are answered as usual."""

    predicate: Callable[[ReceivedSpan], bool]

    def strike(self, exchange: Exchange) -> Outcome:
        """Answer 400 if a span of the batch matches."""
        if any(self.predicate(span) for span in exchange.spans):
            return Outcome(error_response(400, "a span of the batch is malformed"), status=400)
        return _unchanged(exchange)


@dataclass(frozen=True, slots=True)
class Hang:
    """Says nothing for ``seconds``. Then it answers, if it took the spans, else it closes the connection."""

    seconds: float
    accepted: bool = False
    """Whether the spans were taken before the silence."""

    def strike(self, exchange: Exchange) -> Outcome:
        """Fall silent."""
        if self.accepted:
            return Outcome(_Silence(self.seconds, encode_response(exchange.response, close=True)), exchange.spans)
        return Outcome(_Silence(self.seconds, b""))


@dataclass(frozen=True, slots=True)
class SlowDrip:
    """Takes the spans and sends the usual answer byte by byte, head and body."""

    interval: float
    """Seconds between two bytes."""

    def strike(self, exchange: Exchange) -> Outcome:
        """Drip the answer."""
        answer = encode_response(exchange.response, close=True)
        return Outcome(_Drip(self.interval, answer), exchange.spans, exchange.response.status)


@dataclass(frozen=True, slots=True)
class Reset:
    """Resets the connection (RST) after the first ``after_bytes`` bytes of the answer."""

    after_bytes: int = 0
    accepted: bool = False
    """Whether the spans were taken before."""

    def strike(self, exchange: Exchange) -> Outcome:
        """Reset the connection."""
        start = encode_response(exchange.response, close=True)[: self.after_bytes]
        return Outcome(_ResetAfter(start), exchange.spans if self.accepted else ())


@dataclass(frozen=True, slots=True)
class Garbage:
    """Answers with bytes that are not HTTP, takes no span and closes the connection."""

    data: bytes = b"\x00\xff\x13 this is not HTTP \x80\r\n\r\n"

    def strike(self, exchange: Exchange) -> Outcome:
        """Answer with the bytes."""
        return Outcome(_Raw(self.data))


@dataclass(frozen=True, slots=True)
class Refuse:
    """Refuses connections: the listener is closed and the open connections are dropped until ``heal()``."""


def _unchanged(exchange: Exchange) -> Outcome:
    return Outcome(exchange.response, exchange.spans, exchange.response.status)


@dataclass(frozen=True, slots=True)
class _Silence:
    seconds: float
    then: bytes

    def transmit(self, connection: socket.socket, closing: threading.Event) -> None:
        if not closing.wait(self.seconds):
            connection.sendall(self.then)


@dataclass(frozen=True, slots=True)
class _Drip:
    interval: float
    data: bytes

    def transmit(self, connection: socket.socket, closing: threading.Event) -> None:
        for byte in self.data:
            connection.sendall(bytes([byte]))
            if closing.wait(self.interval):
                return


@dataclass(frozen=True, slots=True)
class _Raw:
    data: bytes

    def transmit(self, connection: socket.socket, closing: threading.Event) -> None:
        connection.sendall(self.data)


@dataclass(frozen=True, slots=True)
class _ResetAfter:
    data: bytes

    def transmit(self, connection: socket.socket, closing: threading.Event) -> None:
        connection.sendall(self.data)
        # A zero linger makes closing send a reset instead of an orderly end.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
        connection.close()
