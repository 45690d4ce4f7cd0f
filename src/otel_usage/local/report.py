"""What the stored spans say about usage: pure queries, frozen answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Self

from ..schema import RecordKind, UsageEvent
from .columns import custom_column, quoted
from .layout import SPANS
from .store import UsageStore

SUCCESS_REASONS: Final = ("ok", "preflight", "not_modified", "idempotent_replay")
"""The reasons of requests that were served. A request with any other reason is an error."""


@dataclass(frozen=True, slots=True)
class Totals:
    """The whole window."""

    spans: int
    """Spans of every kind."""
    requests: int
    errors: int
    """Requests that were not served: see :data:`SUCCESS_REASONS`. Without a reason the status or the span decides."""
    start: str | None
    """When the first span began: ISO 8601 in UTC. None: there is no span."""
    end: str | None
    """When the last span began: ISO 8601 in UTC. None: there is no span."""


@dataclass(frozen=True, slots=True)
class CustomerUsage:
    """The requests of one customer on one tier."""

    customer: str | None
    """None: no customer. On tier 0 these are anonymous, else they are not known."""
    tier: int | None
    """None: not known, which is not tier 0."""
    requests: int
    errors: int
    bytes_out: int
    """Bytes of the responses' bodies."""


@dataclass(frozen=True, slots=True)
class ErrorReason:
    """The requests that failed for one reason."""

    reason: str | None
    """None: they failed, and do not say why."""
    requests: int


@dataclass(frozen=True, slots=True)
class RouteLatency:
    """How long the requests of one route took, to their last byte."""

    route: str | None
    """The template. None: the request matched no route."""
    requests: int
    p50_ms: float
    """Milliseconds, by nearest rank."""
    p95_ms: float
    """Milliseconds, by nearest rank."""


@dataclass(frozen=True, slots=True)
class UpstreamUsage:
    """What one customer's requests cost at one provider."""

    customer: str | None
    """None: not known."""
    provider: str | None
    """None: not named."""
    calls: int
    """Attempts, each of them."""
    errors: int
    """Attempts that failed or were answered with an error."""
    bytes_in: int
    """Bytes that the provider answered."""
    p95_ms: float
    """Milliseconds, by nearest rank."""


@dataclass(frozen=True, slots=True)
class CacheLookups:
    """What the cache in front of one provider said."""

    provider: str | None
    """None: not named."""
    status: str | None
    """``fresh``, ``miss``, …. None: not said."""
    lookups: int
    """Lookups that needed no call (events of a request) and those in front of a call (upstream spans)."""


