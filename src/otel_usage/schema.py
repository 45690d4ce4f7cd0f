"""The one source of every attribute that may leave the process.

The allowlist, the command ``otel-usage schema``, the local store's columns and the tests are all read from
:data:`ATTRIBUTES`. Keys follow the OpenTelemetry semantic conventions of :data:`SCHEMA_URL` where a convention has the
meaning we need; everything else lives under ``usage.``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Final

from .forms import (
    ADDRESS,
    CLOUD_REGION,
    COUNTRY,
    ERROR_TYPE,
    HEADER,
    HOST,
    IDENTIFIER,
    KEYED_HASH,
    OTHER,
    REFERER,
    REGION,
    SEGMENT,
    TEMPLATE,
    TRACE_ID,
    WORD,
    printable,
)

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.37.0"
"""The semantic conventions that the keys follow. Pinned: Axiom maps the columns of exactly this version."""

DEFAULT_CAP: Final = 256
"""Longest string value, in characters, of an attribute that names no cap of its own."""


NAMES: Final = 1000
"""Different values of an attribute that names a thing of the service's own: its routes, hosts, providers."""


class RecordKind(StrEnum):
    """What a usage span stands for: the value of ``usage.kind``."""

    REQUEST = "request"
    """One inbound request, or one WebSocket connection. Span kind SERVER."""
    UPSTREAM = "upstream"
    """One attempt of one call to another service. Span kind CLIENT."""
    LLM = "llm"
    """One attempt of one model call. Span kind CLIENT."""
    CUSTOM = "custom"
    """A unit of work that the application names itself. Span kind INTERNAL."""


class UsageEvent(StrEnum):
    """The span events of a usage span. Any other event is dropped."""

    CACHE = "usage.cache"
    """A lookup in a cache that answered without an upstream call."""
    LIMIT = "usage.limit"
    """A decision of a rate limiter or quota."""
    METER = "usage.meter"
    """A billable quantity."""


class ValueType(StrEnum):
    """The OTLP type of an attribute's value. Arrays and maps are not allowed on usage spans."""

    STRING = "string"
    INT = "int"
    DOUBLE = "double"
    BOOLEAN = "boolean"


class Sensitivity(StrEnum):
    """How much a value says about a person."""

    NONE = "none"
    """A fact about the service."""
    PSEUDONYMOUS = "pseudonymous"
    """Identifies an account or a key, not a person by name."""
    PERSONAL = "personal"
    """Personal data: recorded only where ``USAGE_PERSONAL`` names the key."""


