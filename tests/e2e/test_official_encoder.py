"""``USAGE_OFFICIAL_ENCODER=1``: OpenTelemetry's own encoder writes every span, and the sink cannot tell."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

import otel_usage as usage
from otel_usage.status import EncoderHealth
from otel_usage.testing import AxiomStub
from tests.outside import outside
from tests.servers import serve_asgi

OF_ITS_RUN = ("server.address", "usage.request.id", "usage.time_to_first_byte", "usage.upstream.duration")
"""What differs from one run to another."""


async def item(request: Request) -> PlainTextResponse:
    usage.identify(customer_id="acme", tier=2, plan="pro", auth_kind="user_api_key", principal="a key")
    usage.meter("pages", 3, unit="page")
    usage.record_llm("openai", "gpt-5", input_tokens=812, output_tokens=1 << 40, reason="rate_limit_429")
    with usage.upstream("bank", "quote", cache_status="miss"), usage.usage_span("work", quantity=0.5) as span:
        span.set_attribute("nobody.knows", 1)
    return PlainTextResponse("ü" * 200, HTTPStatus.CREATED, {"Cache-Control": "s-maxage=60"})


async def broken(request: Request) -> PlainTextResponse:
    raise ValueError("not the client's business")


APP = Starlette(routes=[Route("/v1/items/{id}", item), Route("/broken", broken)])


def delivered(stub: AxiomStub, switch_on: Callable[..., None], **settings: Any) -> tuple[list[Any], usage.UsageHealth]:
    """What the sink has of one run."""
    switch_on(**settings)
    with serve_asgi(APP) as url:
        outside(url, "/v1/items/1", "/v1/items/2?token=secret", "/broken", "/nowhere")
    assert usage.flush(5.0).complete
    health, spans = usage.health(), stub.spans
    usage.uninstrument()
    stub.clear()
    told = [
        (
            span.name, span.kind, span.status_code, span.parent_span_id is None, len(span.links),
            {key: value for key, value in span.attributes.items() if key not in OF_ITS_RUN},
            set(span.attributes), span.resource_attributes, span.scope_name, span.scope_version, span.schema_url,
            [(event.name, event.attributes) for event in span.events],
        )
        for span in spans
    ]  # fmt: skip
    return sorted(told, key=repr), health


def test_the_official_encoder_can_be_had_and_delivers_the_same(stub: AxiomStub, switch_on: Callable[..., None]) -> None:
    ours, health = delivered(stub, switch_on)
    assert health.encoder is not None
    assert len(ours) == 10
    assert {attributes.get("http.response.status_code") for *_, attributes, _, _, _, _, _, _ in ours} >= {201, 404, 500}
    assert (health.encoder.written, health.encoder.official) == (8, 0), "but for the two that the application named"
    assert 0 < health.encoder.misses <= 9
    assert health.encoder.remembered == health.encoder.misses
    official, other_health = delivered(stub, switch_on, official_encoder=True)
    assert official == ours
    assert other_health.encoder == EncoderHealth(official=10)
    assert other_health.attributes_dropped == health.attributes_dropped == {"nobody.knows": 2}
    assert other_health.internal_errors == health.internal_errors == {}
