"""The customer travels to hosts that are named for it, and to nobody else, whatever injects headers."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import itertools
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any, Final

import aiohttp
import httpx
import httpx2
import pytest
import requests
import urllib3
from opentelemetry import baggage, context, propagate
from opentelemetry.instrumentation.aiohttp_client import AioHttpClientInstrumentor
from opentelemetry.instrumentation.httpx import HTTPX2ClientInstrumentor, HTTPXClientInstrumentor
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from opentelemetry.instrumentation.urllib3 import URLLib3Instrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

import otel_usage as usage
from otel_usage.attribution import AttributionSigner
from otel_usage.baggage import MEMBERS
from otel_usage.hosts import HostPatterns
from otel_usage.testing import AxiomStub
from tests.servers import serve_asgi

KEY: Final = "k1:0123456789abcdef0123456789abcdef"
CUSTOMER: Final = "acme-4711"

Get = Callable[[str], object]


class Mirror:
    """An ASGI application that remembers the headers of each call, and redirects ``/to?URL``."""

    def __init__(self) -> None:
        self.url = ""
        self.calls: list[list[tuple[str, str]]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.calls.append([(name.decode(), value.decode("latin-1")) for name, value in scope["headers"]])
        target = scope["query_string"]
        headers = [(b"location", target)] if target else []
        await send({"type": "http.response.start", "status": 307 if target else 200, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def baggage(self) -> list[str]:
        """The ``baggage`` headers of the one call."""
        (call,) = self.calls
        return [value for name, value in call if name == "baggage"]

    def members(self) -> dict[str, str]:
        """The members that are ours: the last line of the one call."""
        return dict(member.split("=", 1) for member in self.baggage()[-1].split(","))


@pytest.fixture(scope="module")
def mirrors() -> Iterator[tuple[Mirror, Mirror]]:
    with _mirror() as first, _mirror() as second:
        yield first, second


@pytest.fixture
def ours(mirrors: tuple[Mirror, Mirror]) -> Mirror:
    """A service of one's own."""
    mirrors[0].calls.clear()
    return mirrors[0]


@pytest.fixture
def theirs(mirrors: tuple[Mirror, Mirror]) -> Mirror:
    """A third party's."""
    mirrors[1].calls.clear()
    return mirrors[1]


@contextlib.contextmanager
def _mirror() -> Iterator[Mirror]:
    mirror = Mirror()
    with serve_asgi(mirror, lifespan="off") as url:
        mirror.url = url
        yield mirror


@pytest.fixture
def trusting(switch_on: Callable[..., None], ours: Mirror) -> None:
    """Usage, switched on with ``ours`` as the one host that customers may go to."""
    switch_on(baggage_key=KEY, baggage_hosts={f"127.0.0.1:{ours.port}"})


def for_the_customer(call: Callable[[], object], **identity: Any) -> None:
    """Make a call in a piece of work for the customer, with baggage of the application's own around."""
    token = context.attach(baggage.set_baggage("team", "blue"))
    try:
        with usage.usage_span("work"):
            usage.identify(**{"customer_id": CUSTOMER, "tier": 2, "plan": "api_pro", "auth_kind": "jwt", **identity})
            call()
    finally:
        context.detach(token)


def with_httpx(url: str) -> None:
    with httpx.Client() as client:
        client.get(url)


def with_async_httpx(url: str) -> None:
    async def get() -> None:
        async with httpx.AsyncClient() as client:
            await client.get(url)

    asyncio.run(get())


def with_httpx2(url: str) -> None:
    with httpx2.Client() as client:
        client.get(url)


def with_requests(url: str) -> None:
    with requests.Session() as session:
        session.get(url, timeout=5)


def with_urllib3(url: str) -> None:
    with urllib3.PoolManager() as pool:
        pool.request("GET", url, timeout=5)


