"""What spans have in common: the facts that come again from request to request, and the attributes they amount to.

A span is recorded as such facts and as what is its own (ids, times, sizes). The facts are plain values, hashable and
equal where they amount to the same; so what they amount to is worked out, checked against the schema, redacted and
encoded once, and remembered for the spans that come after. All of it is pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from .allowlist import span_name
from .config import UsageConfig
from .request_facts import cache_tier_of, domain_of, host_of, method_of, origin_kind, reason_of
from .schema import BY_KEY, RecordKind

Attributes = dict[str, Any]


class Meaning(NamedTuple):
    """What facts amount to."""

    name: str
    """The span's name."""
    attributes: Attributes
    """As the schema names them, and not yet checked against it. None: not known."""
    failed: bool
    """Whether the span's status is an error."""


class RequestFacts(NamedTuple):
    """One inbound request."""

    method: str
    """As it is recorded, see :func:`~otel_usage.request_facts.method_of`."""
    template: str | None
    """The route's template with those of the mounts around it. None: no route has matched."""
    found: bool
    """Whether a route, or what is mounted, has matched."""
    preflight: bool
    status: int | None
    """None: no response has been started."""
    complete: bool
    """Whether the response's last byte was sent."""
    client_gone: bool
    error: str | None
    """The class of what the application raised."""
    interrupted: bool
    """Whether that was a cancellation, or another sign of the end, and not an error."""
    said: str | None
    """The application's own reason."""
    host: str | None
    """The ``Host`` header."""
    origin: str | None
    """The ``Origin`` header."""
    cache_control: str | None
    """The response's ``Cache-Control`` header."""
    place: tuple[tuple[str, str], ...]
    """Attributes from a declared proxy: where from, and where it ran."""
    annotations: tuple[tuple[str, str], ...]
    """Attributes that the application has put in the place of derived ones."""

    @property
    def kind(self) -> RecordKind:
        """What such a span stands for."""
        return RecordKind.REQUEST

    def meaning(self, config: UsageConfig, credential: str | None) -> Meaning:
        """``credential``: the kind of credential that was verified. None: none was."""
        status, template = self.status, self.template
        accepted = BY_KEY["http.route"].accept(template)  # a name is made of what may leave as an attribute
        attributes: Attributes = {
            "http.route": template,
            "usage.domain": domain_of(template),
            "http.request.method": self.method,
            "server.address": host_of(self.host),
            "http.response.status_code": status,
            "usage.reason": self._reason(),
            "error.type": self.error or (str(status) if (status or 0) >= 500 else None),
            "usage.aborted": None if self.complete else True,
            "usage.origin.kind": origin_kind(credential, self.origin, self.host),
            "usage.cache.tier": self._cache_tier(config),
            **dict(self.place),
            **dict(self.annotations),
        }
        return Meaning(
            f"{self.method} {accepted}" if accepted else self.method,
            attributes,
            not self._served and not self._abandoned,
        )

    @property
    def _abandoned(self) -> bool:
        """Whether the client left before the response's last byte."""
        return self.client_gone and not self.complete

    @property
    def _served(self) -> bool:
        """Whether there was a whole answer that is not a server's failure."""
        return self.complete and self.status is not None and self.status < 500

    def _reason(self) -> str:
        """The application's reason, unless it says ``ok`` of a failure; else the one that the outcome amounts to."""
        derived = self._derived_reason()
        return derived if self.said is None or (self.said == "ok" and derived != "ok") else self.said

    def _derived_reason(self) -> str:
        if self._abandoned:
            return "client_aborted"
        if self.error is not None and not self._served:  # an error in the work after a response is not the response's
            # Cancelled, and not because the client had left: the server did it, as it does when it has to stop.
            return "server_error" if self.interrupted else "unhandled_exception"
        status = self.status if self.complete else None  # the status of an answer that was cut off says little
        return reason_of(status=status, method=self.method, has_route=self.found, is_preflight=self.preflight)

    def _cache_tier(self, config: UsageConfig) -> str | None:
        if self.method != "GET" or self.status not in (200, 304):
            return None
        return cache_tier_of(self.cache_control, config.cache_bands)


