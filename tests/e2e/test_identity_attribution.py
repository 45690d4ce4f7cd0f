"""Who a request is counted for: said from anywhere beneath it, and never by or for another."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import queue
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from enum import Enum
from typing import Any

import anyio.to_thread
import httpx
import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, Request
from fastapi.responses import PlainTextResponse
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware

import otel_usage as usage
from otel_usage.guard import internal_errors
from otel_usage.request import UsageRequest
from otel_usage.schema import AUTH_KINDS
from otel_usage.scope import GRACE, PENDING_LIMIT, current
from otel_usage.testing import AxiomStub, ReceivedSpan
from tests.outside import Outside, facts, requests_of
from tests.servers import serve_asgi

PRINCIPAL = "sk_live_0000000000000000"


def acme() -> None:
    usage.identify(customer_id="acme", tier=2, plan="api_pro", auth_kind="user_api_key", principal=PRINCIPAL)


class IdentifyingMiddleware:
    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope.get("path") == "/by-middleware":
            acme()
        await self.app(scope, receive, send)


async def async_dependency() -> None:
    acme()


def sync_dependency() -> None:
    acme()


def yielding_dependency() -> Iterator[None]:
    yield
    acme()


class Said:
    """What ``/say`` says."""

    call: Callable[[], Any] = staticmethod(acme)


def application(pool: ThreadPoolExecutor) -> FastAPI:  # noqa: C901  # many small routes
    app = FastAPI()
    app.add_middleware(IdentifyingMiddleware)

    @app.get("/say")
    async def say() -> Any:
        Said.call()
        return {"served": True}

    @app.get("/nobody")
    @app.get("/by-middleware")
    async def nothing() -> Any:
        return {}

    @app.get("/by-async-dependency", dependencies=[Depends(async_dependency)])
    async def by_async_dependency() -> Any:
        return {}

    @app.get("/by-sync-dependency", dependencies=[Depends(sync_dependency)])
    async def by_sync_dependency() -> Any:
        return {}

    @app.get("/by-yielding-dependency", dependencies=[Depends(yielding_dependency)])
    async def by_yielding_dependency() -> Any:
        return {}

    @app.get("/by-async-handler")
    async def by_async_handler() -> Any:
        acme()
        return {}

    @app.get("/by-sync-handler")
    def by_sync_handler() -> Any:
        acme()
        return {}

    @app.get("/by-thread")
    def by_thread() -> Any:
        thread = threading.Thread(target=acme)
        thread.start()
        thread.join()
        return {}

    @app.get("/by-pool")
    def by_pool() -> Any:
        pool.submit(acme).result(5)
        return {}

    @app.get("/by-to-thread")
    async def by_to_thread() -> Any:
        await asyncio.to_thread(acme)
        return {}

    @app.get("/by-executor")
    async def by_executor() -> Any:
        await asyncio.get_running_loop().run_in_executor(pool, acme)
        return {}

    @app.get("/by-task")
    async def by_task() -> Any:
        await asyncio.create_task(async_dependency())
        return {}

    @app.get("/by-background-task")
    async def by_background_task(tasks: BackgroundTasks) -> Any:
        tasks.add_task(async_dependency)
        return {}

    @app.get("/by-sync-background-task")
    async def by_sync_background_task(tasks: BackgroundTasks) -> Any:
        tasks.add_task(acme)
        return {}

    @app.get("/by-task-of-an-ended-span")
    async def by_task_of_an_ended_span() -> Any:
        async def later() -> None:
            await ended.wait()
            await asyncio.get_running_loop().run_in_executor(pool, acme)

        ended = asyncio.Event()
        with usage.usage_span("short"):
            task = asyncio.create_task(later())
        ended.set()
        await task
        return {}

    return app


@pytest.fixture(scope="module")
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


@pytest.fixture(scope="module")
def url(pool: ThreadPoolExecutor) -> Iterator[str]:
    with serve_asgi(application(pool)) as address:
        yield address


def get(url: str, path: str, **headers: str) -> httpx.Response:
    with httpx.Client(base_url=url, transport=Outside(), headers=headers) as client:
        return client.get(path)


@contextmanager
def handled_by(handler: Callable[[Request], Any], **settings: Any) -> Iterator[str]:
    """A server of one route, ``/``, in one thread of its own."""
    app = FastAPI(**settings)
    app.get("/")(handler)
    with serve_asgi(app) as address:
        yield address


def customers(spans: list[ReceivedSpan]) -> list[Any]:
    return [span.attributes.get("usage.customer.id") for span in spans]


WAYS = (
    "middleware", "async-dependency", "sync-dependency", "yielding-dependency", "async-handler", "sync-handler",
    "thread", "pool", "to-thread", "executor", "task", "background-task", "sync-background-task",
    "task-of-an-ended-span",
)  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_a_caller_can_be_named_from_anywhere_beneath_the_request(
    url: str, usage_on: None, stub: AxiomStub, way: str
) -> None:
    before = internal_errors()
    assert get(url, f"/by-{way}").status_code == 200
    assert get(url, "/nobody").status_code == 200
    stub.wait_for(2)
    assert internal_errors() == before
    named, nobody = requests_of(stub, 2)
    assert named.attributes["usage.customer.id"] == "acme"
    assert named.attributes["usage.tier"] == 2
    assert named.attributes["usage.plan"] == "api_pro"
    assert named.attributes["usage.auth.kind"] == "user_api_key"
    assert named.attributes["usage.identity.provenance"] == "verified"
    assert named.attributes["usage.principal.id"].startswith("k1:")
    assert nobody.attributes["usage.identity.provenance"] == "unavailable"
    assert not {"usage.customer.id", "usage.tier", "usage.principal.id"} & nobody.attributes.keys()
    assert PRINCIPAL not in repr(stub.spans)


def test_a_caller_that_nobody_named_has_no_customer_and_no_tier(url: str, usage_on: None, stub: AxiomStub) -> None:
    get(url, "/nobody", authorization=f"Bearer {PRINCIPAL}", **{"x-customer-id": "evil"})
    (span,) = requests_of(stub)
    assert "usage.customer.id" not in span.attributes
    assert "usage.tier" not in span.attributes
    assert "evil" not in repr(span)


# -- nothing leaks -----------------------------------------------------------------------------------------------------


def test_a_pools_thread_that_a_request_started_does_not_keep_it(
    switch_on: Callable[..., None], stub: AxiomStub
) -> None:
    switch_on()
    seen: list[bool] = []
    with ThreadPoolExecutor(1) as pool:

        def handler() -> Any:
            pool.submit(acme).result(5)  # the pool's only thread is started here, within the request
            return {}

        with handled_by(handler) as url:
            get(url, "/")
            requests_of_pool: Future[None] = pool.submit(lambda: seen.append(current() is None))
            requests_of_pool.result(5)
    assert seen == [True]
    assert customers(requests_of(stub)) == ["acme"]


def test_a_pool_of_many_requests_counts_each_task_for_its_own(switch_on: Callable[..., None], stub: AxiomStub) -> None:
    switch_on()
    with ThreadPoolExecutor(2) as pool:

        async def handler(request: Request) -> Any:
            name = request.headers["x-name"]
            futures = [
                pool.submit(usage.identify, customer_id=name),
                pool.submit(usage.meter, name, 1),
            ]
            await asyncio.gather(*map(asyncio.wrap_future, futures))
            return {}

        with handled_by(handler) as url, ThreadPoolExecutor(8) as clients:
            list(clients.map(lambda number: get(url, "/", **{"x-name": f"c{number}"}), range(24)))
    for span in requests_of(stub, 24):
        assert [event.attributes["usage.meter.name"] for event in span.events] == [span.attributes["usage.customer.id"]]


def let_go(request: UsageRequest) -> None:
    """As if the grace had passed since the request's end."""
    assert request.closed_at is not None
    request.closed_at -= GRACE


