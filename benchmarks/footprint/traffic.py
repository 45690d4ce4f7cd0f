"""Requests as a service of some size sees them: few routes and customers make most of them, and sizes have long tails.

The same seed makes the same requests.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

ROUTES: Final = (
    ("GET", "/v1/quotes/{symbol}", "public, max-age=60"),
    ("GET", "/v1/quotes/{symbol}/history", "public, s-maxage=900"),
    ("POST", "/v1/search", None),
    ("GET", "/v1/companies/{id}", "public, max-age=3600"),
    ("GET", "/v1/companies/{id}/filings", "public, max-age=3600"),
    ("GET", "/v1/news", "public, s-maxage=300"),
    ("GET", "/v1/fx/{pair}", "no-store"),
    ("GET", "/v1/me", "no-store"),
    ("POST", "/v1/batch/quotes", None),
    ("GET", "/v1/geocode", "public, max-age=86400"),
    ("GET", "/v1/markets", "public, s-maxage=60"),
    ("GET", "/v1/markets/{market}/status", None),
    ("POST", "/v1/webhooks", None),
    ("GET", "/v1/webhooks", None),
    ("DELETE", "/v1/webhooks/{id}", None),
    ("GET", "/v1/usage", "no-store"),
    ("GET", "/v1/exports/{id}", None),
    ("PUT", "/v1/watchlists/{id}", None),
    ("GET", "/v1/watchlists/{id}", "private, max-age=30"),
    ("GET", "/healthz", "no-store"),
)
"""Method, template and ``Cache-Control``; the most popular first."""

UPSTREAMS: Final = (
    ("quotes.example.com", "quotes", "quote"),
    ("api.newswire.example", "newswire", "headlines"),
    ("maps.example.org", "geocoder", "search"),
    ("fx.example.net", "fx", "rate"),
    ("filings.example.gov", "filings", "fetch"),
)
"""Host, provider and operation; the most popular first."""

PROVIDERS: Final = {host: provider for host, provider, _ in UPSTREAMS}
CUSTOMERS: Final = 40
UPSTREAM_SHARE: Final = 0.4

_STATUSES: Final = ((200, 87), (304, 4), (401, 3), (404, 3), (429, 2), (500, 1))
_CALLING: Final = (200, 500)
_CALLING_SHARE: Final = 0.88
"""The share of requests that get far enough to call anybody."""
_SKEW: Final = 1.1
"""The exponent of Zipf's law."""
_MOST_BYTES: Final = 256 << 10


@dataclass(frozen=True, slots=True)
class Upstream:
    """One call that a request makes."""

    host: str
    operation: str
    status: int
    size: int
    """Bytes of its answer."""


@dataclass(frozen=True, slots=True)
class Order:
    """One request, and what is to become of it."""

    number: int
    method: str
    path: str
    cache_control: str | None
    customer: int
    status: int
    received: int
    """Bytes of the request's body."""
    sent: int
    """Bytes of the answer's body."""
    seconds: float
    """Until the answer begins."""
    upstream: Upstream | None
    agent: int = 0
    """Which of the user agents there are."""
    query: bytes = b""


def orders(
    seed: int, *, customers: int = CUSTOMERS, upstream: float = UPSTREAM_SHARE, agents: int = 50, slow: bool = False
) -> Iterator[Order]:
    """Endlessly many requests. ``upstream``: the share of them that call somebody; ``slow``: they take their time."""
    chance = random.Random(seed)
    routes, callers, hosts = _zipf(len(ROUTES)), _zipf(customers), _zipf(len(UPSTREAMS))
    statuses = list(itertools.accumulate(weight for _, weight in _STATUSES))
    for number in itertools.count():
        method, template, cache_control = chance.choices(ROUTES, cum_weights=routes)[0]
        status = chance.choices(_STATUSES, cum_weights=statuses)[0][0]
        if status == 304 and method != "GET":
            status = 200
        yield Order(
            number,
            method,
            path_of(template, chance),
            cache_control if status < 400 else None,
            chance.choices(range(customers), cum_weights=callers)[0],
            status,
            _size(chance, 400) if method in ("POST", "PUT") else 0,
            0 if status == 304 else _size(chance, 2000) if status == 200 else 60 + number % 7,
            chance.lognormvariate(-5.3, 0.9) if slow else 0.0,  # half of them within 5 ms
            _call(chance, hosts) if status in _CALLING and chance.random() < upstream / _CALLING_SHARE else None,
            chance.randrange(agents),
        )


def path_of(template: str, chance: random.Random) -> str:
    """A path that a template matches."""
    head, brace, rest = template.partition("{")
    return f"{head}{chance.randrange(10**6)}{rest.partition('}')[2]}" if brace else head


def _call(chance: random.Random, weights: list[float]) -> Upstream:
    host, _, operation = chance.choices(UPSTREAMS, cum_weights=weights)[0]
    status = chance.choices((200, 404, 429, 503), (95, 2, 2, 1))[0]
    return Upstream(host, operation, status, _size(chance, 3000))


def _size(chance: random.Random, least: int) -> int:
    """Of a Pareto distribution: most are small, and some are very large."""
    return min(int(least * chance.paretovariate(1.2)), _MOST_BYTES)


def _zipf(count: int) -> list[float]:
    return list(itertools.accumulate(1 / rank**_SKEW for rank in range(1, count + 1)))
