"""What an application, a server or a client does is the same with usage on, also in the corners."""

from __future__ import annotations

import asyncio
import copy
import gc
import io
import logging
import pickle
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.pool import ThreadPool
from typing import Any
from wsgiref.util import setup_testing_defaults

import httpx
import pytest
from fastapi import FastAPI, WebSocket
from opentelemetry.trace import StatusCode
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

import otel_usage as usage
from otel_usage.request import UsageRequest
from otel_usage.testing import AxiomStub, ReceivedSpan
from otel_usage.testing.faults import Hang
from tests.servers import serve_asgi


def recorded(stub: AxiomStub, kind: str) -> list[ReceivedSpan]:
    assert usage.flush().complete
    return [span for span in stub.spans if span.attributes["usage.kind"] == kind]


def call(app: Any, body: bytes = b"", length: int | None = None) -> bytes:
    """One request to a WSGI application, as a server makes it."""
    environ: dict[str, Any] = {"REQUEST_METHOD": "POST", "CONTENT_LENGTH": str(len(body))}
    setup_testing_defaults(environ)
    environ["wsgi.input"] = io.BytesIO(body)
    answer = app(environ, lambda status, headers, exc_info=None: lambda data: None)
    try:
        return b"".join(answer)
    finally:
        answer.close()


def test_a_body_that_is_read_into_a_buffer_is_counted(usage_on: None, stub: AxiomStub) -> None:
    def app(environ: Any, start_response: Any) -> Any:
        buffer = bytearray(600)
        read = environ["wsgi.input"].readinto(buffer) + len(environ["wsgi.input"].read1(400))
        start_response("200 OK", [("Content-Length", "4")])
        return [str(read).encode()]

    assert call(usage.UsageWSGIMiddleware(app), b"x" * 1000) == b"1000"
    (span,) = recorded(stub, "request")
    assert span.attributes["http.request.body.size"] == 1000


def test_a_wsgi_response_that_is_shorter_than_promised_is_not_ok(usage_on: None, stub: AxiomStub) -> None:
    def app(_environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [("Content-Length", "5000")])
        return iter([b"x" * 100])

    assert len(call(usage.UsageWSGIMiddleware(app))) == 100
    (span,) = recorded(stub, "request")
    assert span.attributes["usage.aborted"] is True
    assert span.attributes["usage.reason"] != "ok"


def test_a_pool_that_a_request_starts_counts_no_later_calls_for_it(usage_on: None, stub: AxiomStub) -> None:
    client = httpx.Client(transport=httpx.MockTransport(lambda _request: httpx.Response(200, text="1")))
    pool = None
    with client:
        for customer in ("first", "second"):
            with usage.usage_span("work"):
                usage.identify(customer_id=customer)
                pool = pool or ThreadPool(1)
                pool.apply(client.get, ("http://quotes.example",))
        assert pool is not None
        pool.close()
        pool.join()
    assert [span.attributes.get("usage.customer.id") for span in recorded(stub, "upstream")] == [None, None]


def test_an_asgi_scope_can_be_copied_deeply(usage_on: None, stub: AxiomStub) -> None:
    async def app(scope: Any, _receive: Any, send: Any) -> None:
        copied = copy.deepcopy({key: value for key, value in scope.items() if key != "app"})
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": copied["path"].encode()})

    with serve_asgi(usage.UsageMiddleware(app), lifespan="off") as url:
        assert httpx.get(f"{url}/copied").text == "/copied"


def test_what_an_asgi_scope_says_can_be_sent_to_another_process(usage_on: None, stub: AxiomStub) -> None:
    async def app(scope: Any, _receive: Any, send: Any) -> None:
        sent = pickle.loads(pickle.dumps(scope))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": sent["path"].encode()})

    with serve_asgi(app, lifespan="off") as url:
        assert httpx.get(f"{url}/sent").text == "/sent"


def test_a_mock_may_read_an_async_clients_body_synchronously(usage_on: None, stub: AxiomStub) -> None:
    transport = httpx.MockTransport(lambda request: httpx.Response(200, content=b"".join(request.stream)))

    async def ask() -> bytes:
        async with httpx.AsyncClient(transport=transport) as client:
            return (await client.post("http://quotes.example", content=b"abc")).content

    assert asyncio.run(ask()) == b"abc"
    (span,) = recorded(stub, "upstream")
    assert span.attributes["http.request.body.size"] == 3


def test_one_request_sent_several_times_at_once_is_counted_each_time(usage_on: None, stub: AxiomStub) -> None:
    app = FastAPI()

    @app.post("/")
    async def size(body: dict[str, str]) -> dict[str, int]:
        await asyncio.sleep(0.05)
        return {"size": len(body["text"])}

    async def hedge(url: str) -> tuple[Any, Any]:
        async with httpx.AsyncClient() as client:
            request = client.build_request("POST", url, json={"text": "x" * 1000})
            own = request.stream
            await asyncio.gather(*(client.send(request) for _ in range(3)))
            return own, request.stream

    with serve_asgi(app) as url:
        before, after = asyncio.run(hedge(url))
    assert after is before
    sizes = {span.attributes["http.request.body.size"] for span in recorded(stub, "upstream")}
    assert sizes == {len('{"text":""}') + 1000}