def test_a_thread_that_outlives_its_request_is_counted_for_it_only_within_the_grace(
    switch_on: Callable[..., None], stub: AxiomStub
) -> None:
    switch_on()
    asked: queue.Queue[str] = queue.Queue()
    answers: queue.Queue[Any] = queue.Queue()

    def consumer() -> None:
        while asked.get(timeout=10) != "stop":
            answers.put(current())

    thread = threading.Thread(target=consumer)

    def handler() -> Any:
        acme()
        thread.start()
        return {}

    with handled_by(handler) as url:
        get(url, "/")
        stub.wait_for(1)
        asked.put("still mine?")
        request = answers.get(timeout=5).scope
        assert isinstance(request, UsageRequest)
        let_go(request)
        asked.put("and now?")
        assert answers.get(timeout=5) is None
        asked.put("stop")
        thread.join(5)
    assert customers(requests_of(stub)) == ["acme"]


def test_a_task_that_outlives_its_request_is_counted_for_it_only_within_the_grace(
    switch_on: Callable[..., None], stub: AxiomStub
) -> None:
    switch_on()
    context: list[contextvars.Context] = []

    async def handler() -> Any:
        acme()
        context.append(contextvars.copy_context())  # what a task that is started here runs in
        return {}

    with handled_by(handler) as url:
        get(url, "/")
        stub.wait_for(1)
        request = context[0].run(current)
        assert isinstance(request, UsageRequest)
        let_go(request)
        assert context[0].run(current) is None
        context[0].run(lambda: usage.identify(customer_id="too late"))
        with context[0].run(usage.usage_span, "later") as span:
            assert span.is_recording()
    (found,) = requests_of(stub)
    later = next(span for span in stub.unique_spans if span.kind == "internal")
    assert customers([found, later]) == ["acme", None]
    assert later.trace_id != found.trace_id


