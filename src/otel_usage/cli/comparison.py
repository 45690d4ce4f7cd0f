"""Usage, held against an independent count of the same traffic."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from ..local.report import UsageReport

# What recipes call those whose name is not known.
_ANONYMOUS: Final = "(anonymous)"
_UNIDENTIFIED: Final = "(unidentified)"
_NONE: Final = "(none)"

_SHOWN: Final = 5
"""Differences of one kind that are shown."""


def compare(report: UsageReport, tally: Any, say: Callable[[str], object]) -> bool:
    """Say of each count whether usage and the traffic driver's tally agree. True if all do.

    ``tally`` is the ``TrafficTally`` of the example gateway, which this package does not import.
    """
    counts: tuple[tuple[str, Mapping[Any, int], Mapping[Any, int]], ...] = (
        ("requests", {"": report.totals["requests"]}, {"": tally.requests}),
        ("requests per customer", _requests(report, "customers", "customer"), _customers(tally.by_caller)),
        ("requests per tier", _tiers(report), _paid_or_not(tally.by_caller)),
        ("errors by reason", _requests(report, "rejections", "reason"), _errors(tally.by_reason)),
        ("requests per route", _requests(report, "latency", "route"), _routes(tally.by_route)),
        ("bytes answered per customer", _bytes(report), tally.response_bytes + tally.websocket_bytes),
        ("upstream calls per customer and provider", _calls(report), _attempts(tally.upstream_calls)),
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


def _requests(report: UsageReport, part: str, column: str) -> dict[str, int]:
    return {row[column]: row["requests"] for row in report.rows(part)}


def _routes(by_route: Mapping[str | None, int]) -> dict[str, int]:
    return {route or _NONE: requests for route, requests in by_route.items()}


def _customers(by_caller: Mapping[tuple[str | None, int | None], int]) -> Counter[str]:
    counted: Counter[str] = Counter()
    for (customer, tier), requests in by_caller.items():
        counted[customer or (_ANONYMOUS if tier == 0 else _UNIDENTIFIED)] += requests
    return counted


def _tiers(report: UsageReport) -> dict[str, int]:
    return {name: sum(row[name] for row in report.rows("tiers")) for name in ("premium", "free", "unknown")}


def _paid_or_not(by_caller: Mapping[tuple[str | None, int | None], int]) -> Counter[str]:
    counted: Counter[str] = Counter()
    for (_, tier), requests in by_caller.items():
        counted["unknown" if tier is None else "premium" if tier > 0 else "free"] += requests
    return counted


def _bytes(report: UsageReport) -> Counter[str | None]:
    total: Counter[str | None] = Counter()
    for row in report.rows("customers"):
        total[None if row["customer"] in (_ANONYMOUS, _UNIDENTIFIED) else row["customer"]] += row["bytes_out"]
    return total


def _calls(report: UsageReport) -> dict[tuple[str, str], int]:
    return {(row["customer"], row["provider"]): row["calls"] for row in report.rows("upstreams")}


def _attempts(upstream_calls: Mapping[tuple[str | None, str], int]) -> dict[tuple[str, str], int]:
    return {(customer or _UNIDENTIFIED, provider): calls for (customer, provider), calls in upstream_calls.items()}