def with_aiohttp(url: str) -> None:
    async def get() -> None:
        async with aiohttp.ClientSession() as session, session.get(url):
            pass

    asyncio.run(get())


HOOKED: Final = [with_httpx, with_async_httpx, with_httpx2, with_requests, with_urllib3]
CLIENTS: Final = [*HOOKED, with_aiohttp]
INSTRUMENTORS: Final = (
    HTTPXClientInstrumentor,
    HTTPX2ClientInstrumentor,
    RequestsInstrumentor,
    URLLib3Instrumentor,
    AioHttpClientInstrumentor,
)


@contextlib.contextmanager
def instrumented(*order: Callable[[], object]) -> Iterator[None]:
    """Every official instrumentation of a client, on. ``order``: what is done when, among them ours."""
    try:
        for step in order or INSTRUMENTORS:
            if step in INSTRUMENTORS:
                step().instrument(tracer_provider=TracerProvider())  # type: ignore[attr-defined]
            else:
                step()
        yield
    finally:
        for instrumentor in INSTRUMENTORS:
            instrumentor().uninstrument()


ORDERS: Final = [(at, direction) for at in range(len(INSTRUMENTORS) + 1) for direction in (1, -1)]
"""Where ours comes among theirs, and which way round they are."""


@pytest.fixture(params=ORDERS, ids=lambda order: f"ours-at-{order[0]}-{'reversed' if order[1] < 0 else 'forward'}")
def in_order(request: pytest.FixtureRequest, switch_on: Callable[..., None], ours: Mirror) -> Iterator[None]:
    """Usage and every official instrumentation of a client, switched on in one of the orders."""
    at, direction = request.param
    steps: list[Callable[[], object]] = list(INSTRUMENTORS[::direction])
    steps.insert(at, lambda: switch_on(baggage_key=KEY, baggage_hosts={f"127.0.0.1:{ours.port}"}))
    with instrumented(*steps):
        yield


@pytest.mark.parametrize("get", HOOKED)
def test_a_host_that_is_named_is_told_the_customer(trusting: None, ours: Mirror, get: Get) -> None:
    for_the_customer(lambda: get(ours.url))
    members = ours.members()
    assert members.pop("usage.signature").startswith("k1.")
    assert members == {"usage.customer.id": CUSTOMER, "usage.tier": "2", "usage.plan": "api_pro"}


@pytest.mark.parametrize("get", CLIENTS)
def test_every_other_host_is_told_nothing(trusting: None, ours: Mirror, theirs: Mirror, get: Get) -> None:
    for_the_customer(lambda: get(theirs.url))
    assert theirs.baggage() == []
    assert CUSTOMER not in str(theirs.calls)


def test_no_official_instrumentation_tells_another_host_in_any_order(in_order: None, theirs: Mirror) -> None:
    for get in CLIENTS:
        for_the_customer(lambda get=get: get(theirs.url))  # type: ignore[misc]
        assert theirs.baggage() == ["team=blue"], "the application's own baggage goes where it always went"
        assert CUSTOMER not in str(theirs.calls)
        theirs.calls.clear()


@pytest.mark.parametrize("get", HOOKED)
def test_the_customer_goes_beside_the_applications_own_baggage(in_order: None, ours: Mirror, get: Get) -> None:
    for_the_customer(lambda: get(ours.url))
    assert ours.members().keys() == MEMBERS
    assert ours.baggage()[:-1] == ["team=blue"]


def test_propagators_that_know_no_baggage_do_not_matter(trusting: None, ours: Mirror) -> None:
    usual = propagate.get_global_textmap()
    propagate.set_global_textmap(TraceContextTextMapPropagator())
    try:
        with instrumented():
            for_the_customer(lambda: with_httpx(ours.url))
    finally:
        propagate.set_global_textmap(usual)
    assert ours.members().keys() == MEMBERS


