"""A customer is taken from baggage that a service of ours has signed, and no other; the application never sees it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import fastapi
import flask
import httpx
import pytest
import requests
from opentelemetry import baggage, context, propagate
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from opentelemetry.sdk.trace import TracerProvider

import otel_usage as usage
from otel_usage.attribution import LIFETIME, SKEW, AttributionSigner
from otel_usage.baggage import MEMBERS, UsageBaggage
from otel_usage.hosts import HostPatterns
from otel_usage.identity import UsageIdentity
from otel_usage.ledger import DropCounter
from otel_usage.testing import AxiomStub
from tests.outside import Outside, facts, outside, requests_of, the_request
from tests.servers import serve_asgi, serve_wsgi

SECRET: Final = "0123456789abcdef0123456789abcdef"
HERE: Final = "pricing.internal"
CALLER: Final = bytes.fromhex("0af7651916cd43dd8448eb211c80319c"), bytes.fromhex("b7ad6b7169203331")
WHO: Final = ("usage.customer.id", "usage.tier", "usage.plan", "usage.auth.kind", "usage.identity.provenance")
NOBODY: Final = (None, None, None, None, "unavailable")


def header(
    *, own: str = "", host: str = HERE, secret: str = SECRET, key_id: str = "k1", now: float | None = None, **who: Any
) -> str:
    """A ``baggage`` header as another service of ours writes it."""
    clock = time.time if now is None else lambda: now
    hosts = HostPatterns("X", [host])
    writer = UsageBaggage(AttributionSigner({key_id: secret}, hosts, clock), hosts, DropCounter())
    identity = {
        "customer_id": "acme",
        "tier": 2,
        "plan": "api_pro",
        "auth_kind": "jwt",
        "provenance": "verified",
        **who,
    }
    return ",".join(filter(None, writer.outgoing(own, host, 80, UsageIdentity(**identity), CALLER)))


class Seen:
    """What an application could see of the customer: its headers, and the ambient baggage."""

    def __init__(self) -> None:
        self.headers: list[str] = []
        self.ambient: dict[str, object] = {}

    def look(self, headers: list[str]) -> None:
        self.headers = headers
        self.ambient = dict(baggage.get_all())

    def __str__(self) -> str:
        return f"{self.headers} {self.ambient}"


@contextmanager
def served(kind: str, seen: Seen, handler: Callable[[], object] = lambda: None) -> Iterator[str]:
    """An application of a framework, or of none, that remembers what it can see."""
    if kind == "wsgi":

        def wsgi(environ: Any, start_response: Any) -> list[bytes]:
            seen.look([environ["HTTP_BAGGAGE"]] if "HTTP_BAGGAGE" in environ else [])
            handler()
            start_response("200 OK", [])
            return [b""]

        with serve_wsgi(usage.UsageWSGIMiddleware(wsgi)) as url:
            yield url
    elif kind == "flask":
        desk = flask.Flask("desk")

        @desk.get("/")
        def index() -> str:
            seen.look(flask.request.headers.getlist("baggage"))
            handler()
            return ""

        with serve_wsgi(desk) as url:
            yield url
    elif kind == "fastapi":
        shop = fastapi.FastAPI()

        @shop.get("/")
        def root(request: fastapi.Request) -> None:
            seen.look(request.headers.getlist("baggage"))
            handler()

        with serve_asgi(shop) as url:
            yield url
    else:

        async def asgi(scope: Any, receive: Any, send: Any) -> None:
            seen.look([value.decode("latin-1") for name, value in scope["headers"] if name == b"baggage"])
            handler()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        with serve_asgi(usage.UsageMiddleware(asgi), lifespan="off") as url:
            yield url


KINDS: Final = ("asgi", "wsgi", "fastapi", "flask")


@pytest.fixture
def pricing(switch_on: Callable[..., None]) -> None:
    """Usage, switched on for a service that is called as ``pricing.internal``."""
    switch_on(baggage_key=f"k1:{SECRET}", baggage_audience={HERE})


@pytest.mark.parametrize("kind", KINDS)
def test_the_customer_of_a_calling_service_is_the_customer_here(pricing: None, stub: AxiomStub, kind: str) -> None:
    with served(kind, Seen()) as url:
        outside(url, "/", baggage=header())
    span = the_request(stub)
    assert facts(span, *WHO) == ("acme", 2, "api_pro", "jwt", "verified")
    assert (bytes.fromhex(span.trace_id), bytes.fromhex(span.parent_span_id)) == CALLER


@pytest.mark.parametrize("kind", KINDS)
def test_the_application_sees_its_own_baggage_and_not_ours(pricing: None, stub: AxiomStub, kind: str) -> None:
    seen = Seen()
    with served(kind, seen) as url:
        outside(url, "/", baggage=header(own="team=blue;x=1"))
    assert seen.headers == ["team=blue;x=1"]
    assert the_request(stub).attributes["usage.customer.id"] == "acme"


def forged() -> dict[str, tuple[str, str]]:
    good, now = header(), time.time()
    token = good.rpartition("=")[2]
    return {
        "no signature": ("usage.customer.id=acme,usage.tier=2", "forged"),
        "an empty signature": ("usage.customer.id=acme,usage.signature=", "forged"),
        "a signature that is a word": ("usage.customer.id=acme,usage.signature=trust-me", "forged"),
        "the signature of another key": (header(secret="f" * 32), "forged"),
        "an unknown key": (header(key_id="k9"), "unknown_key"),
        "expired": (header(now=now - LIFETIME - SKEW - 5), "expired"),
        "from the future": (header(now=now + 3600), "expired"),
        "meant for another service": (header(host="billing.internal"), "other_audience"),
        "another customer beside it": (good.replace("=acme", "=globex"), "forged"),
        "another tier beside it": (good.replace("tier=2", "tier=3"), "forged"),
        "a second customer": (f"usage.customer.id=globex,{good}", "forged"),
        "two signatures": (f"{good},usage.signature={token}", "forged"),
        "cut off": (good[:-3], "forged"),
        "in capitals": (good.upper(), "unknown_key"),
        "disguised": ("%75sage.customer.id=acme, USAGE.TIER = 2", "forged"),
        "far away": (f"{'%20+' * 40}usage.customer.id%09=acme", "forged"),
        "NULs and Latin": ("usage.customer.id=a\x80\xff,usage.signature=\xe9", "forged"),
    }


@pytest.mark.parametrize("kind", ["asgi", "wsgi"])
@pytest.mark.parametrize("attack", forged())
def test_what_no_service_of_ours_has_signed_is_nobodys(pricing: None, stub: AxiomStub, kind: str, attack: str) -> None:
    sent, refusal = forged()[attack]
    seen = Seen()
    with served(kind, seen) as url, httpx.Client(transport=Outside()) as client:
        client.get(url, headers=[(b"baggage", sent.encode("latin-1"))])
    assert usage.health().attributes_dropped == {f"baggage:{refusal}": 1}
    assert usage.health().internal_errors == {}
    assert not any(member in str(seen).lower() for member in MEMBERS)
    span = the_request(stub)
    assert facts(span, *WHO) == NOBODY
    assert span.parent_span_id is None


def test_several_lines_are_one_header(pricing: None, stub: AxiomStub) -> None:
    members = header().split(",")
    seen = Seen()
    with served("asgi", seen) as url, httpx.Client(transport=Outside()) as client:
        client.get(url, headers=[("baggage", "team=blue"), *(("baggage", member) for member in members)])
    assert [value.strip() for value in seen.headers] == ["team=blue"]
    assert the_request(stub).attributes["usage.customer.id"] == "acme"


@pytest.mark.parametrize("kind", ["asgi", "wsgi"])
def test_baggage_of_others_that_fills_the_header_takes_nobodys_usage_away(
    pricing: None, stub: AxiomStub, kind: str
) -> None:
    own = ",".join([*(f"a{number}=1" for number in range(300)), "b=" + "x" * 9000])
    seen = Seen()
    with served(kind, seen) as url:
        outside(url, "/", baggage=header(own=own))
    assert seen.headers == [own]
    assert the_request(stub).attributes["usage.customer.id"] == "acme"


def test_a_service_that_names_no_audience_believes_nothing(switch_on: Callable[..., None], stub: AxiomStub) -> None:
    switch_on(baggage_key=f"k1:{SECRET}", baggage_hosts={"127.0.0.1"})
    with served("asgi", Seen()) as url:
        outside(url, "/", baggage=header(host="127.0.0.1"))
    assert facts(the_request(stub), *WHO) == NOBODY


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_key_what_came_goes_no_further_all_the_same(usage_on: None, stub: AxiomStub, kind: str) -> None:
    seen = Seen()
    with served(kind, seen) as url:
        outside(url, "/", baggage=header(own="team=blue"))
    assert seen.headers == ["team=blue"]
    assert facts(the_request(stub), *WHO) == NOBODY


@pytest.mark.parametrize("outer", [False, True], ids=["inside", "outside"])
def test_no_propagator_passes_it_on_to_a_third_party(pricing: None, stub: AxiomStub, outer: bool) -> None:
    """The official server instrumentation extracts the baggage, and the official client instrumentation injects it."""
    third = Seen()

    def call() -> None:
        carrier: dict[str, str] = {}
        propagate.inject(carrier)
        carriers.append(carrier)
        requests.get(third_url, timeout=5)

    carriers: list[dict[str, str]] = []
    RequestsInstrumentor().instrument(tracer_provider=TracerProvider())
    shop = fastapi.FastAPI()
    shop.get("/")(call)
    app: Any = OpenTelemetryMiddleware(shop, tracer_provider=TracerProvider()) if outer else shop
    if not outer:
        FastAPIInstrumentor.instrument_app(shop, tracer_provider=TracerProvider())
    try:
        with (
            serve_asgi(third_party(third), ours=False, lifespan="off") as third_url,
            serve_asgi(app, lifespan="off") as url,
        ):
            outside(url, "/", baggage=header(own="team=blue"))
    finally:
        RequestsInstrumentor().uninstrument()
        if not outer:
            FastAPIInstrumentor.uninstrument_app(shop)
    assert third.headers == ["team=blue"]
    assert [carrier["baggage"] for carrier in carriers] == ["team=blue"]
    assert the_request(stub).attributes["usage.customer.id"] == "acme"


def test_no_propagator_passes_it_on_while_a_wsgi_response_is_closed(pricing: None, stub: AxiomStub) -> None:
    """The official WSGI instrumentation lets go of its context after that (`_end_span_after_iterating`)."""
    third = Seen()
    desk = flask.Flask("desk")

    @desk.get("/")
    def index() -> flask.Response:
        answer = flask.Response("ok")
        answer.call_on_close(lambda: requests.get(third_url, timeout=5))
        return answer

    def outer(environ: Any, start_response: Any) -> Iterator[bytes]:
        carrier = {"baggage": environ["HTTP_BAGGAGE"]}
        token = context.attach(propagate.extract(carrier))
        body = desk(environ, start_response)
        try:
            yield from body
        finally:
            body.close()
            context.detach(token)

    RequestsInstrumentor().instrument(tracer_provider=TracerProvider())
    try:
        with serve_asgi(third_party(third), ours=False, lifespan="off") as third_url, serve_wsgi(outer) as url:
            outside(url, "/", baggage=header(own="team=blue"))
            stub.wait_for(1)
    finally:
        RequestsInstrumentor().uninstrument()
    assert third.headers == ["team=blue"]
    assert the_request(stub).attributes["usage.customer.id"] == "acme"


def third_party(seen: Seen) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.look([value.decode() for name, value in scope["headers"] if name == b"baggage"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    return app


@pytest.mark.parametrize(
    ("said", "customer"),
    [
        ({"auth_kind": "anon"}, "acme"),
        ({"customer_id": "gateway", "auth_kind": "internal"}, "acme"),
        ({"customer_id": "globex", "auth_kind": "user_api_key"}, "globex"),
        ({"customer_id": "globex", "provenance": "unverified"}, "acme"),
    ],
)
def test_the_calling_service_does_not_take_its_customers_place(
    pricing: None, stub: AxiomStub, said: dict[str, Any], customer: str
) -> None:
    with served("asgi", Seen(), lambda: usage.identify(**said)) as url:
        outside(url, "/", baggage=header())
    assert the_request(stub).attributes["usage.customer.id"] == customer


@pytest.mark.parametrize("claimed", [{"provenance": "unverified"}, {"customer_id": None, "auth_kind": "anon"}])
def test_a_claim_that_a_service_passes_on_gives_way_to_what_is_verified_here(
    pricing: None, stub: AxiomStub, claimed: dict[str, Any]
) -> None:
    def internal() -> None:
        usage.identify(customer_id="globex", tier=1, auth_kind="internal")

    with served("asgi", Seen(), internal) as url:
        outside(url, "/", baggage=header(**claimed))
    assert facts(the_request(stub), *WHO) == ("globex", 1, None, "internal", "verified")


@pytest.mark.parametrize("kind", ["anon", "internal"])
def test_nor_does_it_where_a_resolver_says_who_calls(
    switch_on: Callable[..., None], stub: AxiomStub, kind: str
) -> None:
    gateway = UsageIdentity("gateway" if kind == "internal" else None, None, None, kind, None, "verified")
    switch_on(baggage_key=f"k1:{SECRET}", baggage_audience={HERE}, identity=lambda _: gateway)
    with served("asgi", Seen()) as url:
        outside(url, "/", baggage=header())
    assert facts(the_request(stub), *WHO) == ("acme", 2, "api_pro", "jwt", "verified")


@pytest.mark.parametrize("provenance", ["unverified", "unavailable"])
def test_an_identity_is_as_sure_as_it_was_where_it_came_from(pricing: None, stub: AxiomStub, provenance: str) -> None:
    with served("asgi", Seen()) as url:
        outside(url, "/", baggage=header(provenance=provenance))
    assert the_request(stub).attributes["usage.identity.provenance"] == provenance


def test_two_services_joined_by_a_trace(switch_on: Callable[..., None], stub: AxiomStub) -> None:
    """Both in this process: what goes between them goes over a socket all the same."""
    switch_on(baggage_key=f"k1:{SECRET}", baggage_hosts={"127.0.0.1"}, baggage_audience={"127.0.0.1"})
    with served("fastapi", Seen()) as inner:

        def handle() -> None:
            usage.identify(customer_id="acme", tier=2, auth_kind="user_api_key")
            with httpx.Client() as client:
                client.get(inner)

        with served("flask", Seen(), handle) as outer:
            outside(outer, "/")
    first, second = requests_of(stub, 2)
    (call,) = [span for span in stub.unique_spans if span.kind == "client"]
    assert first.trace_id == call.trace_id == second.trace_id
    assert (call.parent_span_id, second.parent_span_id) == (first.span_id, call.span_id)
    assert facts(second, "usage.customer.id", "usage.tier", "usage.auth.kind") == ("acme", 2, "user_api_key")
