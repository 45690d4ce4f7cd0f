"""Generated usage, with whatever usage may lack, and what recipes answer about it, counted in plain Python."""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from otel_usage.local.otlp import ReceivedEvent, ReceivedSpan, Value
from otel_usage.local.report import SUCCESS_REASONS
from otel_usage.schema import CACHE_TIERS, REASONS

NOW: Final = datetime(2026, 11, 20, 12, 30, 7, tzinfo=UTC)
_NOW_US: Final = int(NOW.timestamp()) * 1_000_000
_SECOND: Final = 1_000_000
_DAY: Final = 86_400
ROUTES: Final = ("/v1/items/{id}", "/v1/report", "/v1/brief", None)
CUSTOMERS: Final = ("acme", "globex", 'o"brien\\ & sons', "initech", None)
PROVIDERS: Final = ("yahoo-finance", "openai", None)
MODELS: Final = ("gpt-5", "claude-x", None)

Row = dict[str, Any]


def _age(chance: random.Random) -> float:
    """Seconds before now: much of the last hour, less of the day, some of a month, and more of a week ago."""
    reach = chance.choice([3600, 3600, _DAY, 32 * _DAY])
    return chance.uniform(0, reach) + chance.choice([0, 0, 0, 7 * _DAY])


def _made(facts: Mapping[str, Value]) -> dict[str, Value]:
    return {key: value for key, value in facts.items() if value is not None}


def _lookup(chance: random.Random) -> ReceivedEvent:
    status = chance.choice(["fresh", "fresh", "stale-while-revalidate", "neg-sentinel", "miss"])
    return ReceivedEvent(
        "usage.cache", 1, _made({"usage.provider": chance.choice(PROVIDERS), "usage.cache.status": status})
    )


class _Maker:
    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.spans: list[ReceivedSpan] = []
        self.service = "gateway"

    def span(
        self,
        trace: str,
        parent: str | None,
        start_us: int,
        record: str,
        facts: Mapping[str, Value],
        *events: ReceivedEvent,
    ) -> ReceivedSpan:
        kind = {"request": "server", "custom": "internal"}.get(record, "client")
        duration = self.chance.randrange(1, 2_000_000)
        span = ReceivedSpan(
            trace_id=trace,
            span_id=f"{self.chance.getrandbits(64) | 1:016x}",
            parent_span_id=parent,
            name=f"{record} work",
            kind=kind,
            start_time=start_us * 1000,
            end_time=(start_us + duration) * 1000,
            status_code="error" if self.chance.random() < 0.1 else "unset",
            attributes={"usage.kind": record, **_made(facts)},
            events=events,
            resource_attributes={"service.name": self.service},
        )
        self.spans.append(span)
        return span

    def request(self) -> None:
        chance = self.chance
        start = _NOW_US - int(_age(chance) * _SECOND)
        trace = f"{chance.getrandbits(128) | 1:032x}"
        customer = chance.choice(CUSTOMERS)
        who: dict[str, Value] = {
            "usage.customer.id": customer,
            "usage.tier": chance.choice([0, 1, 2, None]),
            "usage.plan": chance.choice(["free", "api_pro", "unlisted", None]),
            "usage.auth.kind": chance.choice(["anon", "jwt", None]),
            "usage.identity.provenance": chance.choice(["verified", "unverified", "unavailable", None]),
        }
        request = self.span(
            trace,
            None,
            start,
            "request",
            {
                **who,
                "http.route": chance.choice(ROUTES),
                "http.response.status_code": chance.choice([200, 200, 304, 404, 503, None]),
                "http.response.body.size": chance.choice([0, 17, 2_500, None]),
                "usage.reason": chance.choice([*REASONS, "ok", "ok", "ok", "own_word", None]),
                "usage.cache.tier": chance.choice([*CACHE_TIERS, None]),
                "geo.country.iso_code": chance.choice(["DE", "US", None]),
                "usage.sentry.trace_id": f"{chance.getrandbits(128) | 1:032x}" if chance.random() < 0.5 else None,
            },
            *(_lookup(chance) for _ in range(chance.randrange(3))),
            ReceivedEvent("usage.limit", 1, {"usage.limit.name": "per_minute", "usage.limit.decision": "allow"}),
        )
        for _ in range(chance.randrange(3)):
            self.upstream(request, start, who)
        for _ in range(chance.randrange(3)):
            self.llm(request, start, who)
        if chance.random() < 0.2:
            self.span(trace, request.span_id, start + 5, "custom", who, _lookup(chance))

    def upstream(self, request: ReceivedSpan, start: int, who: Mapping[str, Value]) -> None:
        chance = self.chance
        call = self.span(
            request.trace_id,
            request.span_id,
            start + chance.randrange(1000),
            "upstream",
            {
                **who,
                "usage.provider": chance.choice(PROVIDERS),
                "usage.operation": "quote",
                "usage.cache.status": chance.choice(["miss", "miss", "stale-while-revalidate", None]),
                "http.response.status_code": chance.choice([200, 200, 429, None]),
                "http.response.body.size": chance.choice([0, 4096, None]),
                "http.request.resend_count": chance.choice([1, None, None]),
                "error.type": chance.choice([None, None, "httpx.ConnectTimeout"]),
            },
        )
        if chance.random() < 0.2:  # it was a call of another service, which observes what it receives
            self.service = "pricing"
            inner = {**who, "http.route": "/v1/prices", "usage.reason": "ok", "http.response.status_code": 200}
            self.span(call.trace_id, call.span_id, start + 1000, "request", inner)
            self.service = "gateway"

    def llm(self, request: ReceivedSpan, start: int, who: Mapping[str, Value]) -> None:
        chance = self.chance
        self.span(
            request.trace_id,
            request.span_id,
            start + chance.randrange(1000),
            "llm",
            {
                **who,
                "gen_ai.request.model": chance.choice(MODELS),
                "gen_ai.usage.input_tokens": chance.choice([812, 90, None]),
                "gen_ai.usage.output_tokens": chance.choice([55, 7, None]),
                "usage.reason": chance.choice(["ok", "ok", "rate_limit_429", "server_error", None]),
                "usage.llm.fallback_index": chance.choice([0, 1, None]),
            },
        )