# -- nobody's usage on somebody else's account -------------------------------------------------------------------------


def in_a_thread(work: Callable[[], Any]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join(5)
    assert not thread.is_alive()


def globex() -> None:
    usage.identify(customer_id="globex", tier=3, plan="enterprise", auth_kind="enterprise_api_key")


def test_a_consumers_thread_that_a_request_started_cannot_change_its_customer(
    switch_on: Callable[..., None], stub: AxiomStub
) -> None:
    switch_on()
    messages: queue.Queue[str] = queue.Queue()

    def consumer() -> None:
        while (customer := messages.get(timeout=10)) != "stop":
            usage.identify(customer_id=customer, tier=3, plan="enterprise")
            messages.task_done()

    thread = threading.Thread(target=consumer)

    def handler(request: Request) -> Any:
        acme()
        if not thread.is_alive():
            thread.start()
        messages.put(request.headers["x-message"])
        messages.join()
        return {}

    with handled_by(handler) as url:
        get(url, "/", **{"x-message": "globex"})
        get(url, "/", **{"x-message": "initech"})
        assert usage.health().attributes_dropped == {"identify:other_customer": 2}
        messages.put("stop")
        thread.join(5)
    for span in requests_of(stub, 2):
        assert facts(span, "usage.customer.id", "usage.tier", "usage.plan") == ("acme", 2, "api_pro")


def by_an_executor_of_the_thread() -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(globex).result(5)


def by_a_span_of_the_thread() -> None:
    with usage.usage_span("message"):
        globex()


def by_a_loop_of_the_thread() -> None:
    async def main() -> None:
        await asyncio.to_thread(globex)

    asyncio.run(main())


def by_a_thread_of_the_thread() -> None:
    in_a_thread(globex)


def by_an_identity_of_the_thread() -> None:
    usage.identify(usage.UsageIdentity("globex", 3, provenance="verified"))


@pytest.mark.parametrize("unread", [False, True])
@pytest.mark.parametrize(
    "work",
    [
        globex, by_an_executor_of_the_thread, by_a_span_of_the_thread, by_a_loop_of_the_thread,
        by_a_thread_of_the_thread, by_an_identity_of_the_thread,
    ],
)  # fmt: skip
def test_whatever_a_started_thread_starts_cannot_change_the_customer_either(
    switch_on: Callable[..., None], stub: AxiomStub, work: Callable[[], None], unread: bool
) -> None:
    switch_on()

    def handler() -> Any:
        usage.identify(customer_id="acme", auth_kind="jwt", provenance="unavailable" if unread else "verified")
        with usage.usage_span("around"):
            in_a_thread(work)
        return {}

    with handled_by(handler) as url:
        get(url, "/")
        stub.wait_for(2)
        assert usage.health().attributes_dropped == {"identify:other_customer": 1}
    (span,) = requests_of(stub)
    assert facts(span, "usage.customer.id", "usage.auth.kind", "usage.tier") == ("acme", "jwt", None)


def test_a_started_thread_may_say_who_it_is_first_and_more_of_the_same_customer(
    switch_on: Callable[..., None], stub: AxiomStub
) -> None:
    switch_on()

    def handler() -> Any:
        usage.identify(customer_id="claimed", provenance="unverified")
        in_a_thread(lambda: usage.identify(customer_id="acme", auth_kind="jwt"))
        in_a_thread(lambda: usage.identify(customer_id="acme", tier=2))
        in_a_thread(globex)
        return {}

    with handled_by(handler) as url:
        get(url, "/")
        stub.wait_for(1)
        assert usage.health().attributes_dropped == {"identify:other_customer": 1}
    (span,) = requests_of(stub)
    assert facts(span, "usage.customer.id", "usage.auth.kind", "usage.tier") == ("acme", "jwt", 2)


async def itself() -> None:
    globex()


async def by_asyncio_to_thread() -> None:
    await asyncio.to_thread(globex)


async def by_anyio_to_thread() -> None:
    await anyio.to_thread.run_sync(globex)


async def by_an_executor() -> None:
    with ThreadPoolExecutor(1) as pool:
        await asyncio.get_running_loop().run_in_executor(pool, globex)


@pytest.mark.parametrize("work", [itself, by_asyncio_to_thread, by_anyio_to_thread, by_an_executor])
def test_the_requests_own_work_may_correct_its_customer_on_whatever_thread_it_runs(
    switch_on: Callable[..., None], stub: AxiomStub, work: Callable[[], Any]
) -> None:
    switch_on()

    async def handler() -> Any:
        acme()
        await work()
        return {}

    with handled_by(handler) as url:
        get(url, "/")
    (span,) = requests_of(stub)
    assert facts(span, "usage.customer.id", "usage.tier", "usage.plan") == ("globex", 3, "enterprise")


class Passing(BaseHTTPMiddleware):
    """It serves the route on a task of its own."""

    async def dispatch(self, request: Request, call_next: Any) -> Any:
        acme()
        return await call_next(request)


def test_a_route_that_is_served_on_a_task_of_its_own_is_the_requests_own_work(
    switch_on: Callable[..., None], stub: AxiomStub
) -> None:
    switch_on()

    async def handler() -> Any:
        await itself()
        return {}

    with handled_by(handler, middleware=[Middleware(Passing)]) as url:
        get(url, "/")
    (span,) = requests_of(stub)
    assert facts(span, "usage.customer.id", "usage.tier", "usage.plan") == ("globex", 3, "enterprise")


async def on_a_task(messages: queue.Queue[str], work: Callable[[], None]) -> None:
    async def consume() -> None:
        while messages.empty():
            await asyncio.sleep(0.005)
        work()
        messages.get()

    held.append(asyncio.create_task(consume()))


async def on_a_thread(messages: queue.Queue[str], work: Callable[[], None]) -> None:
    def consume() -> None:
        messages.get(timeout=10)
        work()

    thread = threading.Thread(target=consume)
    thread.start()
    held.append(thread)


held: list[Any] = []


@pytest.mark.parametrize("consumer", [on_a_task, on_a_thread])
@pytest.mark.parametrize("first", [acme, lambda: usage.identify(auth_kind="anon")], ids=["known", "anonymous"])
def test_a_request_that_starts_the_consumer_of_anothers_message_is_not_counted_for_the_other(
    switch_on: Callable[..., None], stub: AxiomStub, consumer: Any, first: Callable[[], None]
) -> None:
    """The request is held open until the other's has come and has been worked off."""
    switch_on()
    messages: queue.Queue[str] = queue.Queue()
    done = threading.Event()

    def work() -> None:
        globex()
        done.set()

    async def handler(request: Request) -> Any:
        if "x-other" in request.headers:
            messages.put("work for globex")
            return {}
        first()
        await consumer(messages, work)
        while not done.is_set():
            await asyncio.sleep(0.005)
        return {}

    with handled_by(handler) as url, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(get, url, "/")
        while not held:
            time.sleep(0.005)
        get(url, "/", **{"x-other": "1"})
        waiting.result(10)
        held.clear()
    assert usage.health().attributes_dropped == {"identify:other_customer": 1}
    assert "globex" not in customers(requests_of(stub, 2))


def initech() -> None:
    usage.identify(customer_id="initech", tier=1, auth_kind="jwt")


async def globex_on(consumer: Any) -> None:
    """Let a consumer name somebody, and wait until it has."""
    done, messages = threading.Event(), queue.Queue[str]()
    messages.put("work for globex")

    def work() -> None:
        globex()
        done.set()

    await consumer(messages, work)
    while not done.is_set():
        await asyncio.sleep(0.005)
    held.clear()


ANONYMOUS = usage.UsageIdentity(auth_kind="anon", provenance="verified")


@pytest.mark.parametrize("consumer", [on_a_task, on_a_thread])
def test_what_a_consumer_says_first_gives_way_where_the_request_names_another(
    switch_on: Callable[..., None], stub: AxiomStub, consumer: Any
) -> None:
    switch_on()

    async def handler() -> Any:
        await globex_on(consumer)
        initech()
        return {}

    with handled_by(handler) as url:
        get(url, "/")
    assert usage.health().attributes_dropped == {"identify:other_customer": 1}
    (span,) = requests_of(stub)
    assert facts(span, "usage.customer.id", "usage.tier", "usage.plan") == ("initech", 1, None)


@pytest.mark.parametrize("said", ["explicitly", "by the resolver"])
def test_what_a_thread_says_first_gives_way_where_the_request_says_that_there_is_nobody(
    switch_on: Callable[..., None], stub: AxiomStub, said: str
) -> None:
    switch_on(identity=(lambda _: ANONYMOUS) if said == "by the resolver" else None)

    async def handler() -> Any:
        await globex_on(on_a_thread)
        if said == "explicitly":
            usage.identify(ANONYMOUS)
        return {}

    with handled_by(handler) as url:
        get(url, "/")
    (span,) = requests_of(stub)
    assert facts(span, "usage.customer.id", "usage.tier", "usage.auth.kind") == (None, 0, "anon")


@pytest.mark.parametrize("resolver", [None, ANONYMOUS, usage.UsageIdentity(plan="api_pro", provenance="verified")])
@pytest.mark.parametrize(
    "more", [lambda: None, lambda: usage.identify(plan="api_pro", auth_kind="jwt")], ids=["", "more"]
)
def test_who_was_found_out_on_a_task_that_the_request_waits_for_stays_known(
    switch_on: Callable[..., None], stub: AxiomStub, resolver: Any, more: Callable[[], None]
) -> None:
    switch_on(identity=(lambda _: resolver) if resolver is not None else None)

    async def handler() -> Any:
        await asyncio.gather(itself(), asyncio.sleep(0))
        more()
        return {}

    with handled_by(handler) as url:
        get(url, "/")
    (span,) = requests_of(stub)
    assert facts(span, "usage.customer.id", "usage.tier") == ("globex", 3)


def test_a_connection_of_many_tasks_holds_none_of_them(usage_on: None) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for _ in range(200):
            tasks.append(weakref.ref(task := asyncio.create_task(receive())))
            await task
        del task
        gc.collect()
        alive.append(sum(ref() is not None for ref in tasks))

    async def receive() -> Any:
        return {"type": "websocket.receive", "text": "x" * 1000}

    async def send(_: Any) -> None:
        pass

    tasks: list[weakref.ref[Any]] = []
    alive: list[int] = []
    asyncio.run(usage.UsageMiddleware(app)({"type": "websocket", "path": "/", "headers": []}, receive, send))
    assert alive[0] <= 2


def test_threads_that_name_others_at_the_same_time_never_win_over_the_request(
    switch_on: Callable[..., None], stub: AxiomStub
) -> None:
    switch_on()

    def handler() -> Any:
        acme()
        start = threading.Barrier(8)

        def work(number: int) -> None:
            start.wait(5)
            for _ in range(50):
                usage.identify(customer_id=f"other{number}", tier=9)
                usage.identify(customer_id="acme", plan="api_pro")

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return {}

    with handled_by(handler) as url:
        get(url, "/")
    (span,) = requests_of(stub)
    assert facts(span, "usage.customer.id", "usage.tier", "usage.plan") == ("acme", 2, "api_pro")


def anonymous() -> None:
    usage.identify(auth_kind="anon")


def claimed() -> None:
    usage.identify(customer_id="claimed", tier=9, plan="enterprise", auth_kind="jwt", provenance="unverified")


@pytest.mark.parametrize(
    ("said", "who"),
    [
        ((anonymous,), (None, 0, "anon", "verified")),
        ((anonymous, acme), ("acme", 2, "user_api_key", "verified")),
        ((acme, anonymous), ("acme", 2, "user_api_key", "verified")),
        ((acme, claimed), ("acme", 2, "user_api_key", "verified")),
        ((claimed, acme), ("acme", 2, "user_api_key", "verified")),
        ((claimed,), ("claimed", 9, "jwt", "unverified")),
        ((claimed, anonymous), (None, 0, "anon", "verified")),
    ],
)
def test_neither_an_anonymous_nor_an_unverified_claim_takes_a_verified_customers_usage_away(
    url: str, usage_on: None, stub: AxiomStub, said: tuple[Callable[[], None], ...], who: tuple[Any, ...]
) -> None:
    Said.call = staticmethod(lambda: [say() for say in said])
    assert get(url, "/say").status_code == 200
    (span,) = requests_of(stub)
    keys = ("usage.customer.id", "usage.tier", "usage.auth.kind", "usage.identity.provenance")
    assert facts(span, *keys) == who


PUBLIC = "wk_live_0000000000000000"


def test_a_public_key_counts_for_its_owner_only_where_it_is_one_that_was_registered(
    switch_on: Callable[..., None], stub: AxiomStub
) -> None:
    resolver = usage.IdentityResolver(widget_customers={PUBLIC: "contoso"})

    def handler(request: Request) -> Any:
        usage.identify(resolver.resolve(usage.Credentials(widget_key=request.headers["x-widget-key"], tier=1)))
        return {}

    switch_on()
    with handled_by(handler) as url:
        for key in (PUBLIC, PUBLIC[:-1], "clé"):
            with httpx.Client(base_url=url, transport=Outside()) as client:
                assert client.get("/", headers={"x-widget-key": key.encode(), "origin": url}).status_code == 200
    found = [
        facts(span, "usage.customer.id", "usage.tier", "usage.auth.kind", "usage.origin.kind")
        for span in requests_of(stub, 3)
    ]
    nobody = (None, 0, "anon", None)
    assert found == [("contoso", 1, "widget_key", "browser-same-origin"), nobody, nobody]
    assert PUBLIC not in repr(stub.spans)


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ({}, None),
        ({"auth_kind": "anon"}, None),
        ({"customer_id": "acme", "auth_kind": "jwt", "provenance": "unverified"}, None),
        ({"customer_id": "acme", "auth_kind": "user_api_key", "provenance": "unverified"}, None),
        ({"customer_id": "acme", "auth_kind": "user_api_key", "provenance": "unavailable"}, "api-key"),
        ({"customer_id": "acme", "auth_kind": "jwt", "provenance": "unavailable"}, "browser-same-origin"),
        ({"customer_id": "acme", "auth_kind": "telepathy"}, "browser-same-origin"),
        ({"customer_id": "acme"}, None),
    ],
)
def test_no_header_makes_a_browser_of_a_caller_whom_nobody_has_verified(
    url: str, switch_on: Callable[..., None], stub: AxiomStub, said: dict[str, Any], kind: str | None
) -> None:
    switch_on(auth_kinds=frozenset({"telepathy"}))
    Said.call = staticmethod(lambda: usage.identify(**said) if said else None)
    get(url, "/say", origin=url)
    (span,) = requests_of(stub)
    assert span.attributes.get("usage.origin.kind") == kind


