"""A sink that shows what was on the wire, byte by byte."""

from __future__ import annotations

import gzip

from otel_usage.local.messages import Request, Response
from otel_usage.local.otlp import ReceivedSpan
from otel_usage.local.receiver import Receiver


class Wire:
    """The handler of a server which keeps the body of each request as it arrives, decompressed."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.received: list[ReceivedSpan] = []
        self._receiver = Receiver()

    @property
    def spans(self) -> int:
        """How many have arrived."""
        return len(self.received)

    def __call__(self, request: Request) -> Response:
        body = request.body or b""
        self.bodies.append(gzip.decompress(body) if request.header("Content-Encoding") == "gzip" else body)
        exchange = self._receiver.handle(request)
        self.received += exchange.spans
        return exchange.response