RESOURCE: Final = "resource"
"""The place of an attribute that describes the service itself and not a span."""


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute of the schema."""

    key: str
    type: ValueType
    on: frozenset[str]
    """Where it may stand: values of :class:`RecordKind` and :class:`UsageEvent`, and :data:`RESOURCE`."""
    doc: str
    example: str | int | float | bool
    sensitivity: Sensitivity = Sensitivity.NONE
    cap: int = DEFAULT_CAP
    """Longest string value in characters. A longer value does not leave. Meaningless for other types."""
    distinct: int = 0
    """How many different values one process records at most; later ones become ``_OTHER``. 0: as many as there are."""
    values: tuple[str, ...] = ()
    """The values that are known beforehand. There are no others, unless there is a :attr:`form`, which those that
    applications add have to have."""
    former_keys: tuple[str, ...] = ()
    """Keys that older semantic conventions used for the same fact, in order of preference."""
    form: re.Pattern[str] | None = None
    """What the whole of a string value matches, unless it has become ``_OTHER`` for want of room (:attr:`distinct`).
    None: it is one of :attr:`values`; where there are none, one line of text."""
    _fits: Callable[[str], object] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_fits", self._check())

    @property
    def closed(self) -> bool:
        """Whether there are no other values than :attr:`values`."""
        return bool(self.values) and self.form is None

    @property
    def conventional(self) -> bool:
        """Whether the key is one of the semantic conventions, which Axiom stores as a column of its own."""
        return not self.key.startswith("usage.")

    def accept(self, value: object) -> str | int | float | bool | None:
        """The value as it may leave. None: its type is wrong, it is longer than :attr:`cap`, it does not have the
        :attr:`form`, it is none of the :attr:`values` where those are all, or OTLP cannot carry it.

        A bool is never taken for a number. An int is taken for a double.
        """
        # One function of plain comparisons: it sees every attribute that is not remembered, on the worker.
        if type(value) is str:
            return value if self.type is ValueType.STRING and len(value) <= self.cap and self._fits(value) else None
        if type(value) is int:
            if not _INT64_MIN <= value <= _INT64_MAX or self.type not in _NUMBERS:
                return None
            return value if self.type is ValueType.INT else float(value)
        if type(value) is float:
            return value if self.type is ValueType.DOUBLE else None
        if type(value) is bool:
            return value if self.type is ValueType.BOOLEAN else None
        return self.accept(value.value) if isinstance(value, StrEnum) else None

    def of_type(self, value: object) -> str | int | float | bool | None:
        """The value if its type is right, in any form: what has arrived was let out by the rules of its sender, and may
        have been redacted since. None: it is not.
        """
        if type(value) is str:
            return value if self.type is ValueType.STRING else None
        return self.accept(value)

    def _check(self) -> Callable[[str], object]:
        if self.closed:
            return frozenset(self.values).__contains__
        if self.form is None:
            return printable
        # Of few different values, the answers are remembered: a look-up costs a quarter of a match.
        return lru_cache(self.distinct)(self.form.fullmatch) if self.distinct else self.form.fullmatch


_NUMBERS: Final = (ValueType.INT, ValueType.DOUBLE)
_INT64_MIN, _INT64_MAX = -(1 << 63), (1 << 63) - 1

AUTH_KINDS: Final = ("jwt", "user_api_key", "enterprise_api_key", "widget_key", "mcp_oauth", "internal", "anon")
"""How a caller was authenticated. Applications register more with ``UsageConfig.auth_kinds``."""

PROVENANCES: Final = ("unavailable", "unverified", "verified")
"""How sure the identity is, from least to most."""

CACHE_TIERS: Final = (
    "fast", "medium", "slow", "slow-browser", "live", "live-browser", "static", "daily", "no-store",
)  # fmt: skip
"""How long a response may be cached, as a class."""

CACHE_STATUSES: Final = ("miss", "fresh", "stale-while-revalidate", "neg-sentinel")
"""What a cache said: nothing stored, a fresh value, a stale value while a new one is fetched, a stored failure."""

CACHE_ANSWERS: Final = CACHE_STATUSES[1:]
"""Those with which a cache answers in the place of whom it stands in front of."""

ORIGIN_KINDS: Final = ("api-key", "oauth", "browser-same-origin", "browser-cross-origin", "mcp", "internal-cron")
"""What kind of client a request came from, by its verified credential. ``oauth`` is only what an application says."""

LIMIT_DECISIONS: Final = ("allow", "deny", "shadow")
"""What a limiter decided; ``shadow``: it would have denied, and only watches."""

REASONS: Final = (
    "ok", "preflight", "not_modified", "origin_403", "auth_401", "auth_403", "tier_403", "rate_limit_429",
    "rate_limit_429_endpoint", "rate_limit_429_global", "rate_limit_degraded", "unknown_route", "not_found",
    "method_not_allowed", "malformed_request", "payload_too_large", "cors_error", "idempotency_invalid",
    "idempotent_replay", "idempotency_conflict", "idempotency_mismatch", "client_error", "client_aborted",
    "auth_unavailable", "validation_unavailable", "billing_unavailable", "server_error", "unhandled_exception",
)  # fmt: skip
"""Why a request ended as it did. Applications register more with ``UsageConfig.reasons``."""

HTTP_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE", "QUERY")
"""The methods recorded by name; any other is ``_OTHER`` (semantic conventions, ``http.request.method``)."""

_S, _I, _D, _B = ValueType.STRING, ValueType.INT, ValueType.DOUBLE, ValueType.BOOLEAN
_REQUEST, _UPSTREAM, _LLM, _CUSTOM = (frozenset({kind.value}) for kind in RecordKind)
_CACHE, _LIMIT, _METER = (frozenset({event.value}) for event in UsageEvent)
_HTTP = _REQUEST | _UPSTREAM
_CHILDREN = _UPSTREAM | _LLM | _CUSTOM
_ALL = _REQUEST | _CHILDREN
_SERVICE = frozenset({RESOURCE})
_PSEUDONYMOUS, _PERSONAL = Sensitivity.PSEUDONYMOUS, Sensitivity.PERSONAL

ATTRIBUTES: Final[tuple[Attribute, ...]] = (
    Attribute("usage.kind", _S, _ALL, "What the span stands for.", "request", values=tuple(RecordKind)),
    # Who
    Attribute("usage.customer.id", _S, _ALL, "The account that is billed: the organisation, else the user.",
              "acme", _PSEUDONYMOUS),
    Attribute("usage.principal.id", _S, _ALL, "The credential that was used, as a keyed hash: `key id:digest`.",
              "k1:3f2a9c7711aa00ff3f2a9c7711aa00ff", _PSEUDONYMOUS, form=KEYED_HASH),
    Attribute("usage.auth.kind", _S, _ALL, "How the caller was authenticated.", "user_api_key", values=AUTH_KINDS,
              distinct=NAMES, form=WORD),
    Attribute("usage.tier", _I, _ALL, "The customer's tier. 0 is anonymous or free; absent when it is not known.", 2),
    Attribute("usage.plan", _S, _ALL, "The customer's plan.", "api_pro"),
    Attribute("usage.identity.provenance", _S, _ALL, "How sure the identity is.", "verified", values=PROVENANCES),
    # What
    Attribute("usage.request.id", _S, _ALL, "The request's id: from a declared proxy, else that of its span.",
              "8f14e45fceea167a", cap=128, form=IDENTIFIER),
    Attribute("usage.client.request_id", _S, _REQUEST, "The `x-request-id` that the client sent. Never trusted.",
              "order-17-retry-2", cap=128, form=IDENTIFIER),
    Attribute("http.route", _S, _REQUEST, "The route's template. Never the raw path.", "/v1/items/{id}",
              distinct=NAMES, form=TEMPLATE),
    Attribute("usage.route", _S, _CHILDREN, "The template of the inbound request's route.", "/v1/items/{id}",
              distinct=NAMES, form=TEMPLATE),
    Attribute("usage.domain", _S, _REQUEST, "The route's first segment after `api` and a version.", "items", cap=64,
              distinct=NAMES, form=SEGMENT),
    Attribute("http.request.method", _S, _HTTP, "The request's method, `_OTHER` if it is not a known one.", "GET",
              cap=16, values=(*HTTP_METHODS, OTHER), former_keys=("http.method",)),
    Attribute("server.address", _S, _HTTP, "The host that was called, without its port.", "api.example.com",
              former_keys=("net.peer.name", "net.host.name", "http.server_name", "http.host"), distinct=NAMES,
              form=HOST),
    # How it was served
    Attribute("http.response.status_code", _I, _HTTP, "The response's status code. Absent when there was none.", 200,
              former_keys=("http.status_code",)),
    Attribute("usage.reason", _S, _REQUEST | _LLM, "Why it ended as it did.", "ok", values=REASONS, form=WORD,
              distinct=NAMES),
    Attribute("error.type", _S, _HTTP | _CUSTOM, "The exception's class, or the status code of a failed response.",
              "httpx.ConnectTimeout", distinct=NAMES, form=ERROR_TYPE),
    Attribute("http.request.body.size", _I, _HTTP, "Bytes of the request's body that were read or sent, counted.", 512),
    Attribute("http.response.body.size", _I, _HTTP, "Bytes of the response's body that were sent or read, counted.",
              20480),
    Attribute("usage.time_to_first_byte", _D, _HTTP, "Seconds until the response started.", 0.012),
    Attribute("usage.aborted", _B, _HTTP, "True when the exchange was cut off before its end. Absent otherwise.", True),
    Attribute("usage.cache.tier", _S, _REQUEST, "How long the response may be cached, as a class.", "fast",
              values=CACHE_TIERS),
    Attribute("usage.origin.kind", _S, _REQUEST,
              "What kind of client it came from, by its verified credential. Absent where none was verified.",
              "api-key", values=ORIGIN_KINDS),
    # What it cost upstream
    Attribute("usage.upstream.count", _I, _REQUEST, "Upstream attempts made for the request.", 3),
    Attribute("usage.upstream.duration", _D, _REQUEST, "Seconds spent in those attempts, added up.", 0.41),
    Attribute("usage.upstream.response.size", _I, _REQUEST, "Bytes that those attempts answered, added up.", 40960),
    Attribute("usage.provider", _S, _UPSTREAM | _CACHE, "Who was called.", "yahoo-finance", distinct=NAMES),
    Attribute("usage.operation", _S, _UPSTREAM | _CACHE | _REQUEST,
              "What was asked of them. On a request: the name of its one GraphQL operation, as the client gave it, if "
              "that is a name of GraphQL's of 64 characters at most. Absent where it has none.", "quote",
              distinct=NAMES),
    Attribute("usage.cache.status", _S, _UPSTREAM | _CACHE, "What the cache in front of the call said.", "miss",
              values=CACHE_STATUSES),
    Attribute("http.request.resend_count", _I, _UPSTREAM, "How many times this call had been sent before. Absent: 0.",
              1),
    # Model calls
    Attribute("gen_ai.provider.name", _S, _LLM, "Who runs the model.", "openai", former_keys=("gen_ai.system",),
              distinct=NAMES),
    Attribute("gen_ai.request.model", _S, _LLM, "The model that was asked for.", "gpt-5", distinct=NAMES),
    Attribute("gen_ai.usage.input_tokens", _I, _LLM, "Tokens of the prompt.", 812,
              former_keys=("gen_ai.usage.prompt_tokens",)),
    Attribute("gen_ai.usage.output_tokens", _I, _LLM, "Tokens of the completion.", 90,
              former_keys=("gen_ai.usage.completion_tokens",)),
    Attribute("gen_ai.request.max_tokens", _I, _LLM, "The limit of tokens that was set.", 1024),
    Attribute("usage.llm.stage", _S, _LLM, "The step of the application that asked.", "brief", distinct=NAMES),
    Attribute("usage.llm.fallback_index", _I, _LLM, "Which attempt it was in the chain of fallbacks. Starts at 0.", 0),
    Attribute("usage.llm.prompt_chars", _I, _LLM, "Characters of the prompt.", 3120),
    # Work that the application names
    Attribute("usage.quantity", _D, _CUSTOM | _METER, "How much was done.", 3.0),
    Attribute("usage.unit", _S, _CUSTOM | _METER, "What the quantity counts.", "page", cap=64, distinct=NAMES),
    Attribute("usage.meter.name", _S, _METER, "What was metered.", "pages", cap=64, distinct=NAMES),
    Attribute("usage.limit.name", _S, _LIMIT, "The limiter.", "per_minute", cap=64, distinct=NAMES),
    Attribute("usage.limit.decision", _S, _LIMIT, "What it decided.", "shadow", values=LIMIT_DECISIONS),
    # Where from: only from a declared proxy
    Attribute("geo.country.iso_code", _S, _REQUEST, "The client's country (ISO 3166-1).", "DE", cap=2, form=COUNTRY),
    Attribute("geo.region.iso_code", _S, _REQUEST, "The client's region (ISO 3166-2).", "DE-BE", cap=6, form=REGION),
    Attribute("geo.locality.name", _S, _REQUEST, "The client's city.", "Berlin", cap=64),
    Attribute("cloud.region", _S, _REQUEST | _SERVICE, "Where the request was handled.", "fra1", cap=64,
              form=CLOUD_REGION),
    Attribute("usage.execution.plane", _S, _REQUEST, "The platform whose proxy it came through.", "vercel", cap=64,
              form=WORD),
    Attribute("usage.user_agent.hash", _S, _REQUEST, "The user agent as a keyed hash. Only with `USAGE_UA_PEPPER`.",
              "k1:77aa00ff3f2a9c1177aa00ff3f2a9c11", _PSEUDONYMOUS, cap=128, form=KEYED_HASH),
    Attribute("usage.sentry.trace_id", _S, _REQUEST, "The trace id of the `sentry-trace` header.",
              "771a43a4192642f0b136d5159a501700", cap=32, form=TRACE_ID),
    Attribute("client.address", _S, _REQUEST, "The client's address.", "203.0.113.7", _PERSONAL, 64, form=ADDRESS),
    Attribute("user_agent.original", _S, _REQUEST, "The user agent, cut to 512 characters.", "curl/8.7.1",
              _PERSONAL, 512, form=HEADER),
    Attribute("usage.referer", _S, _REQUEST, "The referer without query and fragment, cut to 512 characters.",
              "https://example.com/docs", _PERSONAL, 512, form=REFERER),
    Attribute("usage.accept_language", _S, _REQUEST, "The `Accept-Language` header, cut to 512 characters.", "de-DE",
              _PERSONAL, 512, form=HEADER),
    # The service
    Attribute("service.name", _S, _SERVICE, "The service.", "gateway"),
    Attribute("service.namespace", _S, _SERVICE, "The group that the service belongs to.", "shop"),
    Attribute("service.version", _S, _SERVICE, "The service's version.", "2026.11.2"),
    Attribute("service.instance.id", _S, _SERVICE, "The instance of the service.", "pod-7"),
    Attribute("deployment.environment.name", _S, _SERVICE, "The environment.", "production",
              former_keys=("deployment.environment",)),
    Attribute("cloud.provider", _S, _SERVICE, "The cloud provider.", "aws", cap=64),
    Attribute("telemetry.sdk.name", _S, _SERVICE, "The SDK.", "opentelemetry"),
    Attribute("telemetry.sdk.language", _S, _SERVICE, "The SDK's language.", "python"),
    Attribute("telemetry.sdk.version", _S, _SERVICE, "The SDK's version.", "1.45.1"),
)  # fmt: skip
"""Every attribute that may leave, in the order in which the field reference shows them."""

BY_KEY: Final[Mapping[str, Attribute]] = {attribute.key: attribute for attribute in ATTRIBUTES}
"""The same, by key."""

PERSONAL_KEYS: Final = frozenset(a.key for a in ATTRIBUTES if a.sensitivity is Sensitivity.PERSONAL)
"""The keys that are recorded only where ``USAGE_PERSONAL`` names them."""


def allowed_on(place: str) -> Mapping[str, Attribute]:
    """The attributes that may stand on ``place``: a record kind, an event's name or :data:`RESOURCE`.

    Empty for a place that the schema does not know.
    """
    return _BY_PLACE.get(place, {})


_BY_PLACE: Final[Mapping[str, Mapping[str, Attribute]]] = {
    place: {attribute.key: attribute for attribute in ATTRIBUTES if place in attribute.on}
    for place in (*RecordKind, *UsageEvent, RESOURCE)
}

CURRENT_KEY: Final[Mapping[str, str]] = {
    former: attribute.key for attribute in ATTRIBUTES for former in attribute.former_keys
}
"""Former key to current key, for spans that other instrumentations made."""