class UpstreamFacts(NamedTuple):
    """One attempt of one call to another service."""

    method: str | None
    """None: it is not HTTP, or no hook has seen it."""
    host: str | None
    provider: str | None
    """None: the host, or what the configuration names for it."""
    operation: str | None
    cache_status: str | None
    status: int | None
    """None: there was no response."""
    complete: bool
    """Whether the response's last byte was read."""
    error: str | None
    """The class of what the attempt, or the reading of its answer, raised."""
    resend_count: int
    route: str | None
    """The template of the route of the request that it was made for."""

    @property
    def kind(self) -> RecordKind:
        """As for :class:`RequestFacts`."""
        return RecordKind.UPSTREAM

    def meaning(self, config: UsageConfig, credential: str | None) -> Meaning:
        """As for :class:`RequestFacts`."""
        status = self.status
        bad_status = status is not None and status >= 400
        provider = self.provider or provider_of(self.host or "unknown", config.providers)
        attributes: Attributes = {
            "usage.route": self.route,
            "usage.provider": provider,
            "usage.operation": self.operation,
            "usage.cache.status": self.cache_status,
            "http.request.method": method_of(self.method) if self.method is not None else None,
            "server.address": self.host,
            "http.response.status_code": status,
            "error.type": self.error or (str(status) if bad_status else None),
            "http.request.resend_count": self.resend_count or None,
            "usage.aborted": None if self.complete or self.status is None else True,
        }
        name = span_name(self.kind.value, provider, self.operation)
        return Meaning(name, attributes, bad_status or self.error is not None)


class ModelFacts(NamedTuple):
    """One attempt of one model call."""

    provider: str | None
    model: str | None
    stage: str | None
    reason: str | None
    route: str | None
    """As in :class:`UpstreamFacts`."""

    @property
    def kind(self) -> RecordKind:
        """As for :class:`RequestFacts`."""
        return RecordKind.LLM

    def meaning(self, config: UsageConfig, credential: str | None) -> Meaning:
        """As for :class:`RequestFacts`."""
        attributes: Attributes = {
            "usage.route": self.route,
            "gen_ai.provider.name": self.provider,
            "gen_ai.request.model": self.model,
            "usage.llm.stage": self.stage,
            "usage.reason": self.reason,
        }
        return Meaning(span_name(self.kind.value, self.provider, self.model), attributes, self.reason != "ok")


class WorkFacts(NamedTuple):
    """Work that the application names."""

    name: str
    failed: bool
    route: str | None
    """As in :class:`UpstreamFacts`."""

    @property
    def kind(self) -> RecordKind:
        """As for :class:`RequestFacts`."""
        return RecordKind.CUSTOM

    def meaning(self, config: UsageConfig, credential: str | None) -> Meaning:
        """As for :class:`RequestFacts`."""
        return Meaning(self.name, {"usage.route": self.route}, self.failed)


Facts = RequestFacts | UpstreamFacts | ModelFacts | WorkFacts
"""They have different lengths: facts of two kinds are never equal."""


def provider_of(host: str, providers: Mapping[str, str]) -> str:
    """The provider that ``USAGE_PROVIDERS`` names for a host, else the host itself."""
    if not providers:
        return host
    exact = providers.get(host)
    if exact is not None:
        return exact
    suffixes = (host[index + 1 :] for index, character in enumerate(host) if character == ".")
    return next((providers[f"*.{suffix}"] for suffix in suffixes if f"*.{suffix}" in providers), host)


def plain(text: object) -> str | None:
    """``text`` as plain text, also where it was the member of an enum. None: it is none.

    What is not plain may be equal to what is, and must not be remembered in its place.
    """
    if text is None or type(text) is str:
        return text
    return str.__str__(text) if isinstance(text, str) else None