def test_a_response_that_is_closed_unread_is_recorded(usage_on: None, stub: AxiomStub) -> None:
    def answer(_request: httpx.Request) -> httpx.Response:
        response = httpx.Response(200, content=iter([b"unread"]))
        response.close()
        return response

    with httpx.Client(transport=httpx.MockTransport(answer)) as client:
        client.send(client.build_request("GET", "http://quotes.example"), stream=True).close()
    assert len(recorded(stub, "upstream")) == 1
    assert usage.health().internal_errors == {}


@pytest.mark.parametrize(("code", "reason"), [(1000, "ok"), (1008, "client_error"), (1011, "server_error")])
def test_a_websocket_that_is_closed_with_an_error_is_not_ok(
    usage_on: None, stub: AxiomStub, code: int, reason: str
) -> None:
    app = FastAPI()

    @app.websocket("/ws")
    async def ws(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.close(code)

    with (
        serve_asgi(app) as url,
        connect(f"{url.replace('http', 'ws')}/ws") as socket,
        pytest.raises(ConnectionClosed),
    ):
        socket.recv()
    (span,) = recorded(stub, "request")
    assert span.attributes["usage.reason"] == reason


def test_the_end_of_one_application_does_not_keep_the_loop(switch_on: Callable[..., None], stub: AxiomStub) -> None:
    switch_on(shutdown_timeout=1.0, export_timeout=1.0)
    stub.fail_with(Hang(5))
    turns = 0

    async def run() -> None:
        nonlocal turns
        messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
        sent = []

        async def receive() -> Any:
            return next(messages)

        async def send(message: Any) -> None:
            sent.append(message["type"])

        async def others() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0.01)
                turns += 1

        with usage.usage_span("undelivered"):
            pass
        busy = asyncio.create_task(others())
        await FastAPI()({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send)
        busy.cancel()
        assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]

    asyncio.run(run())
    assert turns > 10  # a loop that was kept would not have turned once
    stub.heal()


@pytest.mark.parametrize("timeout", [float("inf"), float("nan"), None, "soon"])
def test_a_flush_with_no_real_timeout_still_tells_the_truth(usage_on: None, stub: AxiomStub, timeout: Any) -> None:
    with usage.usage_span("work"):
        pass
    report = usage.flush(timeout)
    assert (report.complete, report.accepted, report.queued) == (True, 1, 0)


@pytest.mark.parametrize("timeout", [0, -0.5, float("-inf")])
def test_a_flush_whose_time_is_over_waits_for_nothing(switch_on: Any, stub: AxiomStub, timeout: float) -> None:
    switch_on(schedule_delay=3600.0)
    stub.fail_with(Hang(60))
    with usage.usage_span("work"):
        pass
    started = time.monotonic()
    assert not usage.flush(timeout).complete
    assert time.monotonic() - started < 1.0


def test_a_keyword_made_of_somebodys_data_is_not_logged(usage_on: None, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR), usage.usage_span("work"):
        usage.identify(**{"alice@example.com": 1})
        usage.annotate(colour="red")
    assert "alice" not in caplog.text
    assert "annotate() got an unexpected keyword argument" in caplog.text
    assert "colour" not in caplog.text


def test_a_thread_that_outlives_its_request_does_not_keep_what_the_client_sent(usage_on: None, stub: AxiomStub) -> None:
    release = threading.Event()
    app = FastAPI()

    @app.get("/")
    async def start() -> dict[str, str]:
        threading.Thread(target=release.wait, args=(20,), daemon=False).start()
        return {}

    with serve_asgi(app) as url:
        httpx.get(url, headers={"authorization": "Bearer of-a-customer"})
        deadline = time.monotonic() + 5
        while not any(span.kind == "server" for span in stub.spans) and time.monotonic() < deadline:
            usage.flush()
        gc.collect()
        kept = [request for request in gc.get_objects() if type(request) is UsageRequest]
        assert kept
        assert all(not request.carrier for request in kept)
        release.set()


def test_ids_owe_nothing_to_the_applications_randomness_and_take_nothing_from_it(
    usage_on: None, stub: AxiomStub
) -> None:
    drawn = []
    for _ in range(2):
        random.seed(7)
        with usage.usage_span("work"):
            pass
        drawn.append(random.random())
    random.seed(7)
    assert drawn == [random.random()] * 2
    assert len({span.key for span in recorded(stub, "custom")}) == 2