@dataclass(frozen=True, slots=True)
class UsageReport:
    """Who called what, what it cost, and how it was served. Each list is sorted, the largest first."""

    totals: Totals
    customers: tuple[CustomerUsage, ...]
    error_reasons: tuple[ErrorReason, ...]
    routes: tuple[RouteLatency, ...]
    upstreams: tuple[UpstreamUsage, ...]
    caches: tuple[CacheLookups, ...]

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The report that ``dataclasses.asdict`` made a dictionary of, also through JSON.

        Raises:
            KeyError, TypeError: the dictionary is no report of this version.
        """
        return cls(
            Totals(**data["totals"]),
            **{name: tuple(row(**item) for item in data[name]) for name, row in _ROWS.items()},
        )


_ROWS: Final[Mapping[str, type[Any]]] = {
    "customers": CustomerUsage,
    "error_reasons": ErrorReason,
    "routes": RouteLatency,
    "upstreams": UpstreamUsage,
    "caches": CacheLookups,
}


def build_report(store: UsageStore, since: datetime | None = None) -> UsageReport:
    """The report of all spans that began at ``since`` (with a time zone) or later; None: of all spans.

    Raises:
        StoreError: the store cannot be read.
    """
    start = since.astimezone(UTC).replace(tzinfo=None) if since is not None else None
    statements = [_WITH + query for query in (_TOTALS, *(_QUERIES[name] for name in _ROWS))]
    totals, *answers = store.snapshot(statements, [start, start])
    ((spans, requests, errors, first, last),) = totals
    parts = {
        name: tuple(row(*values) for values in answer)
        for (name, row), answer in zip(_ROWS.items(), answers, strict=True)
    }
    return UsageReport(Totals(spans, requests, errors, _iso(first), _iso(last)), **parts)


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.replace(tzinfo=UTC).isoformat(timespec="milliseconds")


def _column(key: str) -> str:
    return quoted(f"attributes.{key}")


def _custom(key: str) -> str:
    return quoted(custom_column(key))


_SERVED: Final = ", ".join(f"'{reason}'" for reason in SUCCESS_REASONS)
_STATUS: Final = _column("http.response.status_code")

# Names for what the report reads, so that each query below says only what it counts.
_WITH: Final = f"""
WITH usage AS (
  SELECT *,
    {_custom("usage.kind")} AS record,
    {_custom("usage.customer.id")} AS customer,
    {_custom("usage.tier")} AS tier,
    {_custom("usage.reason")} AS reason,
    {_custom("usage.provider")} AS provider,
    {_custom("usage.cache.status")} AS cache_status,
    {_column("http.route")} AS route,
    coalesce({_column("http.response.body.size")}, 0) AS bytes,
    epoch_us(make_timestamp(0) + duration) / 1000 AS ms,
    error OR coalesce({_STATUS} >= 400, false) OR {_column("error.type")} IS NOT NULL AS failed
  FROM {SPANS} WHERE ? IS NULL OR _time >= ?
),
requests AS (
  SELECT *, CASE WHEN reason IS NULL THEN failed ELSE reason NOT IN ({_SERVED}) END AS unserved
  FROM usage WHERE record = '{RecordKind.REQUEST}'
),
upstream AS (SELECT * FROM usage WHERE record = '{RecordKind.UPSTREAM}'),
lookups AS (
  SELECT provider, cache_status FROM upstream WHERE cache_status IS NOT NULL
  UNION ALL
  SELECT event ->> '$.attributes."usage.provider"', event ->> '$.attributes."usage.cache.status"'
  FROM (SELECT unnest(CAST(events AS JSON[])) AS event FROM usage) AS every_event
  WHERE event ->> '$.name' = '{UsageEvent.CACHE}'
)
"""

_TOTALS: Final = f"""
SELECT count(*), count(*) FILTER (record = '{RecordKind.REQUEST}'), (SELECT count(*) FROM requests WHERE unserved),
  min(_time), max(_time)
FROM usage
"""

_QUERIES: Final[Mapping[str, str]] = {
    "customers": """
SELECT customer, tier, count(*), count(*) FILTER (unserved), CAST(sum(bytes) AS BIGINT)
FROM requests GROUP BY ALL ORDER BY count(*) DESC, customer NULLS LAST, tier NULLS LAST
""",
    "error_reasons": """
SELECT reason, count(*) FROM requests WHERE unserved GROUP BY reason ORDER BY count(*) DESC, reason NULLS LAST
""",
    "routes": """
SELECT route, count(*), quantile_disc(ms, 0.5), quantile_disc(ms, 0.95)
FROM requests GROUP BY route ORDER BY count(*) DESC, route NULLS LAST
""",
    "upstreams": """
SELECT customer, provider, count(*), count(*) FILTER (failed), CAST(sum(bytes) AS BIGINT), quantile_disc(ms, 0.95)
FROM upstream GROUP BY customer, provider ORDER BY count(*) DESC, customer NULLS LAST, provider NULLS LAST
""",
    "caches": """
SELECT provider, cache_status, count(*)
FROM lookups GROUP BY ALL ORDER BY count(*) DESC, provider NULLS LAST, cache_status NULLS LAST
""",
}
