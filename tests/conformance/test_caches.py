"""One set of cases for every cache: an answer of its own is an event and no upstream call, each call has its status.

A cache joins by a small program in ``tests/apps/cached.py``.
"""

from __future__ import annotations

import asyncio
import io
import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

import aiohttp_client_cache
import hishel
import hishel.httpx
import httpx
import pytest
import requests
import requests_cache
import urllib3

import otel_usage as usage
from otel_usage.testing import AxiomStub, ReceivedSpan
from tests.apps.cached import PROGRAMS, Answer, Order, app, program
from tests.conftest import TOKEN
from tests.needs import needed_package
from tests.outside import outside
from tests.servers import free_port, serve_asgi, server_process

HEADERS: Final = {
    "fresh": {"cache-control": "max-age=60"},
    "etag": {"cache-control": "max-age=60", "etag": '"1"'},
    "stale": {"cache-control": "max-age=0", "etag": '"1"'},
    "gone": {"cache-control": "max-age=60"},
    "no-store": {"cache-control": "no-store"},
}
"""What the upstream says of how long its answers are good, by the first part of the path."""


class Upstream:
    """Whom the caches stand in front of. It counts the calls that come, by path."""

    def __init__(self) -> None:
        self.url = ""
        self.calls: Counter[str] = Counter()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        self.calls[scope["path"]] += 1
        kind = scope["path"].split("/")[1]
        same = dict(scope["headers"]).get(b"if-none-match") == b'"1"'
        status = 304 if same else 404 if kind == "gone" else 200
        headers = [(name.encode(), value.encode()) for name, value in HEADERS[kind].items()]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if same else b"hello"})


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    served = Upstream()
    with serve_asgi(served, lifespan="off") as url:
        served.url = url
        yield served


# -- the cases ---------------------------------------------------------------------------------------------------------

Call = tuple[str, int, str | None]
"""Of an upstream span: its name, status code and cache status."""
Event = tuple[str, str | None, str]
"""Of a cache event: provider, operation and cache status."""


@dataclass(frozen=True)
class Case:
    """What is asked for within one request, and what is recorded of it."""

    kind: str
    orders: tuple[dict[str, Any], ...]
    calls: tuple[tuple[int, str | None], ...]
    """Status code and cache status of each call."""
    events: tuple[str, ...] = ()
    """What the cache answers, in its order."""
    status_code: int = 200
    named: str = ""

    def __post_init__(self) -> None:
        assert self.kind in HEADERS


PLAIN: Final[dict[str, Any]] = {}
CASES: Final = {
    "a miss is a call": Case("fresh", (PLAIN,), calls=((200, "miss"),)),
    "a hit is an event": Case("fresh", (PLAIN,) * 3, calls=((200, "miss"),), events=("fresh", "fresh")),
    "a block around both names both": Case(
        "fresh", (PLAIN,) * 2, calls=((200, "miss"),), events=("fresh",), named="market quote"
    ),
    "asking whether it is still good is a call": Case(
        "etag", (PLAIN, {"revalidate": True}, PLAIN), calls=((200, "miss"), (304, "miss")), events=("fresh",)
    ),
    "a stored failure is no success": Case(
        "gone", (PLAIN,) * 2, calls=((404, "miss"),), events=("neg-sentinel",), status_code=404
    ),
    "what may not be stored is called for each time": Case("no-store", (PLAIN,) * 2, calls=((200, "miss"),) * 2),
    "what no cache is asked for has no status": Case("fresh", ({"method": "POST"},) * 2, calls=((200, None),) * 2),
}
STALE: Final = {
    "hishel": Case("stale", ({"stale": True},) * 2, calls=((200, "miss"),), events=("stale-while-revalidate",)),
    "requests-cache": Case(
        "stale",
        ({"stale": True},) * 2,
        calls=((200, "miss"), (304, "stale-while-revalidate")),
        events=("stale-while-revalidate",),
    ),
}
"""By library: a stale answer. hishel asks nobody for a better one then; requests-cache does, when it has answered."""