def test_headers_that_can_be_read_once_reach_the_application(usage_on: None, stub: AxiomStub) -> None:
    seen: list[Any] = []

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        seen.extend(scope["headers"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    async def nothing(*_: Any) -> Any:
        return {"type": "http.disconnect"}

    scope = {"type": "http", "method": "GET", "path": "/", "headers": iter([(b"authorization", b"Bearer x")])}
    asyncio.run(usage.UsageMiddleware(app)(scope, nothing, nothing))
    assert seen == [(b"authorization", b"Bearer x")]


def test_a_name_given_to_calls_ends_with_its_block(usage_on: None, stub: AxiomStub) -> None:
    client = httpx.Client(transport=httpx.MockTransport(lambda _request: httpx.Response(200, text="1")))
    with client, ThreadPoolExecutor(1) as pool:
        with usage.upstream("openai"):
            pool.submit(client.get, "http://first.example").result()
        pool.submit(client.get, "http://billing.example").result()
    assert [span.attributes["usage.provider"] for span in recorded(stub, "upstream")] == ["openai", "billing.example"]


def test_threads_without_a_request_are_left_as_they_are(usage_on: None) -> None:
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join()
    assert "run" not in vars(thread)


def test_the_name_of_a_model_call_is_made_of_what_may_leave(usage_on: None, stub: AxiomStub) -> None:
    usage.record_llm({"key": "hunter2"}, {"messages": "patient"})  # type: ignore[arg-type]  # what is tested
    (span,) = recorded(stub, "llm")
    assert span.name == "llm"


@pytest.mark.parametrize(
    ("first", "then", "expected"),
    [
        ({"customer_id": "claimed", "provenance": "unverified"}, {"tier": 2}, (None, 2)),
        ({"auth_kind": "anon"}, {"customer_id": "acme", "auth_kind": "jwt"}, ("acme", None)),
        ({"customer_id": "admin", "tier": 9, "plan": "ent"}, {"customer_id": "acme"}, ("acme", None)),
    ],
)
def test_what_is_known_of_one_caller_does_not_pass_to_another(
    usage_on: None, stub: AxiomStub, first: Any, then: Any, expected: tuple[Any, Any]
) -> None:
    with usage.usage_span("work"):
        usage.identify(**first)
        usage.identify(**then)
    (span,) = recorded(stub, "custom")
    assert (span.attributes.get("usage.customer.id"), span.attributes.get("usage.tier")) == expected


def test_a_resolver_that_knows_no_tier_is_verified_all_the_same(
    switch_on: Callable[..., None], stub: AxiomStub
) -> None:
    switch_on(identity=lambda _scope: usage.UsageIdentity("acme", auth_kind="jwt", provenance="verified"))
    with serve_asgi(FastAPI()) as url:
        httpx.get(url)
        (span,) = recorded(stub, "request")
    assert span.attributes["usage.identity.provenance"] == "verified"


def test_a_thread_that_was_made_a_daemon_belongs_to_no_request(usage_on: None, stub: AxiomStub) -> None:
    client = httpx.Client(transport=httpx.MockTransport(lambda _request: httpx.Response(200, text="1")))
    with client, usage.usage_span("work"):
        usage.identify(customer_id="acme")
        for daemon in (True, False):
            thread = threading.Thread(target=client.get, args=("http://quotes.example",), daemon=daemon)
            thread.start()
            thread.join()
            assert "run" not in vars(thread)
    assert [span.attributes.get("usage.customer.id") for span in recorded(stub, "upstream")] == [None, "acme"]


def test_a_websocket_lasts_until_it_is_closed_and_not_until_its_last_answer(usage_on: None, stub: AxiomStub) -> None:
    app = FastAPI()

    @app.websocket("/ws")
    async def ws(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text("hello")
        await websocket.receive_text()
        await websocket.receive()

    with serve_asgi(app) as url:
        with connect(f"{url.replace('http', 'ws')}/ws") as socket:
            socket.recv()
            answered = time.time_ns()
            socket.send("thanks")
        (span,) = stub.wait_for(1)
    assert span.end_time > answered


def test_the_input_of_a_wsgi_request_can_be_iterated_and_entered(usage_on: None, stub: AxiomStub) -> None:
    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        with environ["wsgi.input"] as stream:
            return [next(stream), *stream]

    assert call(usage.UsageWSGIMiddleware(app), b"one\ntwo\n") == b"one\ntwo\n"
    (span,) = recorded(stub, "request")
    assert span.attributes["http.request.body.size"] == 8


def test_the_end_of_an_application_does_not_wait_for_its_executor(usage_on: None) -> None:
    release = threading.Event()
    sent: list[str] = []

    async def run() -> None:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        busy = loop.run_in_executor(None, release.wait, 20)
        messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

        async def receive() -> Any:
            return next(messages)

        async def send(message: Any) -> None:
            sent.append(message["type"])

        await FastAPI()({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send)
        assert not busy.done()
        release.set()
        await busy

    asyncio.run(run())
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


def test_the_status_of_a_span_that_has_ended_does_not_change(usage_on: None, stub: AxiomStub) -> None:
    with usage.usage_span("outer"):  # the inner one waits until somebody says who is calling
        with usage.usage_span("inner") as inner:
            pass
        inner.set_status(StatusCode.ERROR)
    assert {span.status_code for span in recorded(stub, "custom")} == {"unset"}
