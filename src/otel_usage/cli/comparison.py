"""Usage, held against an independent count of the same traffic."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from ..local.report import UsageReport

_SHOWN: Final = 5
"""Differences of one kind that are shown."""


def compare(report: UsageReport, tally: Any, say: Callable[[str], object]) -> bool:
    """Say of each count whether usage and the traffic driver's tally agree. True if all do.

    ``tally`` is the ``TrafficTally`` of the example gateway, which this package does not import.
    """
    counts: tuple[tuple[str, Mapping[Any, int], Mapping[Any, int]], ...] = (
        ("requests", {"": report.totals.requests}, {"": tally.requests}),
        (
            "requests per customer and tier",
            {(c.customer, c.tier): c.requests for c in report.customers},
            tally.by_caller,
        ),
        ("errors by reason", {e.reason: e.requests for e in report.error_reasons}, _errors(tally.by_reason)),
        ("requests per route", {r.route: r.requests for r in report.routes}, tally.by_route),
        ("bytes answered per customer", _bytes(report), tally.response_bytes + tally.websocket_bytes),
        (
            "upstream calls per customer and provider",
            {(u.customer, u.provider): u.calls for u in report.upstreams},
            tally.upstream_calls,
        ),
    )
    say("\nUsage against the traffic driver's own count:")
    agreed = [_agree(name, found, expected, say) for name, found, expected in counts]
    for what in ("unclear", "unexpected"):
        if getattr(tally, what):
            say(f"  the driver itself is not sure of some requests ({what}): {dict(getattr(tally, what))}")
    return all(agreed)


def _agree(name: str, found: Mapping[Any, int], expected: Mapping[Any, int], say: Callable[[str], object]) -> bool:
    keys = sorted(found.keys() | expected.keys(), key=repr)
    wrong = [key for key in keys if found.get(key, 0) != expected.get(key, 0)]
    if not wrong:
        say(f"  equal      {name}: {sum(expected.values()):,}")
        return True
    say(f"  DIFFERENT  {name}")
    for key in wrong[:_SHOWN]:
        say(f"             {key}: usage says {found.get(key, 0):,}, the driver {expected.get(key, 0):,}")
    return False


def _errors(by_reason: Mapping[str, int]) -> dict[str, int]:
    from ..local.report import SUCCESS_REASONS

    return {reason: count for reason, count in by_reason.items() if reason not in SUCCESS_REASONS}


def _bytes(report: UsageReport) -> Counter[str | None]:
    total: Counter[str | None] = Counter()
    for customer in report.customers:
        total[customer.customer] += customer.bytes_out
    return total