# -- known late --------------------------------------------------------------------------------------------------------


def test_a_call_that_finds_out_who_it_is_waits_for_the_answer_and_is_attributed(
    url: str, switch_on: Callable[..., None], stub: AxiomStub
) -> None:
    switch_on()

    async def handler() -> Any:
        async with httpx.AsyncClient() as client:
            await client.get(f"{url}/nobody")  # the key service
        with usage.usage_span("before"):
            pass
        acme()
        with usage.usage_span("after"):
            pass
        return {}

    with handled_by(handler) as address:
        get(address, "/")
    stub.wait_for(5)
    usage.uninstrument()
    spans = {span.kind + " " + span.name: span for span in stub.unique_spans}
    mine = [span for name, span in spans.items() if name != "server GET /nobody"]
    assert len(mine) == 4
    assert customers(mine) == ["acme"] * 4
    assert len({span.trace_id for span in mine}) == 1
    assert {span.attributes["usage.tier"] for span in mine} == {2}
    request = spans["server GET /"]
    assert request.attributes["usage.upstream.count"] == 1
    assert {span.parent_span_id for span in mine if span is not request} == {request.span_id}
    assert "usage.customer.id" not in spans["server GET /nobody"].attributes


def test_what_waits_for_a_caller_is_bounded_and_never_lost(switch_on: Callable[..., None], stub: AxiomStub) -> None:
    switch_on()

    def handler() -> Any:
        for _ in range(PENDING_LIMIT + 10):
            with usage.usage_span("work"):
                pass
        acme()
        return {}

    with handled_by(handler) as url:
        get(url, "/")
    stub.wait_for(PENDING_LIMIT + 11)
    usage.uninstrument()
    work = [span for span in stub.unique_spans if span.kind == "internal"]
    assert len(work) == PENDING_LIMIT + 10
    assert customers(work).count("acme") == PENDING_LIMIT