@pytest.mark.parametrize("hops", list(itertools.product([True, False], repeat=3)))
def test_each_redirect_is_judged_by_where_it_leads(
    trusting: None, ours: Mirror, theirs: Mirror, hops: list[bool]
) -> None:
    places = [ours if hop else theirs for hop in hops]
    url = places[-1].url + "/"
    for place in reversed(places[:-1]):
        url = f"{place.url}/?{url}"
    with httpx.Client(follow_redirects=True) as client:
        for_the_customer(lambda: client.get(url))
    assert len(ours.calls) == sum(hops)
    assert all(CUSTOMER in str(call) for call in ours.calls)
    assert len(theirs.calls) == len(hops) - sum(hops)
    assert "usage." not in str(theirs.calls)
    assert CUSTOMER not in str(theirs.calls)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_the_request_that_the_application_holds_never_shows_the_customer(
    trusting: None, ours: Mirror, asynchronous: bool
) -> None:
    held: list[httpx.Request] = []

    def get() -> None:
        with httpx.Client() as client:
            held.append(client.get(ours.url, headers={"baggage": "team=blue;x=1"}).request)

    async def get_async() -> None:
        async with httpx.AsyncClient() as client:
            held.append((await client.get(ours.url, headers={"baggage": "team=blue;x=1"})).request)

    for_the_customer(lambda: asyncio.run(get_async()) if asynchronous else get())
    assert ours.baggage()[:-1] == ["team=blue;x=1"]
    assert [value for name, value in held[0].headers.raw if name == b"baggage"] == [b"team=blue;x=1"]
    assert CUSTOMER not in str(held[0].headers.raw)


def _shared(url: str, headers: dict[str, str] | None = None) -> httpx.Request:
    """A request that several threads send. It has time limits: a client looks whether a request has them and then adds
    its own, which two threads do at the same time.
    """
    return httpx.Request("GET", url, headers=headers, extensions={"timeout": httpx.Timeout(5).as_dict()})


