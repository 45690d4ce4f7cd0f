"""Whatever a client sends, usage is complete, bounded and correct: one span for each request that was served.

What a server refuses by itself never reaches the application, and is nobody's usage: the applications here count what
they serve, and the spans must be as many.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import otel_usage as usage
from otel_usage.distinct import OTHER, SHARE
from otel_usage.instrumentation.carrier import headers_of
from otel_usage.request_facts import headers_for
from otel_usage.schema import BY_KEY, NAMES
from otel_usage.testing import AxiomStub, ReceivedSpan
from tests.outside import facts, requests_of
from tests.servers import serve_asgi, serve_wsgi

UNSAMPLED: Final = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"


class Served:
    """What an application has served: method and path of each request."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str]] = []

    async def asgi(self, scope: Any, receive: Any, send: Any) -> None:
        self.requests.append((scope["method"], scope["path"]))
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    def wsgi(self, environ: Any, start_response: Any) -> list[bytes]:
        self.requests.append((environ["REQUEST_METHOD"], environ["PATH_INFO"]))
        environ["wsgi.input"].read()
        start_response("200 OK", [("content-length", "2")])
        return [b"ok"]


@contextmanager
def serving(kind: str, served: Served) -> Iterator[str]:
    """The application on a real server, whose own limits are out of the way."""
    if kind == "wsgi":
        with serve_wsgi(usage.UsageWSGIMiddleware(served.wsgi)) as url:
            yield url
    else:
        app = usage.UsageMiddleware(served.asgi)
        with serve_asgi(app, lifespan="off", http="h11", h11_max_incomplete_event_size=16 * 2**20) as url:
            yield url


def raw(url: str, *parts: bytes) -> bytes:
    """Send bytes as they are, and return what comes until the server closes, a second of silence at most."""
    host, _, port = url.removeprefix("http://").partition(":")
    answer = b""
    with closing(socket.create_connection((host, int(port)), 5)) as connection:
        connection.settimeout(1)
        try:
            for part in parts:
                connection.sendall(part)
            while chunk := connection.recv(65536):
                answer += chunk
        except (TimeoutError, ConnectionError):
            pass
    return answer


def get(*headers: bytes, method: bytes = b"GET", target: bytes = b"/", host: bytes = b"api.example") -> bytes:
    """The head of a request."""
    return b"\r\n".join(
        [method + b" " + target + b" HTTP/1.1", b"Host: " + host, *headers, b"Connection: close", b"", b""]
    )


def pipelined(url: str, requests: list[bytes]) -> None:
    """Send many requests on one connection, without waiting for answers."""
    *first, last = requests
    raw(url, b"".join(request.replace(b"Connection: close\r\n", b"") for request in first) + last)


def complete(stub: AxiomStub, served: Served) -> list[ReceivedSpan]:
    """The request spans: as many as the application has served, each within the schema."""
    spans = requests_of(stub, len(served.requests))
    for span in spans:
        for key, value in span.attributes.items():
            assert BY_KEY[key].accept(value) == value, key
        assert len(span.trace_id) == 32
        assert len(span.span_id) == 16
        assert span.trace_state == ""
    assert usage.health().internal_errors == {}
    return spans


@pytest.mark.parametrize("kind", ["asgi", "wsgi"])
def test_an_unsampled_traceparent_does_not_switch_metering_off(usage_on: None, stub: AxiomStub, kind: str) -> None:
    served = Served()
    with serving(kind, served) as url:
        raw(url, get(b"traceparent: " + UNSAMPLED.encode()))
    (span,) = complete(stub, served)
    assert span.trace_id == UNSAMPLED[3:35]


HUGE: Final = b"a" * 65_536
ODD: Final = {
    "huge": HUGE,
    "huge list": b",".join(b"k%d=v" % number for number in range(8000)),
    "empty": b"",
    "spaces": b"  \t ",
    "invalid UTF-8": b"\xff\xfe\x80\xc3\x28",
    "separators": b";;,,==,;=,",
    "zeros": b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-00",
    "capitals": UNSAMPLED.upper().encode(),
    "a version to come": b"cc-" + UNSAMPLED[3:].encode() + b"-what-the-future-will-be-like",
    "a version that cannot be": b"ff-" + UNSAMPLED[3:].encode(),
    "script": b"<script>alert(1)</script>",
    "format": b"%s%n{0}${jndi:ldap://x}",
}


