"""Secrets, planted in every place that an application or the environment can write to, are in no byte that arrives."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

import otel_usage as usage
from otel_usage.exporters import redacting
from otel_usage.exporters.encoder import Encoder
from otel_usage.exporters.otlp_http import OtlpHttpExporter
from otel_usage.exporters.redacting import Redactor
from otel_usage.local.messages import Request
from otel_usage.local.otlp import decompress
from otel_usage.local.receiver import Exchange, Receiver
from otel_usage.metrics import _attributes_dropped
from otel_usage.payload import EncodedPayload
from otel_usage.redaction import REDACTED
from otel_usage.schema import ATTRIBUTES, PERSONAL_KEYS, UsageEvent
from otel_usage.testing import AxiomStub
from tests.conftest import TOKEN
from tests.servers import serve_asgi

HEADERS = {"Authorization": f"Bearer {TOKEN}", "X-Axiom-Dataset": "api_usage"}
# Put together here, so that no scanner of this repository takes them for real ones.
SECRETS = {
    "stripe": "sk_" + "live_zq51H8xTestKeyTestKey",
    "jwt": "eyJ" + "hbGciOiJIUzI1NiJ9zq.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
    "bearer": "Bearer " + "zqabcdefgh12345678",
    "email": "zq.ann@example.com",
    "encoded email": "zq.ann%40example.com",
}
TRACES = b"zq"
"""Is within each of them, and nowhere else."""


@pytest.fixture(autouse=True)
def nothing_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redacting, "_told", set())


@pytest.fixture
def arrived(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The bodies that reach any sink of this process, without their compression."""
    bodies: list[bytes] = []
    handle = Receiver.handle

    def keep(receiver: Receiver, request: Request) -> Exchange:
        bodies.append(decompress(request.body or b"", request.header("Content-Encoding"), 1 << 24))
        return handle(receiver, request)

    monkeypatch.setattr(Receiver, "handle", keep)
    return bodies


def everywhere(secret: str) -> dict[str, Any]:
    """Attributes that hold the secret under every key of the schema, and as a key."""
    return {**{a.key: f"x {secret}" for a in ATTRIBUTES}, secret: 1, "exception.message": secret, "http.url": secret}


def hostile(secret: str, message: str) -> Exception:
    """An exception whose class and module are named by secrets, and whose message is another."""
    error: Exception = type(secret, (Exception,), {"__module__": SECRETS["stripe"]})(message)
    return error


def held(body: bytes) -> bool:
    return TRACES in body.lower()


