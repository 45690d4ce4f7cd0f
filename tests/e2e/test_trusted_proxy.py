"""Where a request came from is read from a declared proxy's headers, over real sockets, and from nobody else's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import a2wsgi
import asgiref.wsgi
import pytest
from werkzeug.middleware.proxy_fix import ProxyFix

import otel_usage as usage
from otel_usage.testing import AxiomStub
from tests.outside import facts, outside, the_request
from tests.servers import serve_asgi, serve_wsgi

PLACE: Final = ("geo.country.iso_code", "geo.region.iso_code", "geo.locality.name", "usage.execution.plane")
NOWHERE: Final = (None,) * 4
FORGED: Final = {
    "x-forwarded-for": "203.0.113.7",
    "x-real-ip": "203.0.113.7",
    "x-request-id": "forged-id",
    "x-geo-country": "DE",
    "x-geo-region": "DE-BE",
    "x-geo-city": "Berlin",
    "cf-connecting-ip": "203.0.113.7",
    "cf-ipcountry": "DE",
    "cf-region-code": "BE",
    "cf-ipcity": "Berlin",
    "cf-ray": "8f14e45fceea167a-FRA",
    "x-vercel-ip-country": "DE",
    "x-vercel-ip-country-region": "BE",
    "x-vercel-ip-city": "Berlin",
    "x-vercel-id": "fra1::iad1::abc",
    "x-vercel-forwarded-for": "203.0.113.7",
    "fly-client-ip": "203.0.113.7",
    "fly-request-id": "forged",
    "x-amzn-trace-id": "Root=1-67891233-abcdef012345678912345678",
}
SECRET: Final = "a-secret-that-the-proxy-adds"


async def hello(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def hello_wsgi(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return [b""]


def _uvicorn(app: Any = None, **settings: Any) -> Any:
    return serve_asgi(app or usage.UsageMiddleware(hello), **{"lifespan": "off", **settings})


def _waitress(app: Any, **settings: Any) -> Any:
    return serve_wsgi(app, **{"clear_untrusted_proxy_headers": False, **settings})


WSGI: Final = usage.UsageWSGIMiddleware(hello_wsgi)
ALL: Final = {"forwarded_allow_ips": "*"}
SERVERS: Final[dict[str, Callable[[], Any]]] = {
    "uvicorn": _uvicorn,
    "uvicorn, which believes all": lambda: _uvicorn(**ALL),
    "uvicorn, which believes none": lambda: _uvicorn(proxy_headers=False),
    "uvicorn's own bridge": lambda: _uvicorn(WSGI, interface="wsgi", **ALL),
    "a2wsgi": lambda: _uvicorn(a2wsgi.WSGIMiddleware(WSGI), **ALL),
    "asgiref": lambda: _uvicorn(asgiref.wsgi.WsgiToAsgi(WSGI), **ALL),
    "waitress": lambda: _waitress(WSGI),
    "waitress, which believes all": lambda: _waitress(
        WSGI, trusted_proxy="*", trusted_proxy_headers={"x-forwarded-for"}, trusted_proxy_count=9
    ),
    "ProxyFix": lambda: _waitress(ProxyFix(WSGI)),
    "ProxyFix, twice": lambda: _waitress(ProxyFix(ProxyFix(WSGI))),
}
"""Servers and what stands between them and the application. Some of them take the client's word for who calls."""


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize(
    "declared", [None, "10.0.0.0/8", "cloudflare", "fly", "aws-alb", f"vercel,header:x-p={SECRET}"]
)
def test_what_no_declared_proxy_vouches_for_is_not_believed(
    switch_on: Callable[..., None], stub: AxiomStub, server: str, declared: str | None
) -> None:
    """Also where the client says that it is an address of the proxy, to a server that believes it."""
    switch_on(trusted_proxy=declared, personal=frozenset({"client.address"}))
    with SERVERS[server]() as url:
        outside(url, "/", **{**FORGED, "x-forwarded-for": "203.0.113.7, 10.1.2.3", "x-p": SECRET[:-1]})
    span = the_request(stub)
    assert facts(span, *PLACE, "cloud.region") == (*NOWHERE, None)
    assert span.attributes["usage.request.id"] not in FORGED.values()
    assert span.attributes.get("client.address") == ("127.0.0.1" if declared is None else None)