@pytest.mark.parametrize(
    "header", ["traceparent", "tracestate", "baggage", "x-request-id", "sentry-trace", "origin", "user-agent"]
)
@pytest.mark.parametrize("kind", ["asgi", "wsgi"])
def test_headers_that_are_huge_or_broken_change_nothing(
    switch_on: Callable[..., None], stub: AxiomStub, kind: str, header: str
) -> None:
    switch_on(personal=frozenset({"user_agent.original"}), user_agent_pepper="k1:0123456789abcdef")
    served = Served()
    with serving(kind, served) as url:
        for value in ODD.values():
            raw(url, get(header.encode() + b": " + value))
    assert len(served.requests) == len(ODD), "no server has refused one"
    for span in complete(stub, served):
        assert facts(span, "http.response.status_code", "usage.reason", "http.response.body.size") == (200, "ok", 2)
        assert facts(span, "usage.customer.id", "usage.tier") == (None, None)


@pytest.mark.parametrize("kind", ["asgi", "wsgi"])
def test_ten_thousand_headers_and_one_of_64_kb_are_one_request(usage_on: None, stub: AxiomStub, kind: str) -> None:
    served = Served()
    with serving(kind, served) as url:
        raw(url, get(*(b"x-%d: y" % number for number in range(10_000))))
        raw(url, get(*(b"baggage: k%d=v" % number for number in range(5_000))))
        raw(url, get(b"cookie: " + HUGE))
    assert len(served.requests) == 3
    complete(stub, served)


@pytest.mark.parametrize("kind", ["asgi", "wsgi"])
def test_one_header_sent_twice_is_neither_of_the_two(usage_on: None, stub: AxiomStub, kind: str) -> None:
    served = Served()
    with serving(kind, served) as url:
        raw(url, get(b"x-request-id: a", b"x-request-id: b", b"traceparent: " + UNSAMPLED.encode(), b"traceparent: x"))
    (span,) = complete(stub, served)
    assert "usage.client.request_id" not in span.attributes
    assert span.trace_id != UNSAMPLED[3:35]


def test_very_many_lines_of_one_header_in_any_case_are_one_list() -> None:
    lines = [(b"baggage", b"a=1"), (b"Baggage", b"b=2")] * 20_000
    assert headers_of(lines, headers_for(frozenset(), agent=False)) == {"baggage": ", ".join(["a=1, b=2"] * 20_000)}


METHODS: Final = [b"GET", b"get", b"FOO", b"PROPFIND", b"X" * 5000, b"__proto__", b"_OTHER", b"QUERY"]


@pytest.mark.parametrize("kind", ["asgi", "wsgi"])
def test_made_up_methods_are_one_method(usage_on: None, stub: AxiomStub, kind: str) -> None:
    served = Served()
    with serving(kind, served) as url:
        for method in METHODS:
            raw(url, get(method=method))
    spans = complete(stub, served)
    assert len(spans) >= 6
    assert {span.attributes["http.request.method"] for span in spans} == {"GET", "QUERY", "_OTHER"}


SMUGGLED: Final = {
    "two lengths": get(b"Content-Length: 5", b"Content-Length: 6", method=b"POST")
    + b"helloGET /smuggled HTTP/1.1\r\n\r\n",
    "length and chunks": get(b"Content-Length: 4", b"Transfer-Encoding: chunked", method=b"POST")
    + b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n",
    "an odd coding": get(b"Transfer-Encoding: xchunked", b"Content-Length: 0", method=b"POST") + b"0\r\n\r\n",
    "a folded header": get(b"X-A: b\r\n Content-Length: 99", method=b"POST"),
    "a request in a body": get(b"Content-Length: 38", method=b"POST")
    + b"GET /smuggled HTTP/1.1\r\nHost: a.com\r\n\r\n",
    "a bare line feed": b"GET / HTTP/1.1\nHost: a\n\nGET /b HTTP/1.1\nHost: a\n\n",
    "an override": get(b"X-HTTP-Method-Override: DELETE", method=b"POST"),
    "NUL in a header": get(b"x-request-id: a\x00b"),
    "NUL in the path": get(target=b"/a\x00b"),
    "an encoded NUL": get(target=b"/%00%ff%fe%c3%28"),
    "an absolute target": get(target=b"http://evil.example/x?sk_live_0123456789abcdef"),
    "pipelined": get(target=b"/1").replace(b"Connection: close\r\n", b"") + get(target=b"/2"),
}


