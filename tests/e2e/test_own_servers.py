"""aiohttp.web and Sanic on servers of their own: what HTTP allows beside plain requests, with real sockets."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

import otel_usage as usage
from otel_usage import guard
from otel_usage.baggage import MEMBERS
from otel_usage.config import FlushMode
from otel_usage.identity import UsageIdentity
from otel_usage.testing import AxiomStub
from tests.apps import own_aiohttp, own_sanic
from tests.e2e.test_baggage_incoming import HERE, SECRET, header
from tests.outside import Outside, facts, outcome, outside, requests_of, the_request

SIZES: Final = "http.request.body.size", "http.response.body.size"
FILE: Final = 300_000

Serve = Callable[..., AbstractContextManager[str]]


@pytest.fixture(params=[own_aiohttp, own_sanic], ids=["aiohttp.web", "Sanic"])
def serve(request: pytest.FixtureRequest, tmp_path: Path) -> Serve:
    framework: ModuleType = request.param
    file = tmp_path / "file"
    file.write_bytes(b"f" * FILE)
    return lambda held=None: framework.serve(file, held or asyncio.Event())


@pytest.fixture(autouse=True)
def nothing_of_ours_fails() -> Iterator[None]:
    yield
    assert not guard.internal_errors()


@contextmanager
def raw(url: str) -> Iterator[socket.socket]:
    """A connection to a server, and nothing that would speak HTTP on it."""
    with socket.create_connection((urlsplit(url).hostname, urlsplit(url).port), 10) as client:
        yield client


def read(client: socket.socket, *, until: bytes) -> bytes:
    got = b""
    while until not in got:
        part = client.recv(65536)
        assert part, f"the server hung up after {got!r}"
        got += part
    return got


@contextmanager
def web_socket(url: str) -> Iterator[ClientConnection]:
    with connect(f"{url.replace('http', 'ws')}/ws", proxy=None) as client:
        yield client


def closed(client: ClientConnection) -> None:
    """Wait until the server has closed."""
    with pytest.raises(ConnectionClosed):
        client.recv(10)


def test_each_request_of_a_connection_is_one(usage_on: None, stub: AxiomStub, serve: Serve) -> None:
    with serve() as url:
        outside(url, "/hello", "/nowhere", "/hello")
    found = [facts(span, "http.route", "http.response.status_code", SIZES[1]) for span in requests_of(stub, 3)]
    assert found[0] == found[2] == ("/hello", 200, 5)
    assert found[1][:2] == (None, 404)


def test_so_is_each_of_several_that_are_sent_at_once(usage_on: None, stub: AxiomStub, serve: Serve) -> None:
    with serve() as url, raw(url) as client:
        client.sendall(
            b"POST /whole HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc"
            b"GET /hello HTTP/1.1\r\nhost: x\r\n\r\n"
            b"POST /whole HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\nconnection: close\r\n\r\nlast"
        )
        read(client, until=b"last")
    assert [facts(span, "http.route", *SIZES) for span in requests_of(stub, 3)] == [
        ("/whole", 3, 3),
        ("/hello", 0, 5),
        ("/whole", 4, 4),
    ]


def test_what_is_no_request_is_none(usage_on: None, stub: AxiomStub, serve: Serve) -> None:
    """A server of ASGI's or WSGI's would not show it to anybody, either."""
    with serve() as url:
        with raw(url) as client:
            client.sendall(b"GET / HTTP/9.9\r\nhost: x\r\n\r\n")
            assert b" 400 " in read(client, until=b"\r\n\r\n")
        outside(url, "/hello")
    assert facts(the_request(stub), "http.route") == ("/hello",)


def test_a_client_that_asks_before_it_sends(usage_on: None, stub: AxiomStub, serve: Serve) -> None:
    with serve() as url, raw(url) as client:
        client.sendall(b"POST /whole HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n")
        assert read(client, until=b"\r\n\r\n").startswith(b"HTTP/1.1 100")
        client.sendall(b"hello")
        read(client, until=b"hello")
    span = the_request(stub)
    assert outcome(span) == (200, "ok", None, None)
    assert facts(span, *SIZES) == (5, 5)


def test_a_body_counts_as_far_as_it_was_read(usage_on: None, stub: AxiomStub, serve: Serve) -> None:
    with serve() as url, raw(url) as client:
        client.sendall(b"POST /part HTTP/1.1\r\nhost: x\r\ncontent-length: 4000\r\n\r\n" + b"x" * 1000)
        assert b" 202 " in read(client, until=b"1000")
        client.sendall(b"x" * 3000)
    assert facts(the_request(stub), *SIZES) == (1000, 4)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_large(usage_on: None, stub: AxiomStub, serve: Serve, chunked: bool) -> None:
    content = iter([b"x" * 3000] * 2) if chunked else b"x" * 6000
    with serve() as url, httpx.Client(transport=Outside()) as client, suppress(httpx.TransportError):
        assert client.post(f"{url}/whole", content=content).status_code == 413
    span = the_request(stub)
    assert facts(span, "http.route", "http.response.status_code", "usage.reason", "error.type") == (
        "/whole", 413, "payload_too_large", None,
    )  # fmt: skip


def test_a_file(usage_on: None, stub: AxiomStub, serve: Serve) -> None:
    with serve() as url:
        (answer,) = outside(url, "/file")
    assert len(answer.content) == FILE
    assert facts(the_request(stub), "http.route", SIZES[1], "usage.aborted") == ("/file", FILE, None)


def test_a_client_that_leaves_has_its_handler_cancelled(usage_on: None, stub: AxiomStub, serve: Serve) -> None:
    with serve() as url:
        with raw(url) as client:
            client.sendall(b"GET /hang HTTP/1.1\r\nhost: x\r\n\r\n")
            time.sleep(0.2)  # the handler is at work by now
        span = the_request(stub)
    assert facts(span, "http.route") == ("/hang",)
    assert outcome(span)[:3] == (None, "client_aborted", True)


def test_how_usage_is_can_be_seen_in_development(switch_on: Callable[..., None], stub: AxiomStub, serve: Serve) -> None:
    switch_on(dev_header=True)
    with serve() as url:
        first, second = outside(url, "/hello", "/parts-of-nothing")
    assert first.headers["x-usage-telemetry"] == second.headers["x-usage-telemetry"] == "ok"
    assert first.headers["cache-control"] == "max-age=60"


@pytest.mark.parametrize(("path", "status"), [("/hello", 200), ("/file", 200), ("/nowhere", 404)])
def test_who_has_the_last_byte_finds_the_request_at_the_sink(
    switch_on: Callable[..., None], stub: AxiomStub, serve: Serve, path: str, status: int
) -> None:
    switch_on(flush=FlushMode.REQUEST, schedule_delay=3600.0)
    with serve() as url:
        (answer,) = outside(url, path)
        arrived = [span for span in stub.unique_spans if span.kind == "server"]
        if path == "/file":  # whose last byte the system sends
            arrived = [the_request(stub)]
    assert answer.status_code == status
    assert [facts(span, "http.response.status_code", SIZES[1]) for span in arrived] == [(status, len(answer.content))]


@pytest.mark.parametrize("own", ["", "tenant=7"])
def test_a_customer_of_our_own_service_whom_the_application_does_not_see(
    switch_on: Callable[..., None], stub: AxiomStub, serve: Serve, own: str
) -> None:
    switch_on(baggage_key=f"k1:{SECRET}", baggage_audience={HERE})
    with serve() as url:
        (answer,) = outside(url, "/baggage", baggage=header(own=own))
    assert answer.json() == ([own] if own else [])
    assert not any(member in answer.text for member in MEMBERS)
    assert facts(the_request(stub), "usage.customer.id", "usage.tier") == ("acme", 2)


def test_who_is_believed_is_told_by_the_connection(
    switch_on: Callable[..., None], stub: AxiomStub, serve: Serve
) -> None:
    switch_on(trusted_proxy="127.0.0.1", personal=frozenset({"client.address"}))
    with serve() as url:
        outside(url, "/hello", **{"x-forwarded-for": "6.6.6.6, 203.0.113.7", "x-geo-country": "DE"})
    assert facts(the_request(stub), "client.address", "geo.country.iso_code") == ("203.0.113.7", "DE")


def test_and_nobody_else(switch_on: Callable[..., None], stub: AxiomStub, serve: Serve) -> None:
    switch_on(trusted_proxy="10.0.0.0/8", personal=frozenset({"client.address"}))
    with serve() as url:
        outside(url, "/hello", **{"x-forwarded-for": "203.0.113.7", "x-geo-country": "DE"})
    assert facts(the_request(stub), "client.address", "geo.country.iso_code") == (None, None)


def test_a_resolver_is_asked_in_asgis_words_and_has_the_frameworks_request(
    switch_on: Callable[..., None], stub: AxiomStub, serve: Serve
) -> None:
    asked: list[dict[str, Any]] = []

    def resolver(scope: dict[str, Any]) -> UsageIdentity:
        asked.append(dict(scope))
        return UsageIdentity(dict(scope["headers"])[b"x-key"].decode(), 2, None, "jwt", None, "verified")

    switch_on(identity=resolver)
    with serve() as url:
        outside(url, "/hello?a=b", **{"X-Key": "acme"})
    assert facts(the_request(stub), "usage.customer.id") == ("acme",)
    (scope,) = asked
    assert (scope["method"], scope["path"], scope["query_string"]) == ("GET", "/hello", b"a=b")
    assert scope["request"].headers["x-key"] == "acme"


def test_a_header_that_is_no_text_hides_nothing(usage_on: None, stub: AxiomStub, serve: Serve) -> None:
    with serve() as url, raw(url) as client:
        client.sendall(b"GET /baggage HTTP/1.1\r\nhost: x\r\nx-a: \xff\xfe\r\nbaggage: usage.tier=9,a=\xff\r\n\r\n")
        got = read(client, until=b"]")
    assert b"usage.tier" not in got
    assert facts(the_request(stub), "http.route", "usage.tier") == ("/baggage", None)


def test_a_response_that_has_begun_goes_on_when_usage_is_switched_off(
    usage_on: None, stub: AxiomStub, serve: Serve
) -> None:
    held = asyncio.Event()
    with serve(held) as url, httpx.stream("GET", f"{url}/parts") as answer:
        parts = answer.iter_raw()
        assert next(parts) == b"one"
        usage.uninstrument()
        held.set()
        assert b"".join(parts) == b"two"
        assert outside(url, "/hello")[0].text == "hello"
    assert not [span for span in stub.unique_spans if span.kind == "server"]


def test_messages_of_a_web_socket(usage_on: None, stub: AxiomStub, serve: Serve) -> None:
    with serve() as url, web_socket(url) as client:
        for message in (b"one", b"x" * 2000):
            client.send(message)
            assert client.recv(10) == message
    span = the_request(stub)
    assert facts(span, "http.route", *SIZES) == ("/ws", 2003, 2003)
    assert outcome(span) == (101, "ok", None, None)


@pytest.mark.parametrize(("code", "reason"), [(1000, "ok"), (1008, "client_error"), (1011, "server_error")])
def test_a_web_socket_that_the_application_closes(
    usage_on: None, stub: AxiomStub, serve: Serve, code: int, reason: str
) -> None:
    with serve() as url, web_socket(url) as client:
        client.send(str(code))
        closed(client)
    assert outcome(the_request(stub))[:3] == (101, reason, None)


def test_a_web_socket_whose_handler_fails(usage_on: None, stub: AxiomStub, serve: Serve) -> None:
    with serve() as url, web_socket(url) as client:
        client.send("break")
        closed(client)
    assert outcome(the_request(stub)) == (101, "unhandled_exception", True, "RuntimeError")


def test_a_web_socket_that_is_lost(usage_on: None, stub: AxiomStub, serve: Serve) -> None:
    with serve() as url, web_socket(url) as client:
        client.send(b"one")
        client.recv(10)
        client.socket.shutdown(socket.SHUT_RDWR)
        span = the_request(stub)
    assert facts(span, *SIZES) == (3, 3)
    assert outcome(span)[:3] == (101, "client_aborted", True)