def generated(seed: int = 11, requests: int = 500) -> list[ReceivedSpan]:
    """Some weeks of requests and what they caused, until :data:`NOW`."""
    maker = _Maker(seed)
    for _ in range(requests):
        maker.request()
    return maker.spans


# What recipes answer


def within(spans: Iterable[ReceivedSpan], window: timedelta, record: str, **wanted: Value) -> list[ReceivedSpan]:
    since = _NOW_US - window // timedelta(microseconds=1)
    facts = {key.replace("__", "."): value for key, value in wanted.items() if value is not None}
    return [
        span
        for span in spans
        if span.start_time // 1000 >= since
        and span.attributes["usage.kind"] == record
        and all(span.attributes.get(key) == value for key, value in facts.items())
    ]


def received(spans: list[ReceivedSpan], values: Mapping[str, Any]) -> list[ReceivedSpan]:
    """Those of the service that is asked about."""
    service = values["service"]
    return [span for span in spans if service is None or span.resource_attributes["service.name"] == service]


def grouped(spans: Iterable[Any], key: Callable[[Any], tuple[Any, ...]]) -> dict[tuple[Any, ...], list[Any]]:
    groups: dict[tuple[Any, ...], list[Any]] = defaultdict(list)
    for span in spans:
        groups[key(span)].append(span)
    return groups


def fact(span: ReceivedSpan, key: str, otherwise: Any = "") -> Any:
    return span.attributes.get(key, otherwise)


def route(span: ReceivedSpan) -> str:
    return str(fact(span, "http.route", "(none)"))


def customer(span: ReceivedSpan) -> str:
    return str(fact(span, "usage.customer.id", "(unidentified)"))


def failed(span: ReceivedSpan) -> bool:
    status = fact(span, "http.response.status_code", 0)
    return span.status_code == "error" or status >= 400 or "error.type" in span.attributes


def unserved(span: ReceivedSpan) -> bool:
    reason = fact(span, "usage.reason")
    return reason not in SUCCESS_REASONS if reason else failed(span)