@pytest.mark.parametrize("attack", SMUGGLED)
@pytest.mark.parametrize("kind", ["asgi", "wsgi"])
def test_smuggled_requests_are_counted_as_the_application_sees_them(
    usage_on: None, stub: AxiomStub, kind: str, attack: str
) -> None:
    served = Served()
    with serving(kind, served) as url:
        raw(url, SMUGGLED[attack])
        raw(url, get(target=b"/the-next"))
    spans = complete(stub, served)
    known = {"GET", "POST"}
    assert [s.attributes["http.request.method"] for s in spans] == [
        method if method in known else "_OTHER" for method, _ in served.requests
    ]
    assert "sk_live" not in str(spans)


@pytest.mark.parametrize(("known", "most"), [(False, NAMES), (True, SHARE)], ids=["strangers", "one customer"])
def test_an_endless_stream_of_hosts_is_bounded_and_complete(
    switch_on: Callable[..., None], stub: AxiomStub, known: bool, most: int
) -> None:
    switch_on()
    served = Served()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if known:
            usage.identify(customer_id="acme", auth_kind="user_api_key")
        await served.asgi(scope, receive, send)

    with serve_asgi(usage.UsageMiddleware(app), lifespan="off") as url:
        pipelined(url, [get(host=b"h%d.example" % number) for number in range(NAMES + 50)])
    spans = complete(stub, served)
    hosts = {span.attributes["server.address"] for span in spans}
    assert len(spans) == NAMES + 50
    assert len(hosts) == most + 1
    assert OTHER in hosts
    assert {span.name for span in spans} == {"GET"}, "a host is no part of a name"


def test_an_endless_stream_of_routes_and_customers_is_bounded_and_complete(usage_on: None, stub: AxiomStub) -> None:
    """As where an application mistakes a path for a route, and believes what a header says."""
    served = Served()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        usage.annotate(route=scope["path"])
        usage.identify(customer_id=scope["path"], provenance="unverified")
        await served.asgi(scope, receive, send)

    with serve_asgi(usage.UsageMiddleware(app), lifespan="off") as url:
        pipelined(url, [get(target=b"/items/%d" % number) for number in range(NAMES + 50)])
    spans = complete(stub, served)
    assert len({span.attributes["http.route"] for span in spans}) == NAMES + 1
    assert len({span.name for span in spans}) == NAMES + 1
    assert all(span.attributes["usage.identity.provenance"] == "unverified" for span in spans)


_bytes: Final = st.binary(max_size=200)
_names: Final = st.sampled_from(
    [b"host", b"traceparent", b"tracestate", b"baggage", b"x-request-id", b"sentry-trace", b"origin", b"user-agent",
     b"referer", b"accept-language", b"x-forwarded-for", b"\xff", b"", b"HOST"]
)  # fmt: skip


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    method=st.text(max_size=20),
    headers=st.lists(st.tuples(_names, _bytes), max_size=30),
    client=st.none() | st.tuples(st.text(max_size=40), st.integers()),
)
def test_what_no_server_would_let_through_is_one_span_all_the_same(
    usage_on: None, stub: AxiomStub, method: str, headers: list[tuple[bytes, bytes]], client: Any
) -> None:
    served = Served()
    before = usage.health().ledger.produced
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": "/\0\udcff", "headers": headers, "client": client}
    asyncio.run(usage.UsageMiddleware(served.asgi)(scope, receive, send))
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert usage.health().ledger.produced == before + 1
    assert usage.health().internal_errors == {}
