"""What is fuzzed: each target takes bytes, and fails where it raises or a promise does not hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from opentelemetry.baggage import get_all
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context

from otel_usage.attribution import AttributionSigner
from otel_usage.baggage import MEMBERS, Outgoing, UsageBaggage
from otel_usage.config import UsageConfig
from otel_usage.hosts import HostPatterns, canonical_host
from otel_usage.identity import UNKNOWN
from otel_usage.ledger import DropCounter
from otel_usage.local.otlp import OtlpError, parse_export
from otel_usage.redaction import REDACTED, redact
from otel_usage.request_facts import (
    cache_tier_of,
    domain_of,
    host_of,
    method_of,
    origin_kind,
    personal_facts,
    sentry_trace_id,
    trace_id_of,
)
from otel_usage.schema import BY_KEY, CACHE_TIERS, HTTP_METHODS, PERSONAL_KEYS
from otel_usage.trusted_proxy import ProxyFacts, TrustedProxy

Target = Callable[[bytes], None]

BANDS: Final = UsageConfig().cache_bands
HOSTS: Final = HostPatterns("X", ["pricing.internal", "*.svc.local:80", "10.0.0.7"])
BAGGAGE: Final = UsageBaggage(AttributionSigner({"k1": "0123456789abcdef"}, HOSTS), HOSTS, DropCounter())
PROPAGATOR: Final = W3CBaggagePropagator()
PROXIES: Final = tuple(
    proxy for text in ("10.0.0.0/8", "aws-alb", "fly,10.0.0.0/8", "cloudflare,10.0.0.0/8")
    if (proxy := TrustedProxy.parse(text)) is not None
)  # fmt: skip


def headers(data: bytes) -> None:
    """Each header that is read, by every rule that reads it."""
    text = data.decode("latin-1")
    facts = {
        "server.address": host_of(text),
        "usage.sentry.trace_id": sentry_trace_id(text),
        "usage.origin.kind": origin_kind("jwt", text, text),
    }
    for key, value in facts.items():
        assert value is None or BY_KEY[key].accept(value) == value, key
    assert len(domain_of(text) or "") <= BY_KEY["usage.domain"].cap  # of a template it is; the schema judges its form
    assert method_of(text) in (*HTTP_METHODS, "_OTHER")
    assert cache_tier_of(text, BANDS) in (None, *CACHE_TIERS)
    trace_id = trace_id_of(text)
    assert trace_id is None or (len(trace_id) == 16 and any(trace_id))
    found = personal_facts({"user-agent": text, "referer": text, "accept-language": text}, text, PERSONAL_KEYS)
    assert all(len(value) <= BY_KEY[key].cap for key, value in found.items() if key != "client.address")


def hosts(data: bytes) -> None:
    """The spelling of a host, which must be one: what is matched is what is connected to."""
    text = data.decode("utf-8", "surrogateescape")
    found = canonical_host(text)
    assert found is None or canonical_host(found) == found
    matched = HOSTS.match(text, 80)
    assert matched is None or text.lower().removesuffix(".") in matched or text.startswith("[")


def baggage(data: bytes) -> None:
    """A header that comes in: nobody is believed, nothing of ours stays in it, and it can be read again."""
    text = data.decode("latin-1")
    received = BAGGAGE.received(text)
    assert received is not None
    assert received.attribution is None
    again = BAGGAGE.received(received.remaining)
    assert again == received._replace(attribution=None)
    sent = BAGGAGE.outgoing(received.remaining, "evil.example", 80, UNKNOWN, None)  # type: ignore[arg-type]
    assert sent == Outgoing(received.remaining, "")
    others = get_all(PROPAGATOR.extract({"baggage": received.remaining}, Context()))
    assert not {name.lower() for name in others} & MEMBERS, "what OpenTelemetry reads of it is not ours"


def proxies(data: bytes) -> None:
    """A declared proxy's headers, from a peer that is it, and from one that is not."""
    text = data.decode("latin-1")
    for declared in PROXIES:
        sent = dict.fromkeys(declared.headers, text)
        assert declared.facts(sent, "198.51.100.7") == ProxyFacts()
        assert declared.facts(sent, text).client_address != text or canonical_host(text) is not None
        found = declared.facts(sent, "10.0.0.1")
        for key, value in found.attributes.items():
            assert BY_KEY[key].accept(value) == value, key
        assert found.request_id is None or BY_KEY["usage.request.id"].accept(found.request_id)
        assert found.client_address is None or canonical_host(found.client_address) is not None


def tokens(data: bytes) -> None:
    """A signature: none is made up."""
    assert isinstance(BAGGAGE._signer.verify("k1." + data.decode("latin-1")), str)


def exports(data: bytes) -> None:
    """A body that the local sink is sent, in each of its formats."""
    for content_type in ("application/x-protobuf", "application/json"):
        for encoding in ("", "gzip"):
            try:
                parse_export(data, content_type, encoding, max_bytes=100_000)
            except OtlpError:
                continue


def secrets(data: bytes) -> None:
    """A text that is redacted: twice is once."""
    text = data.decode("utf-8", "surrogateescape")
    once = redact(text)
    assert redact(once) == once
    assert once == text or REDACTED in once


TARGETS: Final[Mapping[str, Target]] = {
    target.__name__: target for target in (headers, hosts, baggage, proxies, tokens, exports, secrets)
}
