"""Traffic for the gateway, and an exact count of it that owes nothing to telemetry.

Run it by hand against a gateway that is up::

    python -m otel_usage.examples.gateway.traffic http://127.0.0.1:8000 --seconds 10
"""

import argparse
import asyncio
import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import fields
from typing import Final

from .callers import CALLERS, Caller
from .exchanges import EXCHANGES, Exchange, Style
from .sender import CAN_CONVERSE, Sender, open_client
from .tally import TrafficTally

__all__ = ["MAX_REQUESTS", "TrafficTally", "drive", "main"]

MAX_REQUESTS: Final = 100_000
"""Requests of one run at most, however long it is."""

_PROGRESS_SECONDS: Final = 0.2
# After the last answer the gateway may still be making announced calls, and noticing that a caller has left.
_SETTLE_SECONDS: Final = 0.5
_EXCHANGES: Final = tuple(e for e in EXCHANGES if CAN_CONVERSE or e.style is not Style.WEBSOCKET)

Progress = Callable[[TrafficTally], object]


async def drive(
    base_url: str,
    *,
    seconds: float,
    concurrency: int,
    seed: int,
    on_progress: Progress | None = None,
    max_requests: int = MAX_REQUESTS,
) -> TrafficTally:
    """Send every exchange once, then a weighted mix for ``seconds``, ``concurrency`` at a time.

    Returns when every request has been answered, a moment later so that the gateway has finished with the last one too.
    ``on_progress`` gets the tally as it grows, a few times a second.
    """
    plan = _Plan(random.Random(seed), time.monotonic() + seconds, max_requests)
    async with open_client(base_url, concurrency) as client:
        sender = Sender(client)
        reporter = asyncio.create_task(_report(sender.tally, on_progress))
        try:
            async with asyncio.TaskGroup() as workers:
                for _ in range(concurrency):
                    workers.create_task(_work(sender, plan))
        finally:
            reporter.cancel()
    await asyncio.sleep(_SETTLE_SECONDS)
    if on_progress is not None:
        on_progress(sender.tally)
    return sender.tally


class _Plan:
    """What is sent next: first everything once, so that the shortest run shows it all; then as the weights say."""

    def __init__(self, chance: random.Random, deadline: float, max_requests: int) -> None:
        self._chance, self._deadline, self._left = chance, deadline, max_requests
        self._first = deque(self._everything())
        self._weights = [exchange.weight for exchange in _EXCHANGES]

    def next(self) -> tuple[Exchange, Caller] | None:
        """The next exchange and who sends it, or None at the end."""
        if self._left <= 0 or (not self._first and time.monotonic() >= self._deadline):
            return None
        self._left -= 1
        return self._first.popleft() if self._first else self._any()

    def _everything(self) -> list[tuple[Exchange, Caller]]:
        """Every exchange by a caller whom nothing keeps from it, and every caller once."""
        strongest = max((c for c in CALLERS if c.refusal is None), key=lambda c: c.tier or 0)
        exchanges = [(e, e.callers[0] if e.callers else strongest) for e in _EXCHANGES]
        callers = [(_EXCHANGES[0], caller) for caller in CALLERS]
        return self._chance.sample(exchanges + callers, k=len(exchanges) + len(callers))

    def _any(self) -> tuple[Exchange, Caller]:
        exchange = self._chance.choices(_EXCHANGES, self._weights)[0]
        callers = exchange.callers or CALLERS
        return exchange, self._chance.choices(callers, [c.share(protected=exchange.protected) for c in callers])[0]


async def _work(sender: Sender, plan: _Plan) -> None:
    while (chosen := plan.next()) is not None:
        await sender.send(*chosen)


async def _report(tally: TrafficTally, on_progress: Progress | None) -> None:
    while on_progress is not None:
        on_progress(tally)
        await asyncio.sleep(_PROGRESS_SECONDS)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Traffic for the example gateway, and an exact count of it.")
    parser.add_argument("base_url", help="the gateway, for example http://127.0.0.1:8000")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    tally = asyncio.run(
        drive(chosen.base_url, seconds=chosen.seconds, concurrency=chosen.concurrency, seed=chosen.seed)
    )
    for each in fields(tally):
        print(f"{each.name}: {getattr(tally, each.name)}")


if __name__ == "__main__":
    main()