def total(spans: Iterable[ReceivedSpan], key: str) -> int:
    return sum(fact(span, key, 0) for span in spans)


def ms(span: ReceivedSpan) -> float:
    return (span.end_time - span.start_time) / 1e6


def rank(spans: Iterable[ReceivedSpan], percent: int) -> float:
    values = sorted(map(ms, spans))
    return values[math.ceil(len(values) * percent / 100) - 1]


def customers(spans: list[ReceivedSpan], values: Mapping[str, Any]) -> list[Row]:
    def who(span: ReceivedSpan) -> tuple[str]:
        return (fact(span, "usage.customer.id", "(anonymous)" if fact(span, "usage.tier") == 0 else "(unidentified)"),)

    found = within(received(spans, values), values["window"], "request", usage__customer__id=values["customer"])
    return [
        {
            "customer": name,
            "requests": len(group),
            "errors": sum(map(unserved, group)),
            "bytes_out": total(group, "http.response.body.size"),
            "error_percent": 100 * sum(map(unserved, group)) / len(group),
        }
        for (name,), group in sorted(grouped(found, who).items(), key=lambda item: (-len(item[1]), item[0]))
    ]


def latency(spans: list[ReceivedSpan], values: Mapping[str, Any]) -> list[Row]:
    found = within(spans, values["window"], "request", usage__customer__id=values["customer"])
    groups = grouped(found, lambda span: (route(span),))
    return [
        {"route": name, "requests": len(group), **{f"p{each}_ms": rank(group, each) for each in (50, 95, 99)}}
        for (name,), group in sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    ]


def tiers(spans: list[ReceivedSpan], values: Mapping[str, Any]) -> list[Row]:
    groups = grouped(within(spans, values["window"], "request"), lambda span: (route(span),))
    rows = []
    for (name,), group in sorted(groups.items(), key=lambda item: (-len(item[1]), item[0])):
        known = Counter(fact(span, "usage.tier", None) for span in group)
        premium = known[1] + known[2]
        rows.append(
            {
                "route": name,
                "requests": len(group),
                "premium": premium,
                "free": known[0],
                "unknown": known[None],
                "premium_percent": 100 * premium / len(group),
            }
        )
    return rows


def cache_tiers(spans: list[ReceivedSpan], values: Mapping[str, Any]) -> list[Row]:
    found = Counter(
        (route(span), fact(span, "usage.cache.tier", "(none)")) for span in within(spans, values["window"], "request")
    )
    return [
        {"route": name, "tier": tier, "requests": count}
        for (name, tier), count in sorted(found.items(), key=lambda item: (-item[1], item[0]))
    ]


def abuse(spans: list[ReceivedSpan], values: Mapping[str, Any]) -> list[Row]:
    found = within(spans, values["window"], "request", usage__auth__kind="anon")
    groups = grouped(found, lambda span: (route(span), fact(span, "geo.country.iso_code", "(unknown)")))
    return [
        {
            "route": name,
            "country": country,
            "requests": len(group),
            "limited": sum(fact(span, "usage.reason").startswith("rate_limit") for span in group),
            "not_found": sum(fact(span, "usage.reason") in ("unknown_route", "not_found") for span in group),
        }
        for (name, country), group in sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    ]


def upstreams(spans: list[ReceivedSpan], values: Mapping[str, Any]) -> list[Row]:
    found = within(spans, values["window"], "upstream", usage__customer__id=values["customer"])
    groups = grouped(found, lambda span: (customer(span), fact(span, "usage.provider", "(none)")))
    return [
        {
            "customer": name,
            "provider": provider,
            "calls": len(group),
            "errors": sum(map(failed, group)),
            "resent": sum(fact(span, "http.request.resend_count", 0) > 0 for span in group),
            "bytes_in": total(group, "http.response.body.size"),
            "p95_ms": rank(group, 95),
        }
        for (name, provider), group in sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    ]


