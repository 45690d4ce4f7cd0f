"""Every way through the gateway, and how each must end: the traffic that is sent, and what is expected of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from .callers import BROWSER, STRANGE_SITE, Caller


class Style(StrEnum):
    """How an exchange is carried out."""

    WHOLE = "whole"
    """Read to the last byte."""
    ABORTED = "aborted"
    """The caller hangs up after the first event of a stream, when the server has nothing more to send."""
    WEBSOCKET = "websocket"
    """Three messages, echoed."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One way in which an exchange may end."""

    reason: str
    template: str | None
    """The route that must be recorded. None: no route was reached."""
    customer: str | None = None
    tier: int | None = None


@dataclass(frozen=True, slots=True)
class Exchange:
    """One kind of request, with the answer that a caller gets whom nothing keeps from it."""

    name: str
    path: str
    status: int = 200
    reason: str = "ok"
    template: str | None = None
    """The template of the route that handles it."""
    weight: int = 1
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    minimum_tier: int = 0
    protected: bool = True
    """Whether it needs a key."""
    revalidates: bool = False
    """Whether it sends the last ETag it has seen."""
    style: Style = Style.WHOLE
    callers: tuple[Caller, ...] = ()
    """Who sends it. Empty: anybody."""
    preflight: bool = False
    """Whether the answer is given before anybody asks who the caller is."""

    def outcomes(self, caller: Caller) -> dict[int, Outcome]:
        """Status → outcome, for every status that ``caller`` may get."""
        if self.preflight:
            return {self.status: Outcome(self.reason, None)}
        if caller.refusal and (self.protected or not caller.refusal.protected_only):
            # A refused caller is not tier 0: whether it is anonymous or suspended, nobody has looked its tier up.
            return {caller.refusal.status: Outcome(caller.refusal.reason, None, caller.customer, tier=None)}
        customer, tier = caller.customer, caller.tier
        status, reason, template = self._answer(caller)
        found = {status: Outcome(reason, template, customer, tier)}
        if caller.limited:
            found[429] = Outcome("rate_limit_429", None, customer, tier)
        if self.revalidates:
            found[304] = Outcome("not_modified", template, customer, tier)
        return found

    def _answer(self, caller: Caller) -> tuple[int, str, str | None]:
        if self.minimum_tier and caller.tier is None:
            return 503, "billing_unavailable", None
        if (caller.tier or 0) < self.minimum_tier:
            return 403, "tier_403", None
        return self.status, self.reason, self.template


_JSON: Final = {"content-type": "application/json"}
_QUOTES, _ALERTS, _FX = "/v1/quotes/{symbol}", "/v1/alerts", "/v1/fx/{pair}"
_PREFLIGHT: Final = {"access-control-request-method": "GET", "access-control-request-headers": "x-api-key"}

EXCHANGES: Final = (
    # 2xx and 304
    Exchange("a quote", "/v1/quotes/ACME", template=_QUOTES, weight=24),
    Exchange("another quote", "/v1/quotes/GLBX", template=_QUOTES, weight=14),
    Exchange("markets, open to all", "/markets", template="/markets", weight=12, protected=False),
    Exchange("symbols, revalidated", "/v1/symbols", template="/v1/symbols", weight=8, revalidates=True),
    Exchange("a redirected filing", "/v1/filings/1204", template="/v1/filings/{filing_id}", weight=5),
    Exchange("a slow, blocking call", "/v1/geocode?city=Berlin", template="/v1/geocode", weight=5),
    Exchange("an exchange rate", "/v1/fx/EURUSD", template=_FX, weight=5),
    Exchange("a ratio", "/v1/ratios/ACME", template="/v1/ratios/{symbol}", weight=3),
    Exchange("a streamed export", "/v1/export/ACME", template="/v1/export/{symbol}", weight=5, minimum_tier=1),
    Exchange("a brief", "/v1/briefs/ACME", template="/v1/briefs/{symbol}", weight=5, minimum_tier=2),
    Exchange("a brief with a retry", "/v1/briefs/UMBR", template="/v1/briefs/{symbol}", weight=2, minimum_tier=2),
    Exchange("a report by the page", "/partner/reports/7", template="/partner/reports/{report_id}", weight=4,
             minimum_tier=1),
    Exchange("an upload", "/v1/uploads", 201, template="/v1/uploads", weight=3, method="POST", body=b"u" * 20_000),
    Exchange("an alert, with a webhook later", "/v1/alerts", 202, template=_ALERTS, weight=4, method="POST",
             headers=_JSON, body=b'{"symbol": "ACME", "above": 50}'),
    Exchange("health", "/health", template="/health", weight=3, protected=False),
    Exchange("health, without a body", "/health", template="/health", weight=2, protected=False, method="HEAD"),
    Exchange("a stream that the caller leaves", "/v1/feed", reason="client_aborted", template="/v1/feed", weight=2,
             style=Style.ABORTED),
    Exchange("a WebSocket", "/v1/stream", 101, template="/v1/stream", weight=2, style=Style.WEBSOCKET),
    # Preflights
    Exchange("a preflight", "/v1/quotes/ACME", reason="preflight", weight=3, method="OPTIONS", headers=_PREFLIGHT,
             callers=(BROWSER,), preflight=True),
    Exchange("a rejected preflight", "/v1/quotes/ACME", 400, "cors_error", weight=2, method="OPTIONS",
             headers=_PREFLIGHT, callers=(STRANGE_SITE,), preflight=True),
    # The caller's fault
    Exchange("an unknown symbol", "/v1/quotes/NOPE", 404, "not_found", _QUOTES, weight=3),
    Exchange("an unknown report", "/partner/reports/404", 404, "not_found", "/partner/reports/{report_id}",
             minimum_tier=1),
    Exchange("no such route", "/v1/nothing/here", 404, "unknown_route", weight=2),
    Exchange("a scan for holes", "/wp-login.php", 404, "unknown_route", weight=2, protected=False),
    Exchange("the wrong method", "/v1/quotes/ACME", 405, "method_not_allowed", _QUOTES, method="DELETE"),
    Exchange("a malformed symbol", "/v1/alerts", 400, "malformed_request", _ALERTS, method="POST", headers=_JSON,
             body=b'{"symbol": "4C-ME", "above": 50}'),
    Exchange("a body of the wrong shape", "/v1/alerts", 422, "malformed_request", _ALERTS, method="POST",
             headers=_JSON, body=b'{"symbol": "ACME"}'),
    Exchange("a number that is none", "/v1/filings/latest", 422, "malformed_request", "/v1/filings/{filing_id}"),
    Exchange("too long an upload", "/v1/uploads", 413, "payload_too_large", "/v1/uploads", method="POST",
             body=b"u" * 80_000),
    # A provider's fault, and ours
    Exchange("a provider that fails", "/v1/fx/XAUUSD", 502, "server_error", _FX),
    Exchange("a provider that is throttling", "/v1/fx/XAGUSD", 503, "server_error", _FX),
    Exchange("a provider that hangs", "/v1/fx/BTCUSD", 503, "server_error", _FX),
    Exchange("an unhandled exception", "/v1/ratios/VOID", 500, "unhandled_exception", "/v1/ratios/{symbol}"),
)  # fmt: skip
"""The mix. Weights are relative."""