numbers = itertools.count()


class Service:
    """The service with one of the caches, and where its usage arrives."""

    def __init__(self, cache: str, url: str, stub: AxiomStub, upstream: Upstream) -> None:
        self._cache, self._url, self._stub, self._upstream = cache, url, stub, upstream

    @property
    def stale(self) -> Case:
        """The case of a stale answer, where the cache has a place for it."""
        found = STALE.get(Cache(self._cache).library)
        if found is None:
            pytest.xfail("it serves nothing that is stale")
        return found

    def ask(self, customer: str, case: Case, path: str) -> list[list[Any]]:
        """The answers to what a case asks for."""
        orders = (Order(self._upstream.url + path, **how) for how in case.orders)
        query: list[tuple[str, str]] = [("order", " ".join(map(str, order))) for order in orders]
        if case.named:
            query.append(("named", case.named))
        (answer,) = outside(self._url, f"/ask?{urlencode(query)}", **{"x-customer": customer})
        assert answer.status_code == 200, answer.text
        answers: list[list[Any]] = answer.json()
        return answers

    def wait_for(self, calls: dict[str, int]) -> None:
        """Wait until each customer's request and so many upstream calls have arrived, and all that there was beside."""
        for customer, count in calls.items():
            self._wait(lambda customer=customer, count=count: len(self._of(customer)) > count)
        last = f"fence-{next(numbers)}"
        outside(self._url, "/fence", **{"x-customer": last})
        self._wait(lambda: bool(self._of(last)))

    def recorded(self, customer: str) -> tuple[ReceivedSpan, list[ReceivedSpan]]:
        """The customer's one request and its upstream calls, of what has arrived."""
        spans = self._of(customer)
        (request,) = [span for span in spans if span.kind == "server"]
        return request, [span for span in spans if span.kind != "server"]

    def check(self, *cases: Case) -> None:
        """What is recorded of each case is what has happened."""
        asked = [(case, f"customer-{number}", f"/{case.kind}/{number}") for case in cases for number in [next(numbers)]]
        for case, customer, path in asked:
            answers = self.ask(customer, case, path)
            assert answers == [[case.status_code, "hello"]] * len(case.orders), "the application sees nothing of it"
        self.wait_for({customer: len(case.calls) for case, customer, _ in asked})
        for each in asked:
            self._check(*each)

    def _check(self, case: Case, customer: str, path: str) -> None:
        request, calls = self.recorded(customer)
        provider, _, operation = case.named.partition(" ")
        provider = provider or "127.0.0.1"
        name = f"{provider} {operation}".strip()
        assert list(map(call_of, calls)) == [(name, *call) for call in case.calls]
        assert events_of(request) == [(provider, operation or None, status) for status in case.events]
        assert self._upstream.calls[path] == len(calls), "each call is one that has arrived"
        assert {call.parent_span_id for call in calls} <= {request.span_id}

    def _of(self, customer: str) -> list[ReceivedSpan]:
        return sorted(
            (span for span in self._stub.unique_spans if span.attributes.get("usage.customer.id") == customer),
            key=lambda span: span.start_time,
        )

    @staticmethod
    def _wait(until: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 10
        while not until() and time.monotonic() < deadline:
            time.sleep(0.01)


def call_of(span: ReceivedSpan) -> Call:
    status = span.attributes.get("usage.cache.status")
    return span.name, int(str(span.attributes["http.response.status_code"])), None if status is None else str(status)


def events_of(span: ReceivedSpan) -> list[Event]:
    keys = ("usage.provider", "usage.operation", "usage.cache.status")
    return [tuple(event.attributes.get(key) for key in keys) for event in span.events if event.name == "usage.cache"]  # type: ignore[misc]


class Cache(NamedTuple):
    """One of the programs."""

    name: str

    @property
    def library(self) -> str:
        """As in `INTEGRATIONS`."""
        return self.name.partition(" for ")[0]

    @property
    def subject(self) -> tuple[str, str, str]:
        """As the table has it: its name, the distribution, and what it is tried with."""
        return self.library, self.library, self.variant

    @property
    def variant(self) -> str:
        """The client that it is for, where there is more than one."""
        return self.name.partition(" for ")[2]


def in_mode(mode: str) -> dict[str, Any]:
    """A fixture's parameters: every cache, in one mode."""
    return {"params": [(Cache(name), mode) for name in PROGRAMS], "ids": lambda each: f"{each[0].name}-{each[1]}"}


def name_of(request: pytest.FixtureRequest) -> str:
    cache: Cache = request.param[0]
    if "async" in cache.variant:
        needed_package("anysqlite")
    return cache.name


@pytest.fixture(**in_mode("by-hand"))
def cache(request: pytest.FixtureRequest) -> str:
    """The name of a cache."""
    return name_of(request)


@pytest.fixture
def by_hand(
    cache: str,
    switch_on: Callable[..., None],
    stub: AxiomStub,
    upstream: Upstream,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Service]:
    """The service in this process, where usage is switched on by hand."""
    monkeypatch.setenv("CACHE", cache)
    monkeypatch.setenv("CACHE_STORE", str(tmp_path))
    switch_on()
    with serve_asgi(app) as url:
        yield Service(cache, url, stub, upstream)
    assert usage.health().internal_errors == {}


@pytest.fixture(scope="module", **in_mode("zero-code"))
def no_code(
    request: pytest.FixtureRequest, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """The service as a process, where ``opentelemetry-instrument`` switches usage on."""
    cache, port, folder = name_of(request), free_port(), tmp_path_factory.mktemp("service")
    command = ["opentelemetry-instrument", "uvicorn", "cached:app", "--port", str(port)]
    with AxiomStub(token=TOKEN) as sink:
        telemetry = {"USAGE_TELEMETRY": "1", "USAGE_OTLP_ENDPOINT": sink.url, "AXIOM_API_TOKEN": TOKEN}
        settings = {"CACHE": cache, "CACHE_STORE": str(folder), "XDG_STATE_HOME": str(folder)}
        with server_process(command, port, folder, **settings, **telemetry) as (_, log):
            yield Service(cache, f"http://127.0.0.1:{port}", sink, upstream)
        assert "otel_usage failed" not in log.read_text()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_by_hand(by_hand: Service, case: Case) -> None:
    by_hand.check(case)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_no_code(no_code: Service, case: Case) -> None:
    no_code.check(case)


def test_stale_answer(by_hand: Service) -> None:
    by_hand.check(by_hand.stale)


def test_stale_answer_no_code(no_code: Service) -> None:
    no_code.check(no_code.stale)


def test_requests_at_the_same_time_have_each_their_own_events(by_hand: Service, upstream: Upstream) -> None:
    case, path = CASES["a hit is an event"], f"/fresh/{next(numbers)}"
    by_hand.ask("the-first", case, path)
    customers = [f"one-of-many-{number}" for number in range(8)]
    with ThreadPoolExecutor(len(customers)) as pool:
        list(pool.map(lambda customer: by_hand.ask(customer, case, path), customers))
    by_hand.wait_for(dict.fromkeys(customers, 0))
    for customer in customers:
        request, calls = by_hand.recorded(customer)
        assert (events_of(request), calls) == ([("127.0.0.1", None, "fresh")] * 3, [])
    assert upstream.calls[path] == 1


# -- elsewhere than in a request ---------------------------------------------------------------------------------------


def asked(cache: str, store: Path, *orders: Order) -> list[Answer]:
    """The answers of a cache in this process."""

    async def main() -> list[Answer]:
        async with program(cache, store) as made:
            return [await made.ask(order) for order in orders]

    return asyncio.run(main())


def order(upstream: Upstream, **how: Any) -> Order:
    return Order(f"{upstream.url}/fresh/{next(numbers)}", **how)


def delivered(stub: AxiomStub) -> list[ReceivedSpan]:
    """Every span, sorted by their start. Nothing comes after."""
    usage.uninstrument()
    return sorted(stub.unique_spans, key=lambda span: span.start_time)


def test_a_hit_outside_of_any_request_is_nobodys_and_no_call(
    cache: str, usage_on: None, stub: AxiomStub, upstream: Upstream, tmp_path: Path
) -> None:
    with usage.upstream("market", "quote"):
        asked(cache, tmp_path, *[order(upstream)] * 2)
    (call,) = delivered(stub)
    assert call_of(call) == ("market quote", 200, "miss")


def test_a_block_around_nothing_but_a_hit_is_no_call(
    cache: str, usage_on: None, stub: AxiomStub, upstream: Upstream, tmp_path: Path
) -> None:
    once = order(upstream)
    asked(cache, tmp_path, once)
    with usage.usage_span("work"), usage.upstream("market", "quote"):
        asked(cache, tmp_path, once)
    call, work = delivered(stub)
    assert (call_of(call), work.name) == (("127.0.0.1", 200, "miss"), "work")
    assert events_of(work) == [("market", "quote", "fresh")]


def test_the_settings_name_a_provider_that_was_not_called_as_one_that_was(
    cache: str, switch_on: Callable[..., None], stub: AxiomStub, upstream: Upstream, tmp_path: Path
) -> None:
    switch_on(providers={"localhost": "market"})
    once = order(upstream)
    local = once._replace(url=once.url.replace("127.0.0.1", "localhost"))
    with usage.usage_span("work"):
        asked(cache, tmp_path, local, local)
    work, call = delivered(stub)
    assert (call_of(call), events_of(work)) == (("market", 200, "miss"), [("market", None, "fresh")])


def test_where_usage_is_off_the_cache_is_as_it_was(
    cache: str, usage_on: None, stub: AxiomStub, upstream: Upstream, tmp_path: Path
) -> None:
    usage.uninstrument()
    once = order(upstream)
    assert asked(cache, tmp_path, once, once) == [(200, "hello")] * 2
    assert (upstream.calls[once.url.removeprefix(upstream.url)], stub.spans) == (1, [])


def test_a_session_that_was_made_while_usage_was_on_works_when_it_is_off(
    cache: str, usage_on: None, stub: AxiomStub, upstream: Upstream, tmp_path: Path
) -> None:
    async def main() -> None:
        async with program(cache, tmp_path) as made:
            once = order(upstream)
            await made.ask(once)
            usage.uninstrument()
            with usage.usage_span("work"):
                assert await made.ask(once) == await made.ask(order(upstream)) == (200, "hello")

    asyncio.run(main())
    assert list(map(call_of, delivered(stub))) == [("127.0.0.1", 200, "miss")]


def test_what_is_not_to_be_seen_is_not(
    cache: str, usage_on: None, stub: AxiomStub, upstream: Upstream, tmp_path: Path
) -> None:
    from opentelemetry.instrumentation.utils import suppress_http_instrumentation

    once = order(upstream)
    with usage.usage_span("work"), suppress_http_instrumentation():
        asked(cache, tmp_path, once, once)
    (work,) = delivered(stub)
    assert (work.name, events_of(work)) == ("work", [])


def test_the_error_of_a_call_behind_a_cache_is_the_applications_and_the_name_ends_there(
    cache: str, usage_on: None, stub: AxiomStub, upstream: Upstream, tmp_path: Path
) -> None:
    nobody = Order(f"http://127.0.0.1:{free_port()}/fresh/1")
    with usage.usage_span("work"), usage.upstream("market"):
        with pytest.raises(Exception, match=r"(?i)connect|refused"):
            asked(cache, tmp_path, nobody)
        asked(cache, tmp_path, order(upstream, method="POST"))
    work, *calls = delivered(stub)
    assert [(call.name, call.attributes.get("usage.cache.status"), call.status_code) for call in calls] == [
        ("market", "miss", "error"), ("market", None, "unset"),
    ]  # fmt: skip
    assert events_of(work) == []


def test_a_call_that_names_itself_names_the_answer(
    usage_on: None, stub: AxiomStub, upstream: Upstream, tmp_path: Path
) -> None:
    said = {"usage": {"provider": "market", "operation": "quote"}}
    first, second = order(upstream).url, order(upstream).url

    async def main() -> None:
        async with aiohttp_client_cache.CachedSession(cache=aiohttp_client_cache.CacheBackend()) as session:
            for _ in range(2):
                async with session.get(first, trace_request_ctx=said):
                    pass

    with usage.usage_span("work"), usage.upstream("outer", "far"):
        asyncio.run(main())
        storage = hishel.SqliteStorage(database_path=tmp_path / "store.db")
        with hishel.httpx.CacheClient(storage=storage, rfc=True) as client:
            for _ in range(2):
                client.get(second, extensions=said)
    work, *calls = delivered(stub)
    assert list(map(call_of, calls)) == [("market quote", 200, "miss")] * 2
    assert events_of(work) == [("market", "quote", "fresh")] * 2


def test_a_cache_that_is_switched_off_says_nothing(usage_on: None, stub: AxiomStub, upstream: Upstream) -> None:
    url = order(upstream).url

    async def main() -> None:
        made = aiohttp_client_cache.CachedSession(cache=aiohttp_client_cache.CacheBackend())
        async with made as session, session.disabled(), session.get(url):
            pass

    with usage.usage_span("work"), requests_cache.CachedSession(backend="memory") as session:
        asyncio.run(main())
        with session.cache_disabled():
            session.get(url)
    work, *calls = delivered(stub)
    assert list(map(call_of, calls)) == [("127.0.0.1", 200, None)] * 2
    assert events_of(work) == []


# -- of hishel alone ---------------------------------------------------------------------------------------------------


class Unseen(httpx.BaseTransport):
    """A transport of the application's own, which no hook sees."""

    def __init__(self, answer: Callable[[], object] = lambda: None) -> None:
        self._answer = answer

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self._answer()
        same = "if-none-match" in request.headers
        return httpx.Response(304 if same else 200, headers={"etag": "1", "cache-control": "max-age=60"}, content=b"")


def unseen(store: Path, *headers: dict[str, str], answer: Callable[[], object] = lambda: None) -> None:
    """A GET with each of these headers, through a cache in front of such a transport, in blocks of their own."""
    storage = hishel.SqliteStorage(database_path=store / "store.db")
    transport = hishel.httpx.CacheTransport(Unseen(answer), storage, rfc=True)
    with httpx.Client(transport=transport) as client:
        for each in headers:
            with usage.upstream("market", "quote"):
                client.get("http://market.test/", headers=each)


def test_where_no_hook_sees_the_calls_a_block_is_one_unless_the_cache_has_answered(
    usage_on: None, stub: AxiomStub, tmp_path: Path
) -> None:
    with usage.usage_span("work"):
        unseen(tmp_path, {}, {}, {"cache-control": "no-cache"})
    work, *calls = delivered(stub)
    assert [call.name for call in calls] == ["market quote"] * 2, "the first, and the one that has asked"
    assert events_of(work) == [("market", "quote", "fresh")]


def test_a_thread_that_is_started_behind_a_cache_and_outlasts_the_call_is_not_behind_it(
    usage_on: None, stub: AxiomStub, upstream: Upstream, tmp_path: Path
) -> None:
    over = threading.Event()

    def later() -> None:
        over.wait(10)
        httpx.get(order(upstream).url)

    thread = threading.Thread(target=later)
    with usage.usage_span("work"):
        unseen(tmp_path, {}, answer=thread.start)
        over.set()
        thread.join(10)
    _, _, call = delivered(stub)
    assert call_of(call) == ("127.0.0.1", 200, None)


# -- of requests-cache alone -------------------------------------------------------------------------------------------


def test_what_is_not_stored_and_may_not_be_asked_for_is_a_miss_without_a_call(
    usage_on: None, stub: AxiomStub, upstream: Upstream, tmp_path: Path
) -> None:
    with (
        usage.usage_span("work"),
        usage.upstream("market"),
        requests_cache.CachedSession(str(tmp_path / "store.db"), backend="sqlite") as session,
    ):
        assert session.get(order(upstream).url, only_if_cached=True).status_code == 504
    (work,) = delivered(stub)
    assert events_of(work) == [("market", None, "miss")]


def test_a_stale_answer_in_the_place_of_a_failed_call_is_that_call(
    usage_on: None, stub: AxiomStub, tmp_path: Path
) -> None:
    store = str(tmp_path / "store.db")
    with (
        usage.usage_span("work"),
        requests_cache.CachedSession(store, backend="sqlite", cache_control=True, stale_if_error=True) as session,
    ):
        with serve_asgi(Upstream(), ours=False, lifespan="off") as url:
            session.get(f"{url}/stale/1")
        assert session.get(f"{url}/stale/1").text == "hello"
    work, *calls = delivered(stub)
    assert [(call.status_code, call.attributes["usage.cache.status"]) for call in calls] == [
        ("unset", "miss"), ("error", "miss"),
    ]  # fmt: skip
    assert events_of(work) == []


def test_a_call_in_the_background_has_the_name_of_the_block_that_was_answered(
    usage_on: None, stub: AxiomStub, upstream: Upstream, tmp_path: Path
) -> None:
    answered = threading.Event()

    class Late(requests_cache.CachedSession):
        def _send_and_cache(self, request: Any, actions: Any, *args: Any, **kwargs: Any) -> Any:
            if actions.resend_async:
                answered.wait(10)
            return super()._send_and_cache(request, actions, *args, **kwargs)

    store = str(tmp_path / "store.db")
    url = f"{upstream.url}/stale/{next(numbers)}"
    with (
        usage.usage_span("work"),
        Late(store, backend="sqlite", cache_control=True, stale_while_revalidate=True) as session,
    ):
        for _ in range(2):
            with usage.upstream("market", "quote"):
                session.get(url)
        answered.set()
        background = [thread for thread in threading.enumerate() if "_send_and_cache" in thread.name]
        for thread in background:
            thread.join(10)
    work, *calls = delivered(stub)
    assert list(map(call_of, calls)) == [
        ("market quote", 200, "miss"), ("market quote", 304, "stale-while-revalidate"),
    ]  # fmt: skip
    assert events_of(work) == [("market", "quote", "stale-while-revalidate")]


def test_what_was_revalidated_in_memory_is_a_hit_after_that(
    usage_on: None, stub: AxiomStub, upstream: Upstream
) -> None:
    url = f"{upstream.url}/etag/{next(numbers)}"
    with (
        usage.usage_span("work"),
        requests_cache.CachedSession(backend="memory", cache_control=True) as session,
    ):
        session.get(url)
        session.get(url, refresh=True)
        session.get(url)
    work, *calls = delivered(stub)
    assert [call_of(call)[1:] for call in calls] == [(200, "miss"), (304, "miss")]
    assert events_of(work) == [("127.0.0.1", None, "fresh")]


def test_a_call_that_no_hook_sees_is_not_taken_for_an_answer(usage_on: None, stub: AxiomStub) -> None:
    class Unseen(requests.adapters.BaseAdapter):
        def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
            status = 304 if "If-None-Match" in request.headers else 200
            raw = urllib3.HTTPResponse(io.BytesIO(), HEADERS["etag"], status, preload_content=False)
            return requests.adapters.HTTPAdapter().build_response(request, raw)

        def close(self) -> None:
            pass

    with usage.usage_span("work"), requests_cache.CachedSession(backend="memory", cache_control=True) as session:
        session.mount("http://", Unseen())
        for refresh in (False, True, False):
            with usage.upstream("market"):
                session.get("http://market.test/", refresh=refresh)
    work, *calls = delivered(stub)
    assert [call.name for call in calls] == ["market"] * 2
    assert events_of(work) == [("market", None, "fresh")]