@pytest.mark.parametrize("shape", SECRETS)
def test_what_an_application_says_by_hand(
    switch_on: Callable[..., None],
    stub: AxiomStub,
    arrived: list[bytes],
    shape: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    secret = SECRETS[shape]
    monkeypatch.setenv("OTEL_SERVICE_NAME", f"shop {secret}")
    # As OpenTelemetry reads it: keys and values that are percent-encoded.
    encoded = secret.replace("%", "%25").replace(" ", "%20")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", f"service.version={encoded},service.instance.id={encoded}")
    caplog.set_level(logging.DEBUG)
    switch_on(personal=PERSONAL_KEYS)
    with suppress(Exception), usage.usage_span(secret, unit=secret) as span:
        usage.identify(customer_id=secret, plan=secret, auth_kind=secret, principal=secret)
        usage.identify(**{secret: 1})
        span.set_attributes({**everywhere(secret), "usage.kind": "custom"})
        span.set_status(Status(StatusCode.ERROR, secret))
        span.add_link(SpanContext(1, 2, True, TraceFlags(1), TraceState([("v", "zq")])), {"x": secret})
        span.add_event(secret, {"x": secret})
        for event in UsageEvent:
            span.add_event(event, everywhere(secret))
        for _ in range(200):
            span.add_event(secret)
        usage.record_cache(secret, secret, status="fresh")
        usage.record_limit(secret, "deny")
        usage.meter(secret, 1, unit=secret)
        usage.record_llm(secret, secret, stage=secret)
        with usage.upstream(secret, secret):
            pass
        raise hostile(secret, secret)
    assert usage.flush(5.0).complete
    health = usage.health()
    assert len(stub.spans) == 3
    assert REDACTED.encode() in b"".join(arrived)
    assert not held(b"".join(arrived))
    assert not held(str(health).encode())
    assert not held(str([observation.attributes for observation in _attributes_dropped(health)]).encode())
    assert not held(caplog.text.encode())
    assert health.attributes_dropped["redacted:usage.customer.id"] == 3
    said = [record.getMessage() for record in caplog.records if "usage.customer.id" in record.getMessage()]
    assert len(said) == 1
    assert "USAGE_EMAIL_ADDRESSES=1" in said[0]


@pytest.mark.parametrize("shape", SECRETS)
def test_what_a_client_and_a_handler_say(
    switch_on: Callable[..., None],
    stub: AxiomStub,
    arrived: list[bytes],
    shape: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    secret = SECRETS[shape]
    app = FastAPI()

    @app.get(f"/v1/{secret}/{{item}}")
    def item(item: str) -> None:
        usage.annotate(domain=secret, route=f"/v1/{secret}")
        usage.reject(secret)
        raise hostile(secret, secret)

    # The application's own log has the exception, and nothing of it is ours.
    caplog.set_level(logging.DEBUG, "otel_usage")
    switch_on(personal=PERSONAL_KEYS)
    header = secret.replace(" ", "+")
    headers = {
        "x-request-id": header,
        "user-agent": secret,
        "referer": f"https://x.com/{header}",
        "accept-language": secret,
    }
    with serve_asgi(app) as url, httpx.Client(headers={**headers, "connection": "close"}) as client:
        client.get(f"{url}/v1/{secret}/{secret}?token={secret}")
        client.get(
            f"{url}/{secret}", headers={"host": f"{header.replace('+', '-').replace('%40', '-').replace('@', '-')}"}
        )
    assert usage.flush(5.0).complete
    stub.wait_for(2)
    body = b"".join(arrived)
    assert REDACTED.encode() in body
    hosts = {str(span.attributes.get("server.address", "")) for span in stub.spans}
    for host in hosts:  # a host of the client's own making, in which the secret was broken
        body = body.replace(host.encode(), b"")
    assert not held(body)
    assert not held(str(usage.health()).encode())


@pytest.mark.parametrize("shape", SECRETS)
def test_what_other_instrumentations_write(stub: AxiomStub, arrived: list[bytes], shape: str) -> None:
    secret = SECRETS[shape]
    provider = TracerProvider(resource=Resource(everywhere(secret), secret), shutdown_on_exit=False)
    delivery = usage.CircuitBreakingSpanProcessor(OtlpHttpExporter(stub.endpoint, HEADERS, 5.0))
    allowlist = usage.AllowlistSpanProcessor(delivery, personal=PERSONAL_KEYS)
    provider.add_span_processor(allowlist)
    tracer = provider.get_tracer(secret, secret, secret, {secret: secret})
    link = Link(SpanContext(1, 2, True, TraceFlags(1), TraceState([("v", "zq")])), everywhere(secret))
    with suppress(Exception), tracer.start_as_current_span(secret, kind=SpanKind.SERVER, links=[link]) as span:
        span.set_attributes({**everywhere(secret), "usage.kind": "request", "error.type": secret})
        for event in (secret, *UsageEvent):
            span.add_event(event, everywhere(secret))
        raise hostile(secret, secret)
    assert provider.force_flush(5000)
    provider.shutdown()
    assert len(stub.spans) == 1
    assert REDACTED.encode() in b"".join(arrived)
    assert not held(b"".join(arrived))
    assert not held(str(allowlist.drops.counts()).encode())


@pytest.mark.parametrize("shape", SECRETS)
def test_what_is_encoded_without_an_allowlist_before_it(shape: str) -> None:
    secret = SECRETS[shape]
    finished: list[ReadableSpan] = []
    provider = TracerProvider(resource=Resource(everywhere(secret), secret), shutdown_on_exit=False)
    tracer = provider.get_tracer(secret, secret, secret, {secret: secret})
    context = SpanContext(1, 2, True, TraceFlags(1), TraceState([("v", "zq")]))
    link = Link(context, {secret: secret})
    with suppress(Exception), tracer.start_as_current_span(secret, links=[link]) as span:
        span.set_attributes({**everywhere(secret), "many": [secret, secret]})
        span.add_event(secret, {secret: [secret]})
        finished.append(span)  # type: ignore[arg-type]  # an SDK span is one
        raise hostile(secret, secret)
    payload = Encoder(Redactor())(finished).payload
    provider.shutdown()
    assert isinstance(payload, EncodedPayload)
    assert payload.count == 1
    assert REDACTED.encode() in payload.request
    assert not held(payload.request)


def test_addresses_leave_where_they_are_allowed_and_secrets_do_not(
    switch_on: Callable[..., None], stub: AxiomStub, caplog: pytest.LogCaptureFixture
) -> None:
    switch_on(email_addresses=True)
    with usage.usage_span("work"):
        usage.identify(customer_id="ann@example.com", plan=SECRETS["stripe"])
    assert usage.flush(5.0).complete
    (span,) = stub.spans
    assert span.attributes["usage.customer.id"] == "ann@example.com"
    assert span.attributes["usage.plan"] == REDACTED
    assert "USAGE_EMAIL_ADDRESSES" not in caplog.text


def test_a_processor_of_ones_own_lets_addresses_out_by_a_keyword(stub: AxiomStub) -> None:
    for allowed, expected in ((True, "ann@example.com"), (False, REDACTED)):
        delivery = usage.CircuitBreakingSpanProcessor(
            OtlpHttpExporter(stub.endpoint, HEADERS, 5.0, Encoder(Redactor(email_addresses=True)))
        )
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(usage.AllowlistSpanProcessor(delivery, email_addresses=allowed))
        attributes = {"usage.customer.id": "ann@example.com"}
        provider.get_tracer("shop").start_span("GET", kind=SpanKind.SERVER, attributes=attributes).end()
        assert provider.force_flush(5000)
        provider.shutdown()
        assert stub.spans[-1].attributes["usage.customer.id"] == expected
