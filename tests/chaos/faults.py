"""The faults by name: what the sink does to a request, or the wire to a connection, until it is healed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from otel_usage.local.messages import Response
from otel_usage.local.otlp import ReceivedSpan
from otel_usage.local.receiver import Exchange
from otel_usage.testing import AxiomStub, Garbage, Hang, PartialSuccess, RateLimited, Refuse, Reset, SlowDrip, Status
from otel_usage.testing.faults import Fault, Outcome
from tests.chaos.tls import TlsForwarder, Wire

HANG_SECONDS: Final = 60.0
DRIP_SECONDS: Final = 0.1
RESET_BYTES: Final = 20
REJECTED: Final = 3
FLAP_SECONDS: Final = 1.0


@dataclass
class Rejecting:
    """Partial success that remembers what it rejected: those spans are accounted for, and not lost."""

    on_rejected: Callable[[ReceivedSpan], None]
    _fault: PartialSuccess = field(default_factory=lambda: PartialSuccess(REJECTED))

    def strike(self, exchange: Exchange) -> Outcome:
        outcome = self._fault.strike(exchange)
        taken = {span.key for span in outcome.spans}
        for span in exchange.spans:
            if span.key not in taken:
                self.on_rejected(span)
        return outcome


class Redirecting:
    """302 to a page that answers 200, as a portal does that wants a login first. A client that follows it believes that
    it has delivered.
    """

    def strike(self, exchange: Exchange) -> Outcome:
        if exchange.request.method == "POST":
            return Status(302, {"Location": "/login"}).strike(exchange)
        return Outcome(Response(200, {"Content-Type": "text/html"}, b"<h1>Who are you?</h1>"), status=200)


class Flapping:
    """503 for a second, well for a second, and so on."""

    def __init__(self, stub: AxiomStub) -> None:
        self._stub = stub
        self._healed = threading.Event()
        self._thread = threading.Thread(target=self._flap, name="chaos-flapping", daemon=True)
        self._thread.start()

    def heal(self) -> None:
        self._healed.set()
        self._thread.join()

    def _flap(self) -> None:
        while True:
            self._stub.fail_with(Status(503))
            if self._healed.wait(FLAP_SECONDS):
                return
            self._stub.heal()
            if self._healed.wait(FLAP_SECONDS):
                return


REQUEST_FAULTS: Final[dict[str, Fault | Refuse]] = {
    "503": Status(503),
    "429": RateLimited(),
    "401": Status(401),
    "hang": Hang(HANG_SECONDS),
    "hang_taken": Hang(HANG_SECONDS, accepted=True),
    "slow_drip": SlowDrip(DRIP_SECONDS),
    "reset": Reset(RESET_BYTES),
    "reset_taken": Reset(RESET_BYTES, accepted=True),
    "302": Redirecting(),
    "garbage": Garbage(),
    "refused": Refuse(),
}
WIRE_FAULTS: Final[dict[str, Wire]] = {"tls_untrusted": Wire.UNTRUSTED, "tls_stalled": Wire.STALLED}

FAULTS: Final = ("accept", *REQUEST_FAULTS, "partial", *WIRE_FAULTS, "flapping")
"""All of them. ``accept`` is none: what a healthy sink costs and loses."""

TAKEN_WITHOUT_A_WORD: Final = frozenset({"hang_taken", "slow_drip", "reset_taken"})
"""The sink takes the data and cannot say so: the only faults that are a reason to send something twice."""


class Injector:
    """Sets one fault at a time on the stub and on the wire in front of it."""

    def __init__(self, stub: AxiomStub, wire: TlsForwarder | None, on_rejected: Callable[[ReceivedSpan], None]) -> None:
        self._stub = stub
        self._wire = wire
        self._on_rejected = on_rejected
        self._flapping: Flapping | None = None

    def set(self, name: str) -> None:
        self.heal()
        if name in REQUEST_FAULTS:
            self._stub.fail_with(REQUEST_FAULTS[name])
        elif name in WIRE_FAULTS:
            assert self._wire is not None, "this fault needs TLS"
            self._wire.be(WIRE_FAULTS[name])
        elif name == "partial":
            self._stub.fail_with(Rejecting(self._on_rejected))
        elif name == "flapping":
            self._flapping = Flapping(self._stub)
        elif name != "accept":
            raise ValueError(f"there is no fault {name!r}")

    def heal(self) -> None:
        if self._flapping is not None:
            self._flapping.heal()
            self._flapping = None
        if self._wire is not None:
            self._wire.be(Wire.TRUSTED)
        self._stub.heal()