def test_the_same_request_sent_by_many_threads_at_once_never_shows_the_customer(trusting: None, ours: Mirror) -> None:
    request = _shared(ours.url, {"baggage": "team=blue"})
    with httpx.Client() as client:

        def send() -> None:
            for_the_customer(lambda: [client.send(request) for _ in range(10)])

        threads = [threading.Thread(target=send) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert [member for call in ours.calls for member in _told(call)] == [f"usage.customer.id={CUSTOMER}"] * 80
    assert [value for name, value in request.headers.raw if name == b"baggage"] == [b"team=blue"]


def test_each_sender_of_one_request_tells_its_own_customer(trusting: None, ours: Mirror) -> None:
    request = _shared(ours.url)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # so that the threads come between each other's steps
    try:
        with httpx.Client() as client, ThreadPoolExecutor(4) as pool:

            def send(customer: str) -> None:
                for_the_customer(lambda: client.get(ours.url, headers={"x-mine": customer}), customer_id=customer)
                for_the_customer(lambda: client.send(request, stream=False), customer_id=customer)

            list(pool.map(send, [f"c{number % 4}" for number in range(100)]))
    finally:
        sys.setswitchinterval(interval)
    assert "baggage" not in request.headers
    own = [(dict(call)["x-mine"], _told(call)) for call in ours.calls if "x-mine" in dict(call)]
    assert len(own) == 100
    assert all(told == [f"usage.customer.id={customer}"] for customer, told in own)
    assert Counter(told for call in ours.calls for told in _told(call)) == {
        f"usage.customer.id=c{number}": 50 for number in range(4)
    }


def _told(call: list[tuple[str, str]]) -> list[str]:
    lines = [value for name, value in call if name == "baggage"]
    return [member for line in lines for member in line.split(",") if member.startswith("usage.customer.id=")]


def test_a_coroutine_that_is_closed_elsewhere_leaves_no_customer_behind(trusting: None, ours: Mirror) -> None:
    class Stalls(httpx.AsyncHTTPTransport):
        pass

    async def never(*_: Any) -> Any:
        await asyncio.Event().wait()

    request = httpx.Request("GET", ours.url)
    transport = Stalls()
    transport._pool.handle_async_request = never  # type: ignore[method-assign]

    async def abandon() -> None:
        coroutine = transport.handle_async_request(request)
        with usage.usage_span("work"):
            usage.identify(customer_id=CUSTOMER)
            coroutine.send(None)
        contextvars.Context().run(coroutine.close)

    asyncio.run(abandon())
    assert "baggage" not in request.headers
    assert usage.health().internal_errors == {}


def test_a_connection_that_fails_leaves_the_request_as_it_was(switch_on: Callable[..., None]) -> None:
    switch_on(baggage_key=KEY, baggage_hosts={"127.0.0.1"})
    request = httpx.Request("GET", "http://127.0.0.1:1/")
    with httpx.Client() as client, contextlib.suppress(httpx.ConnectError):
        for_the_customer(lambda: client.send(request))
    assert "baggage" not in request.headers


def test_members_of_ours_that_the_application_has_copied_go_nowhere(trusting: None, theirs: Mirror) -> None:
    stolen = f"team=blue,usage.customer.id={CUSTOMER},%75sage.tier=2, Usage.Signature =k1.x;y"
    with httpx.Client() as client:
        for_the_customer(lambda: client.get(theirs.url, headers={"baggage": stolen}))
    assert theirs.baggage() == ["team=blue"]


@pytest.mark.parametrize("name", ["baggage", "BagGage"])
@pytest.mark.parametrize("library", [httpx, httpx2])
def test_members_of_ours_go_nowhere_also_where_no_host_may_be_told(
    switch_on: Callable[..., None], theirs: Mirror, library: ModuleType, name: str
) -> None:
    switch_on()
    with library.Client() as client:
        client.get(theirs.url, headers=[(name, f"usage.customer.id={CUSTOMER},team=blue"), (name, "usage.tier=2")])
    assert theirs.baggage() == ["team=blue"]


@pytest.mark.parametrize(
    "own", ["team=blue;p=1 ,  x=%20%zz,,=,nonsense", "a=1", "\xff\xfe=\x80"], ids=["odd", "plain", "latin"]
)
def test_baggage_of_the_applications_own_arrives_byte_for_byte(trusting: None, theirs: Mirror, own: str) -> None:
    with httpx.Client() as client:
        for_the_customer(lambda: client.get(theirs.url, headers=[(b"Baggage", own.encode("latin-1"))]))
    assert theirs.baggage() == [own]


CROWDS: Final = {"bytes": "a=" + "x" * 8000, "members": ",".join(f"k{number}=v" for number in range(300))}


@pytest.mark.parametrize("crowd", CROWDS)
def test_the_customer_and_the_applications_own_baggage_take_no_room_from_each_other(
    trusting: None, ours: Mirror, crowd: str
) -> None:
    """What the application sends may be what a client has sent to it, and as much as that liked."""
    with httpx.Client() as client:
        for_the_customer(lambda: client.get(ours.url, headers={"baggage": CROWDS[crowd]}))
    assert ours.baggage()[:-1] == [CROWDS[crowd]]
    assert ours.members().keys() == MEMBERS


@pytest.mark.parametrize("customer", ["\ud800", "x" * 300, "acme\r\nx-evil: 1"])
def test_a_customer_that_no_attribute_could_hold_is_told_to_nobody_and_breaks_nothing(
    trusting: None, ours: Mirror, customer: str
) -> None:
    with httpx.Client() as client:
        stale = {"baggage": "usage.customer.id=stale,own=1"}
        for_the_customer(lambda: client.get(ours.url, headers=stale), customer_id=customer)
    assert ours.baggage() == ["own=1"]
    assert usage.health().attributes_dropped["baggage:untold"] == 1
    assert usage.health().internal_errors == {}


@pytest.mark.parametrize("customer", ["a,b;c=d x-evil: 1", "Grüße ✓ %41 +", "a" * 256])
def test_a_customer_of_any_letters_arrives_as_it_is(trusting: None, ours: Mirror, customer: str) -> None:
    for_the_customer(lambda: with_httpx(ours.url), customer_id=customer)
    signer = AttributionSigner(dict([KEY.split(":")]), HostPatterns("x", [f"127.0.0.1:{ours.port}"]))
    attribution = signer.verify(ours.members()["usage.signature"])
    assert attribution.identity.customer_id == customer
    assert len(ours.calls[0]) == len({name for name, _ in ours.calls[0]}), "one header was made, and no other"


def test_a_request_of_a_class_of_the_applications_arrives_with_all_that_it_has(trusting: None, ours: Mirror) -> None:
    class Tagged(httpx.Request):
        __slots__ = ("tag",)

    class Reads(httpx.HTTPTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            assert request.tag == "mine"  # type: ignore[attr-defined]
            return super().handle_request(request)

    request = Tagged("POST", ours.url, content=iter([b"a", b"b"]), headers={"content-length": "2"})
    request.tag = "mine"
    with httpx.Client(transport=Reads()) as client:
        for_the_customer(lambda: client.send(request))
    assert ours.members().keys() == MEMBERS


def test_what_a_mock_does_to_its_request_is_done(trusting: None) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        request.seen = True  # type: ignore[attr-defined]
        return httpx.Response(200)

    with httpx.Client(transport=httpx.MockTransport(answer)) as client:
        response = client.post("http://third.example/", json={})
    assert response.request.seen  # type: ignore[attr-defined]


def test_who_calls_is_not_told_before_it_is_known(trusting: None, ours: Mirror) -> None:
    with usage.usage_span("work"):
        with_httpx(ours.url)
    assert ours.baggage() == []


def test_without_a_key_nobody_is_told(switch_on: Callable[..., None], ours: Mirror) -> None:
    switch_on()
    for_the_customer(lambda: with_httpx(ours.url))
    assert ours.baggage() == []


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://LOCALHOST:{port}/", True),
        ("http://localhost@127.0.0.1:{port}/", False),
        ("http://localhost:x@127.0.0.1:{port}/", False),
        ("http://127.0.0.1:{port}/?@localhost", False),
        ("http://127.0.0.1:{port}/#localhost", False),
        ("http://127.1:{port}/", False),
        ("http://2130706433:{port}/", False),
        ("http://0x7f.0.0.1:{port}/", False),
    ],
)
def test_the_host_is_the_one_that_is_connected_to(
    switch_on: Callable[..., None], ours: Mirror, url: str, told: bool
) -> None:
    switch_on(baggage_key=KEY, baggage_hosts={"localhost"})
    for_the_customer(lambda: with_httpx(url.format(port=ours.port)))
    assert bool(ours.baggage()) is told


def test_a_host_header_changes_nothing(trusting: None, ours: Mirror, theirs: Mirror) -> None:
    with httpx.Client() as client:
        for_the_customer(lambda: client.get(theirs.url, headers={"host": f"127.0.0.1:{ours.port}"}))
    assert theirs.baggage() == []


def test_an_upstream_span_is_the_caller_that_is_vouched_for(trusting: None, ours: Mirror, stub: AxiomStub) -> None:
    for_the_customer(lambda: with_httpx(ours.url))
    usage.uninstrument()
    (call,) = [span for span in stub.unique_spans if span.kind == "client"]
    signer = AttributionSigner(dict([KEY.split(":")]), HostPatterns("x", [f"127.0.0.1:{ours.port}"]))
    vouched = signer.verify(ours.members()["usage.signature"])
    assert (vouched.trace_id.hex(), vouched.span_id.hex()) == (call.trace_id, call.span_id)
