"""Whether the sink may be tried now: the circuit breaker, its own wish for patience, and what hinders it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from ..circuit_breaker import BreakerState, CircuitBreaker
from ..exporters.outcome import Accepted, BadData, Failed, Misconfigured, Outcome, RetryLater, TooLarge
from ..guard import say

PROBE_PERIOD: Final = 60.0
"""Seconds between attempts while the sink refuses everything (401, 403 and kin)."""


REFUSALS: Final = 24
"""Refusals of data in a row after which the fault is not in single spans."""


class Gate:
    """Hears how each attempt ended, and says when the next may be made. One owner; others may read."""

    def __init__(self, breaker: CircuitBreaker, clock: Callable[[], float]) -> None:
        self._breaker = breaker
        self._clock = clock
        self._not_before = 0.0
        self._refusals = 0
        self.hindrance: str | None = None
        """What keeps spans from being delivered, in a word. None: nothing."""

    @property
    def state(self) -> BreakerState:
        """What the breaker does with attempts now."""
        return self._breaker.state

    @property
    def wait(self) -> float:
        """Seconds until an attempt may be made. 0: now."""
        return max(0.0, self._not_before - self._clock(), self._breaker.wait)

    def may_try(self) -> bool:
        """Whether an attempt may be made now. A yes may be the one probe: tell how it ended, or give it back."""
        return self._clock() >= self._not_before and self._breaker.allow()

    def give_back(self) -> None:
        """The attempt that was allowed was not made, or nobody knows how it ended."""
        self._breaker.give_back()

    def renewed(self) -> Gate:
        """A gate of the same policy that has heard nothing."""
        return Gate(self._breaker.renewed(), self._clock)

    def hear(self, outcome: Outcome) -> None:
        """Remember how an attempt ended and how long to wait, and say so once."""
        match outcome:
            case Accepted():
                self._succeeded()
                self._refusals = 0
                self.hindrance = None
            case BadData(word=word):
                self._refusals += 1
                self._succeeded()  # the sink is well: it reads and answers
                if self._refusals >= REFUSALS:
                    self.hindrance = word
            case TooLarge():
                self._succeeded()
            case RetryLater(after=after):
                self._not_before = self._clock() + after
                if self.hindrance != "rate_limited":
                    say(logging.INFO, "the sink asks for patience (429); spans are kept for %.0f s and more", after)
                self.hindrance = "rate_limited"
                self._found_alive()
            case Misconfigured():
                self._refused(outcome)
            case Failed(why=why, after=after):
                self.hindrance = why
                self._not_before = self._clock() + after
                if self._breaker.fail():
                    say(
                        logging.ERROR,
                        "usage cannot be delivered (%s): the circuit breaker is open; spans are kept",
                        why,
                    )

    def _refused(self, outcome: Misconfigured) -> None:
        previous, self.hindrance = self.hindrance, outcome.word
        self._not_before = self._clock() + PROBE_PERIOD
        self._found_alive()
        if previous != self.hindrance:
            say(
                logging.ERROR, "the sink refuses usage (%s). %s Trying again each minute.", outcome.word, outcome.advice
            )

    def _succeeded(self) -> None:
        if self._breaker.succeed():
            say(logging.INFO, "the sink takes usage again")

    def _found_alive(self) -> None:
        """The sink answered without taking anything: a probe is over, and no sample either way."""
        if self._breaker.state is BreakerState.HALF_OPEN:
            self._breaker.succeed()
