"""A circuit breaker over export attempts. Pure: it holds numbers, reads an injected clock and does nothing else."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class BreakerState(StrEnum):
    """What a circuit breaker does with an attempt."""

    CLOSED = "closed"
    """Lets every attempt through."""
    OPEN = "open"
    """Lets none through until its delay is over."""
    HALF_OPEN = "half_open"
    """Has let one attempt through and waits for how it ends."""


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When a breaker opens and how it recovers."""

    window: float = 300.0
    """Seconds that a sample counts."""
    failure_ratio: float = 0.05
    """Share of failed samples above which it opens, once there are ``minimum_samples``."""
    minimum_samples: int = 20
    consecutive_failures: int = 5
    """Failures in a row that open it whatever the ratio: a service that sends once a minute never has 20 samples."""
    first_delay: float = 5.0
    """Seconds from opening to the first probe. Doubles with each failed probe."""
    longest_delay: float = 60.0
    """Seconds between probes at most, hence the longest wait after the sink has recovered."""


class CircuitBreaker:
    """Counts how attempts end and says whether the next one may be made. Not thread-safe: one owner."""

    def __init__(self, clock: Callable[[], float], policy: BreakerPolicy = BreakerPolicy()) -> None:
        """``clock`` gives seconds that never go back, such as :func:`time.monotonic`."""
        self._clock = clock
        self._policy: Final = policy
        self._samples: deque[tuple[float, bool]] = deque()
        self._failed = 0
        self._failures_in_row = 0
        self._delay = policy.first_delay
        self._probe_at = 0.0
        self._state = BreakerState.CLOSED

    def renewed(self) -> CircuitBreaker:
        """A new breaker with this one's clock and policy: closed, and without samples."""
        return CircuitBreaker(self._clock, self._policy)

    @property
    def state(self) -> BreakerState:
        """Open, half-open or closed, as the last attempt left it."""
        return self._state

    @property
    def wait(self) -> float:
        """Seconds until the next attempt may be made. 0: now."""
        return max(0.0, self._probe_at - self._clock()) if self._state is BreakerState.OPEN else 0.0

    def allow(self) -> bool:
        """Whether an attempt may be made now. When the breaker is open and its delay is over, this hands out the one
        probe, whose end must be told with :meth:`succeed`, :meth:`fail` or :meth:`give_back`.
        """
        if self._state is BreakerState.CLOSED:
            return True
        if self._state is BreakerState.HALF_OPEN or self._clock() < self._probe_at:
            return False
        self._state = BreakerState.HALF_OPEN
        return True

    def succeed(self) -> bool:
        """An attempt ended well. True if that closed the breaker."""
        self._failures_in_row = 0
        if self._state is BreakerState.CLOSED:
            self._sample(failed=False)
            return False
        # An empty window: the failures that opened it must not open it again after the first hiccup.
        self._samples.clear()
        self._failed = 0
        self._delay = self._policy.first_delay
        self._state = BreakerState.CLOSED
        return True

    def fail(self) -> bool:
        """An attempt failed. True if that opened the breaker, False if it was open already or stays closed."""
        self._failures_in_row += 1
        if self._state is BreakerState.CLOSED:
            self._sample(failed=True)
            if self._tolerable():
                return False
            self._open(self._policy.first_delay)
            return True
        self._open(min(self._delay * 2, self._policy.longest_delay))
        return False

    def give_back(self) -> None:
        """The attempt that was allowed came to nothing before it reached the sink: the probe, if it was one, is there
        to be had again. Does nothing in any other state.
        """
        if self._state is BreakerState.HALF_OPEN:
            self._state = BreakerState.OPEN

    def _open(self, delay: float) -> None:
        self._state = BreakerState.OPEN
        self._delay = delay
        self._probe_at = self._clock() + delay

    def _tolerable(self) -> bool:
        policy, total = self._policy, len(self._samples)
        if self._failures_in_row >= policy.consecutive_failures:
            return False
        return total < policy.minimum_samples or self._failed <= total * policy.failure_ratio

    def _sample(self, *, failed: bool) -> None:
        now = self._clock()
        while self._samples and self._samples[0][0] <= now - self._policy.window:
            self._failed -= self._samples.popleft()[1]
        self._samples.append((now, failed))
        self._failed += failed