def test_threads_that_end_spans_while_the_caller_becomes_known_lose_and_repeat_none(
    switch_on: Callable[..., None], stub: AxiomStub
) -> None:
    switch_on()

    def handler() -> Any:
        start = threading.Barrier(8)

        def work() -> None:
            start.wait(5)
            for number in range(6):
                with usage.usage_span("work"):
                    pass
                if number == 3:
                    acme()

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return {}

    with handled_by(handler) as url:
        get(url, "/")
    stub.wait_for(49)
    usage.uninstrument()
    work = [span for span in stub.spans if span.kind == "internal"]
    assert len(work) == len({span.span_id for span in work}) == 48
    assert customers(work) == ["acme"] * 48


# -- a resolver of the application's -----------------------------------------------------------------------------------


class User:
    def __init__(self, name: str) -> None:
        self.name = name


class AuthenticatingMiddleware:
    """Keeps the user in ``scope["user"]``, as Starlette's own does, and turns strangers down."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            name = dict(scope["headers"]).get(b"x-user")
            if name == b"stranger":
                await PlainTextResponse("no", 401)(scope, receive, send)
                return
            scope["user"] = User(name.decode()) if name else None
        await self.app(scope, receive, send)


def from_user(scope: Mapping[str, Any]) -> usage.UsageIdentity | None:
    user = scope.get("user")
    return usage.UsageIdentity(customer_id=user.name, tier=1, provenance="verified") if user else None


def from_state(scope: Mapping[str, Any]) -> usage.UsageIdentity | None:
    name = scope.get("state", {}).get("customer")
    return usage.UsageIdentity(customer_id=name, tier=1, provenance="verified") if name else None


@pytest.mark.parametrize("resolver", [from_user, from_state])
def test_a_resolver_reads_what_the_application_keeps_of_its_user(
    switch_on: Callable[..., None], stub: AxiomStub, resolver: Any
) -> None:
    async def handler(request: Request) -> Any:
        request.state.customer = request.scope["user"].name if request.scope["user"] else None
        return {}

    switch_on(identity=resolver)
    app = FastAPI()
    app.get("/")(handler)
    with serve_asgi(AuthenticatingMiddleware(app)) as url:  # around the framework, within the server's entry
        for name in ("acme", "", "stranger", "globex"):
            get(url, "/", **({"x-user": name} if name else {}))
    assert customers(requests_of(stub, 4)) == ["acme", None, None, "globex"]


def test_a_request_that_fails_or_is_given_up_is_attributed_by_the_resolver_too(
    switch_on: Callable[..., None], stub: AxiomStub
) -> None:
    async def bare(scope: Any, receive: Any, send: Any) -> None:
        scope["user"] = User(scope["path"].strip("/"))
        if scope["path"] == "/raises":
            raise ValueError
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    switch_on(identity=from_user)
    with serve_asgi(usage.UsageMiddleware(bare), lifespan="off") as url:
        for path in ("/raises", "/cancelled"):
            get(url, path)
    assert customers(requests_of(stub, 2)) == ["raises", "cancelled"]


def test_what_is_said_explicitly_goes_before_the_resolver(switch_on: Callable[..., None], stub: AxiomStub) -> None:
    async def handler() -> Any:
        usage.identify(customer_id="said")
        return {}

    switch_on(identity=lambda scope: usage.UsageIdentity(customer_id="found", tier=3, provenance="verified"))
    with handled_by(handler) as url:
        get(url, "/")
    (span,) = requests_of(stub)
    assert span.attributes["usage.customer.id"] == "said"
    assert "usage.tier" not in span.attributes  # it was that of the customer whom the resolver found


def raising(_scope: Any) -> Any:
    raise RuntimeError(PRINCIPAL)


@pytest.mark.parametrize("resolver", [raising, lambda scope: "acme", lambda: None])
def test_a_resolver_that_fails_costs_the_request_nothing(
    switch_on: Callable[..., None], stub: AxiomStub, resolver: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler() -> Any:
        usage.identify(plan="known")
        return {"served": True}

    before = internal_errors().get("USAGE_IDENTITY", 0)
    switch_on(identity=resolver)
    with handled_by(handler) as url:
        assert get(url, "/").json() == {"served": True}
        stub.wait_for(1)
        assert internal_errors()["USAGE_IDENTITY"] == before + 1
    (span,) = requests_of(stub)
    assert span.attributes["usage.plan"] == "known"
    assert PRINCIPAL not in caplog.text


# -- nonsense ----------------------------------------------------------------------------------------------------------


class Plan(str, Enum):  # noqa: UP042  # what many applications still have
    PRO = "api_pro"


class Kind(str, Enum):  # noqa: UP042  # as above
    KEY = "user_api_key"


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError(PRINCIPAL)

    __repr__ = __str__


BIG = "x" * 1_000_000

NONSENSE: tuple[tuple[dict[str, Any], dict[str, Any], set[str]], ...] = (
    ({"customer_id": "acme", "auth_kind": "telepathy"}, {"usage.customer.id": "acme"}, {"usage.auth.kind"}),
    ({"customer_id": "acme", "auth_kind": ["jwt"]}, {"usage.customer.id": "acme"}, {"usage.auth.kind"}),
    ({"customer_id": "acme", "tier": "gold"}, {"usage.customer.id": "acme"}, {"usage.tier"}),
    ({"customer_id": "acme", "tier": -1}, {"usage.customer.id": "acme"}, {"usage.tier"}),
    ({"customer_id": "acme", "tier": 10**30}, {"usage.customer.id": "acme"}, {"usage.tier"}),
    ({"customer_id": "acme", "plan": 7}, {"usage.customer.id": "acme"}, {"usage.plan"}),
    ({"customer_id": "acme", "plan": BIG}, {"usage.customer.id": "acme"}, {"usage.plan"}),
    ({"customer_id": "acme", "principal": 12345}, {"usage.customer.id": "acme"}, {"usage.principal.id"}),
    ({"customer_id": {"id": 1}, "plan": "p"}, {"usage.plan": "p"}, {"usage.customer.id"}),
    ({"customer_id": Unprintable(), "plan": "p"}, {"usage.plan": "p"}, {"usage.customer.id"}),
    ({"customer_id": True, "plan": "p"}, {"usage.plan": "p"}, {"usage.customer.id"}),
    ({"customer_id": BIG, "plan": "p"}, {"usage.plan": "p"}, {"usage.customer.id"}),
    ({"customer_id": "\ud800", "plan": "p"}, {"usage.plan": "p"}, {"usage.customer.id"}),
    ({"customer_id": "", "plan": "p"}, {"usage.plan": "p"}, set()),
    (
        {"customer_id": "acme", "provenance": "certain"},
        {"usage.customer.id": "acme", "usage.identity.provenance": "unverified"},
        {"usage.identity.provenance"},
    ),
    (
        {"customer_id": "acme", "provenance": None},
        {"usage.customer.id": "acme", "usage.identity.provenance": "unverified"},
        set(),
    ),
    ({"customer_id": 42, "tier": "3"}, {"usage.customer.id": "42", "usage.tier": 3}, set()),
    ({"customer_id": uuid.UUID(int=1)}, {"usage.customer.id": str(uuid.UUID(int=1))}, set()),
    ({"plan": Plan.PRO, "auth_kind": Kind.KEY}, {"usage.plan": "api_pro", "usage.auth.kind": "user_api_key"}, set()),
    ({"tier": 9, "auth_kind": "anon"}, {"usage.tier": 0}, set()),
    (
        {"customer_id": "acme", "plan": "p", "principal": PRINCIPAL, "auth_kind": "anon"},
        {"usage.auth.kind": "anon", "usage.tier": 0},
        {"usage.customer.id", "usage.plan", "usage.principal.id"},
    ),
    ({"tier": 9, "provenance": "unavailable"}, {"usage.identity.provenance": "unavailable"}, set()),
)


@pytest.mark.parametrize(("said", "kept", "dropped"), NONSENSE, ids=range(len(NONSENSE)))
def test_one_bad_argument_is_dropped_and_counted_and_costs_neither_the_request_nor_the_good_ones(
    url: str, usage_on: None, stub: AxiomStub, said: dict[str, Any], kept: dict[str, Any], dropped: set[str]
) -> None:
    before = internal_errors()
    Said.call = staticmethod(lambda: usage.identify(**said))
    assert get(url, "/say").json() == {"served": True}
    stub.wait_for(1)
    assert set(usage.health().attributes_dropped) == dropped
    assert internal_errors() == before
    (span,) = requests_of(stub)
    assert {key: span.attributes.get(key) for key in kept} == kept
    assert not dropped - kept.keys() & span.attributes.keys()


@pytest.mark.parametrize(
    "call",
    [
        lambda: usage.identify(customer="acme"),  # type: ignore[call-arg]  # there is no such argument
        lambda: usage.identify("acme"),  # type: ignore[arg-type]  # not an identity
        lambda: usage.identify(usage.UsageIdentity(customer_id=["x"], tier={}, provenance={})),  # type: ignore[arg-type]
        lambda: usage.identify(1, 2, 3),  # type: ignore[call-arg]  # too many
    ],
)
def test_a_call_that_cannot_be_right_never_fails_a_request(
    url: str, usage_on: None, stub: AxiomStub, call: Callable[[], None]
) -> None:
    Said.call = staticmethod(call)
    assert get(url, "/say").json() == {"served": True}
    (span,) = requests_of(stub)
    assert "usage.customer.id" not in span.attributes


def test_an_application_can_register_kinds_of_its_own(switch_on: Callable[..., None], stub: AxiomStub) -> None:
    async def handler() -> Any:
        usage.identify(customer_id="acme", auth_kind="telepathy")
        return {}

    assert "telepathy" not in AUTH_KINDS
    switch_on(auth_kinds=frozenset({"telepathy"}))
    with handled_by(handler) as url:
        get(url, "/")
    assert requests_of(stub)[0].attributes["usage.auth.kind"] == "telepathy"


def test_without_a_pepper_no_principal_is_recorded(switch_on: Callable[..., None], stub: AxiomStub) -> None:
    async def handler() -> Any:
        acme()
        return {}

    switch_on(key_pepper=None)
    with handled_by(handler) as url:
        get(url, "/")
    assert "usage.principal.id" not in requests_of(stub)[0].attributes


def test_identify_outside_of_any_request_does_nothing(usage_on: None, stub: AxiomStub) -> None:
    before = internal_errors()
    acme()
    assert internal_errors() == before
    with usage.usage_span("afterwards"):
        pass
    (span,) = stub.wait_for(1)
    assert "usage.customer.id" not in span.attributes


@pytest.mark.parametrize("way", ["pool", "thread"])
def test_a_name_given_to_calls_reaches_the_thread_that_makes_them(usage_on: None, stub: AxiomStub, way: str) -> None:
    client = httpx.Client(transport=httpx.MockTransport(lambda _request: httpx.Response(200, text="1")))
    with client, usage.upstream("quotes", "last"):
        if way == "pool":
            with ThreadPoolExecutor(1) as pool:
                pool.submit(client.get, "http://quotes.example/1").result()
        else:
            thread = threading.Thread(target=client.get, args=("http://quotes.example/1",))
            thread.start()
            thread.join()
    assert usage.flush().complete
    (call,) = stub.spans
    assert (call.attributes["usage.provider"], call.attributes["usage.operation"]) == ("quotes", "last")


def test_our_own_threads_belong_to_no_request(usage_on: None, stub: AxiomStub) -> None:
    with usage.usage_span("the first of the process"):
        usage.identify(customer_id="acme")
        usage.record_llm("openai", "gpt-5")  # starts the worker, here
    stub.wait_for(1)
    ours = [thread for thread in threading.enumerate() if thread.name.startswith("otel-usage-worker")]
    assert ours
    assert all("run" not in vars(thread) for thread in ours)