def caches(spans: list[ReceivedSpan], values: Mapping[str, Any]) -> list[Row]:
    seen: dict[str, Counter[str]] = defaultdict(Counter)
    for record in ("request", "custom"):
        for span in within(spans, values["window"], record):
            for event in span.events:
                if event.name == "usage.cache":
                    what = "misses" if event.attributes["usage.cache.status"] == "miss" else "hits"
                    seen[str(event.attributes.get("usage.provider", "(none)"))][what] += 1
    for span in within(spans, values["window"], "upstream"):
        if status := fact(span, "usage.cache.status"):
            seen[fact(span, "usage.provider", "(none)")]["misses" if status == "miss" else "refreshed"] += 1
    rows = []
    for provider, found in sorted(seen.items(), key=lambda item: (-item[1]["hits"], -item[1]["misses"], item[0])):
        looked_up = found["hits"] + found["misses"]
        rows.append(
            {
                "provider": provider,
                **{what: found[what] for what in ("hits", "misses", "refreshed")},
                "hit_percent": 100 * found["hits"] / looked_up if looked_up else 0,
            }
        )
    return rows


def story(spans: list[ReceivedSpan], values: Mapping[str, Any]) -> list[Row]:
    since = _NOW_US - values["window"] // timedelta(microseconds=1)
    young = [span for span in spans if span.start_time // 1000 >= since]
    traces = {values["trace"]} | {
        span.trace_id for span in young if span.attributes.get("usage.sentry.trace_id") == values["trace"]
    }
    told = sorted((s for s in young if s.trace_id in traces), key=lambda s: (s.start_time // 1000, s.span_id))
    return [
        {
            "ms": ms(span),
            "service": span.resource_attributes["service.name"],
            "record": fact(span, "usage.kind"),
            "name": span.name,
            "customer": fact(span, "usage.customer.id"),
            "provider": fact(span, "usage.provider"),
            "operation": fact(span, "usage.operation"),
            "model": fact(span, "gen_ai.request.model"),
            "status": fact(span, "http.response.status_code", None),
            "reason": fact(span, "usage.reason"),
            "error_type": fact(span, "error.type"),
            "trace_id": span.trace_id,
            "span_id": span.span_id,
            "parent_span_id": span.parent_span_id,
        }
        for span in told
    ]


def health(spans: list[ReceivedSpan], values: Mapping[str, Any]) -> list[Row]:
    since = _NOW_US - values["window"] // timedelta(microseconds=1)
    young = [span for span in spans if span.start_time // 1000 >= since]
    rows = []
    for (minute,), group in sorted(grouped(young, lambda s: (s.start_time // 60_000_000_000,)).items(), reverse=True):
        records = Counter(fact(span, "usage.kind") for span in group)
        said = Counter(fact(s, "usage.identity.provenance") for s in group if fact(s, "usage.kind") == "request")
        rows.append(
            {
                "minute": datetime.fromtimestamp(minute * 60, UTC).isoformat().replace("+00:00", "Z"),
                "spans": len(group),
                "requests": records["request"],
                **{record: records[record] for record in ("upstream", "llm", "custom")},
                "identity_unavailable": said["unavailable"],
                "unidentified": said[""],
                "repeated": 0,
            }
        )
    return rows


def tokens(spans: list[ReceivedSpan], values: Mapping[str, Any]) -> list[Row]:
    found = within(spans, values["window"], "llm", usage__customer__id=values["customer"])
    rows = []
    for (name, model), group in grouped(
        found, lambda span: (customer(span), fact(span, "gen_ai.request.model", "(none)"))
    ).items():
        answered = [span for span in group if fact(span, "usage.reason") == "ok"]
        spent = [(total([s], "gen_ai.usage.input_tokens"), total([s], "gen_ai.usage.output_tokens")) for s in group]
        rows.append(
            {
                "customer": name,
                "model": model,
                "attempts": len(group),
                "answered": len(answered),
                "fallbacks": sum(fact(span, "usage.llm.fallback_index", 0) > 0 for span in group),
                "input_tokens": sum(each for each, _ in spent),
                "output_tokens": sum(each for _, each in spent),
                "unanswered_tokens": sum(
                    sum(each) for span, each in zip(group, spent, strict=True) if span not in answered
                ),
                "amplification": len(group) / len(answered) if answered else 0,
            }
        )
    return sorted(rows, key=lambda row: (-row["input_tokens"], row["customer"], row["model"]))


def costs(spans: list[ReceivedSpan], values: Mapping[str, Any]) -> list[Row]:
    prices = values["prices"]
    rows: dict[str, Row] = {}

    def of(span: ReceivedSpan) -> Row:
        start = {"model_calls": 0, "calls": 0, "model_cost": Decimal(), "call_cost": Decimal(), "unpriced": 0}
        return rows.setdefault(customer(span), {"customer": customer(span), **start})

    for span in within(spans, values["window"], "llm", usage__customer__id=values["customer"]):
        row, price = of(span), prices.models.get(fact(span, "gen_ai.request.model"))
        row["model_calls"] += 1
        row["unpriced"] += price is None
        per_input, per_output = price or (Decimal(), Decimal())
        used = total([span], "gen_ai.usage.input_tokens"), total([span], "gen_ai.usage.output_tokens")
        row["model_cost"] += (used[0] * per_input + used[1] * per_output) / 1_000_000
    for span in within(spans, values["window"], "upstream", usage__customer__id=values["customer"]):
        row, price = of(span), prices.providers.get(fact(span, "usage.provider"))
        row["calls"] += 1
        row["unpriced"] += price is None
        row["call_cost"] += price or Decimal()
    for row in rows.values():
        row["cost"] = row["model_cost"] + row["call_cost"]
    return sorted(rows.values(), key=lambda row: (-row["cost"], row["customer"]))


def plans(spans: list[ReceivedSpan], values: Mapping[str, Any]) -> list[Row]:
    found = within(received(spans, values), values["window"], "request", usage__customer__id=values["customer"])
    sure = [span for span in found if fact(span, "usage.identity.provenance") != "unverified"]
    counted = Counter((fact(span, "usage.customer.id"), fact(span, "usage.plan")) for span in sure)
    rows = [
        {
            "customer": name,
            "plan": plan,
            "requests": count,
            "allowed": values["plans"][plan],
            "used_percent": 100 * count / values["plans"][plan],
        }
        for (name, plan), count in counted.items()
        if name and plan in values["plans"]
    ]
    return sorted(rows, key=lambda row: (-round(row["used_percent"], 2), row["customer"], row["plan"]))


def movers(spans: list[ReceivedSpan], values: Mapping[str, Any]) -> list[Row]:
    week, window = timedelta(days=7), values["week_window"]
    spans = received(spans, values)
    whole = within(spans, week + window, "request")
    recent = Counter(fact(span, "usage.customer.id") for span in within(spans, window, "request"))
    young = {span.span_id for span in within(spans, week, "request")}
    before = Counter(fact(span, "usage.customer.id") for span in whole if span.span_id not in young)
    rows = [
        {
            "customer": name,
            "requests": recent[name],
            "week_before": before[name],
            "change": recent[name] - before[name],
        }
        for name in {*recent, *before} - {""}
    ]
    return sorted(rows, key=lambda row: (-abs(row["change"]), row["customer"]))


def rejections(spans: list[ReceivedSpan], values: Mapping[str, Any]) -> list[Row]:
    found = within(spans, values["window"], "request", usage__customer__id=values["customer"])
    refused = [s for s in found if fact(s, "usage.reason") and fact(s, "usage.reason") not in SUCCESS_REASONS]
    groups = grouped(refused, lambda span: (fact(span, "usage.reason"),))
    return [
        {
            "reason": reason,
            "requests": len(group),
            "customers": len({fact(span, "usage.customer.id") for span in group} - {""}),
        }
        for (reason,), group in sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    ]


ANSWERS: Final[Mapping[str, Callable[[list[ReceivedSpan], Mapping[str, Any]], list[Row]]]] = {
    "abuse": abuse,
    "cache-tiers": cache_tiers,
    "caches": caches,
    "costs": costs,
    "customers": customers,
    "health": health,
    "latency": latency,
    "movers": movers,
    "plans": plans,
    "rejections": rejections,
    "story": story,
    "tiers": tiers,
    "tokens": tokens,
    "upstreams": upstreams,
}
