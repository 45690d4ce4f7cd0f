"""How often a customer may call: a token bucket for each."""

import time
from collections.abc import Callable

from .keys import Limit


class RateLimiter:
    """Token buckets by customer. There are as many buckets as customers, so nothing has to be thrown away."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}

    def allows(self, customer: str, limit: Limit) -> bool:
        """Whether one more request is within ``limit``; takes a token if it is."""
        now = self._clock()
        tokens, since = self._buckets.get(customer, (float(limit.burst), now))
        tokens = min(limit.burst, tokens + (now - since) * limit.per_second)
        allowed = tokens >= 1
        self._buckets[customer] = (tokens - 1 if allowed else tokens, now)
        return allowed