@pytest.mark.parametrize("server", SERVERS)
def test_a_declared_proxy_is_believed(switch_on: Callable[..., None], stub: AxiomStub, server: str) -> None:
    switch_on(trusted_proxy="127.0.0.1,10.0.0.0/8", personal=frozenset({"client.address"}))
    with SERVERS[server]() as url:
        sent = {**FORGED, "x-forwarded-for": "6.6.6.6, 203.0.113.7, 10.1.2.3", "x-request-id": "from-the-proxy"}
        outside(url, "/", **sent)
    span = the_request(stub)
    assert facts(span, *PLACE) == ("DE", "DE-BE", "Berlin", None)
    assert facts(span, "client.address", "usage.request.id", "usage.client.request_id") == (
        "203.0.113.7",
        "from-the-proxy",
        None,
    )


@pytest.mark.parametrize("server", ["uvicorn's own bridge", "a2wsgi", "waitress"])
def test_a_header_written_with_underscores_is_not_the_proxys(
    switch_on: Callable[..., None], stub: AxiomStub, server: str
) -> None:
    """In an environ, both have one name."""
    switch_on(trusted_proxy="127.0.0.1", personal=frozenset({"client.address"}))
    forged = {"X_Forwarded_For": "203.0.113.7", "X_Geo_Country": "DE"}
    with SERVERS[server]() as url:
        outside(url, "/", **{"x-forwarded-for": "6.6.6.6, 198.51.100.9", **forged})
    assert facts(the_request(stub), "client.address", "geo.country.iso_code") == ("198.51.100.9", None)


def test_a_proof_vouches_whatever_the_address(switch_on: Callable[..., None], stub: AxiomStub) -> None:
    switch_on(trusted_proxy=f"cloudflare,header:x-proof={SECRET}")
    with _uvicorn() as url:
        outside(url, "/", **{**FORGED, "x-proof": SECRET})
    span = the_request(stub)
    assert facts(span, *PLACE) == ("DE", "DE-BE", "Berlin", "cloudflare")
    assert span.attributes["usage.request.id"] == FORGED["cf-ray"]
    assert SECRET not in str(span)


def test_vercel_is_believed_where_it_is_declared(switch_on: Callable[..., None], stub: AxiomStub) -> None:
    switch_on(trusted_proxy="vercel", personal=frozenset({"client.address"}))
    with _uvicorn() as url:
        outside(url, "/", **FORGED)
    span = the_request(stub)
    assert facts(span, *PLACE, "cloud.region") == ("DE", "DE-BE", "Berlin", "vercel", "iad1")
    assert facts(span, "client.address", "usage.request.id") == ("203.0.113.7", "fra1::iad1::abc")


def test_what_the_client_calls_its_request_stays_beside_the_proxys_id(
    switch_on: Callable[..., None], stub: AxiomStub
) -> None:
    switch_on(trusted_proxy="vercel")
    with _uvicorn() as url:
        outside(url, "/", **FORGED)
    assert facts(the_request(stub), "usage.request.id", "usage.client.request_id") == ("fra1::iad1::abc", "forged-id")


def test_spans_within_the_request_have_the_proxys_id_too(switch_on: Callable[..., None], stub: AxiomStub) -> None:
    switch_on(trusted_proxy="127.0.0.1")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        with usage.usage_span("work"):
            await hello(scope, receive, send)

    with serve_asgi(usage.UsageMiddleware(app), lifespan="off") as url:
        outside(url, "/", **{"x-request-id": "from-the-proxy"})
    the_request(stub)
    assert {span.attributes["usage.request.id"] for span in stub.unique_spans} == {"from-the-proxy"}
