"""One payload, sent in one piece if the sink takes it so, and in halves where it does not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from ..exporters.outcome import Accepted, BadData, Discarded, Outcome, Settling, TooLarge
from ..ledger import Account
from ..payload import Payload
from .gate import REFUSALS, Gate
from .paced_log import PacedLog


@dataclass(slots=True)
class Sent:
    """What became of a payload."""

    settled: Counter[Account | str] = field(default_factory=Counter)
    """Spans that are settled, by their account, or the reason that they were dropped for."""
    left: Payload | None = None
    """What is still to be sent. None: nothing."""


class Sender:
    """Sends payloads while the gate is open."""

    def __init__(self, attempt: Callable[[Payload], Outcome], gate: Gate) -> None:
        """``attempt`` makes one attempt and never raises."""
        self._attempt = attempt
        self._gate = gate
        self._partial_log = PacedLog()
        self._refusal_log = PacedLog()

    def send(self, payload: Payload) -> Sent:
        """Send as much as the sink takes now."""
        sent, parts, refusals, refusal = Sent(), [payload], 0, ""
        try:
            while parts and self._gate.may_try():
                outcome = self._attempt(parts[-1])
                self._gate.hear(outcome)
                if not isinstance(outcome, Settling):
                    break
                part = parts.pop()
                if isinstance(outcome, BadData):
                    refusals, refusal = refusals + 1, outcome.word
                elif isinstance(outcome, Accepted):
                    refusals = 0
                cut = isinstance(outcome, BadData | TooLarge) and refusals < REFUSALS  # else it is not single spans
                if cut and (halves := _halves(part)) is not None:
                    parts += reversed(halves)
                else:
                    self._settle(outcome, part.count, sent)
        finally:
            self._gate.give_back()
        if parts:
            sent.left = parts[-1].joined(reversed(parts[:-1]))
        if refusal:
            message = "the sink rejected %d of %d spans for good (%s)"
            self._refusal_log.warn(message, sent.settled[Account.REJECTED], payload.count, refusal)
        return sent

    def _settle(self, outcome: Settling, count: int, sent: Sent) -> None:
        match outcome:
            case Accepted(rejected=claimed):
                rejected = min(max(claimed, 0), count)
                sent.settled[Account.ACCEPTED] += count - rejected
                sent.settled[Account.REJECTED] += rejected
                if rejected:
                    # Why, only the sink can say: its words may repeat what it was sent, and are not logged.
                    self._partial_log.warn("the sink rejected %d of %d spans", rejected, count)
            case BadData():
                sent.settled[Account.REJECTED] += count
            case TooLarge():
                sent.settled["too_large"] += count
            case Discarded(reason=reason):
                sent.settled[reason] += count


def _halves(payload: Payload) -> tuple[Payload, Payload] | None:
    try:
        return payload.halves()
    except ValueError:
        return None
