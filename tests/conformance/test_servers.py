"""Every server stack gives the same usage for the same requests, switched on by hand and with no code.

One process for each stack and mode serves all cases; what an app has to serve is said in ``stacks.py``.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from otel_usage.testing import ReceivedSpan
from tests.outside import facts, outcome
from tests.servers import serve_asgi

from .service import MODES, PATIENCE, Service, serving
from .stacks import STACKS

SECRET = "what-a-customer-wrote"
ANSWER = b"y" * 1234
BODY_SIZES = "http.request.body.size", "http.response.body.size"
WHO = "usage.customer.id", "usage.tier"


@pytest.fixture(scope="module")
def upstream() -> Iterator[str]:
    """The URL of what the apps call."""

    async def answering(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": ANSWER})

    with serve_asgi(answering, lifespan="off") as url:
        yield url


@pytest.fixture(
    scope="module",
    params=[(stack, mode) for stack in STACKS for mode in MODES],
    ids=lambda each: f"{each[0]}-{each[1]}",
)
def running(
    request: pytest.FixtureRequest, upstream: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    stack, mode = request.param
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        with serving(stack, mode, upstream, tmp_path_factory.mktemp("service")) as serves:
            yield serves


@pytest.fixture
def service(request: pytest.FixtureRequest, running: Service) -> Service:
    """The service, for a case that its stack has a place for."""
    case = request.function.__name__.removeprefix("test_").replace("_", " ")
    reason = running.stack.cannot.get(case)
    if reason is not None:
        request.node.add_marker(pytest.mark.xfail(reason=reason, run=False))
    return running


def test_plain_answer(service: Service) -> None:
    answer, span = service.ask("GET", "/")
    assert answer.text == "hello"
    assert facts(span, "http.request.method", "http.route", *BODY_SIZES) == ("GET", "/", 0, 5)
    assert outcome(span) == (200, "ok", None, None)
    assert span.kind == "server"
    assert not span.parent_span_id


def test_route_template(service: Service) -> None:
    answer, span = service.ask("GET", "/items/17")
    assert facts(span, "http.route", *BODY_SIZES) == (service.stack.item, 0, len(answer.content))


def test_template_of_a_mounted_part(service: Service) -> None:
    answer, span = service.ask("GET", "/inner/a/items/17")
    assert answer.status_code == 200
    assert facts(span, "http.route") == (service.stack.inner,)


def test_head(service: Service) -> None:
    _, span = service.ask("HEAD", "/status/404")
    assert facts(span, "http.request.method", BODY_SIZES[1])[0] == "HEAD"
    assert span.attributes["http.response.status_code"] in (404, 405)


def test_no_route(service: Service) -> None:
    answer, span = service.ask("GET", "/nowhere/at-all?key=secret")
    assert answer.status_code == 404
    assert facts(span, "http.response.status_code", "usage.reason", "http.route") == (404, "unknown_route", None)


def test_method_not_allowed(service: Service) -> None:
    answer, span = service.ask("DELETE", "/items/17")
    assert answer.status_code == 405
    assert facts(span, "http.response.status_code", "usage.reason") == (405, "method_not_allowed")


def test_bodies_are_counted(service: Service) -> None:
    sent = b"z" * 100_000
    answer, span = service.ask("POST", "/echo", content=sent)
    assert answer.content == sent
    assert facts(span, *BODY_SIZES) == (len(sent), len(sent))


def test_chunked_request_body(service: Service) -> None:
    answer, span = service.ask("POST", "/echo", content=iter([b"z" * 1000] * 20))
    assert len(answer.content) == 20_000
    assert facts(span, *BODY_SIZES) == (20_000, 20_000)


def test_empty_answer(service: Service) -> None:
    answer, span = service.ask("GET", "/empty")
    assert answer.status_code == 204
    assert facts(span, BODY_SIZES[1]) == (0,)
    assert outcome(span) == (204, "ok", None, None)


def test_redirect(service: Service) -> None:
    _, span = service.ask("GET", "/moved")
    assert outcome(span) == (302, "ok", None, None)


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (400, "malformed_request"),
        (401, "auth_401"),
        (404, "not_found"),
        (429, "rate_limit_429"),
        (500, "server_error"),
        (503, "server_error"),
    ],
)
def test_statuses(service: Service, status: int, reason: str) -> None:
    _, span = service.ask("GET", f"/status/{status}")
    assert facts(span, "http.response.status_code", "usage.reason") == (status, reason)


def test_refused_by_the_framework(service: Service) -> None:
    answer, span = service.ask("GET", "/refused")
    assert answer.status_code == 403
    assert facts(span, "http.response.status_code", "usage.reason", "http.route") == (403, "auth_403", "/refused")


def test_exception(service: Service) -> None:
    answer, span = service.ask("GET", "/broken")
    assert answer.status_code == 500
    assert outcome(span) == (500, "unhandled_exception", None, "RuntimeError")
    assert facts(span, "http.route") == ("/broken",)
    assert SECRET not in repr(span)


def test_streamed_answer(service: Service) -> None:
    answer, span = service.ask("GET", "/stream")
    assert len(answer.content) == 5000
    assert facts(span, BODY_SIZES[1]) == (5000,)
    assert outcome(span) == (200, "ok", None, None)
    whole, first = (span.end_time - span.start_time) / 1e9, span.attributes["usage.time_to_first_byte"]
    assert float(str(first)) < whole - 0.05, "the span lasts to the last byte"


def test_exception_while_streaming(service: Service) -> None:
    number = service.new_id()
    told = service.stack.says_where_a_stream_breaks
    with pytest.raises(httpx.RemoteProtocolError) if told else contextlib.nullcontext():
        httpx.get(f"{service.url}/stream-broken", headers={"x-request-id": number})
    span = service.span(number)
    assert facts(span, "http.response.status_code", "usage.reason", "error.type") == (
        200, "unhandled_exception", "RuntimeError",
    )  # fmt: skip
    assert SECRET not in repr(span)


def test_client_that_leaves_while_it_is_answered(service: Service) -> None:
    number = service.new_id()
    leave(service, "/forever", number, after=2000)
    span = service.span(number)
    assert facts(span, "http.response.status_code", "usage.aborted") == (200, True)
    assert 1000 <= int(str(span.attributes[BODY_SIZES[1]])) < 1_000_000


def test_client_that_leaves_before_it_is_answered(service: Service) -> None:
    number = service.new_id()
    leave(service, "/slow", number, after=0)
    span = service.span(number)
    assert facts(span, "http.route", "http.request.method") == ("/slow", "GET")


def leave(service: Service, path: str, number: str, *, after: int) -> None:
    """Ask for something, read so much of the answer, and be gone."""
    with socket.create_connection(("127.0.0.1", service.port), PATIENCE) as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nhost: x\r\nx-request-id: {number}\r\n\r\n".encode())
        read = 0
        while read < after:
            read += len(client.recv(1000))
        if not after:
            time.sleep(0.2)  # the handler is at work by now


def test_identity_from_the_handler(service: Service) -> None:
    _, span = service.ask("GET", "/as/acme")
    assert facts(span, *WHO, "usage.plan") == ("acme", 1, "pro")


def test_identity_from_a_middleware(service: Service) -> None:
    _, span = service.ask("GET", "/deep/acme")
    assert facts(span, *WHO) == ("acme", 1)


def test_identity_from_a_thread(service: Service) -> None:
    _, span = service.ask("GET", "/thread/acme")
    assert facts(span, *WHO) == ("acme", 1)


def test_upstream_call(service: Service) -> None:
    answer, span = service.ask("GET", "/upstream")
    assert answer.text == str(len(ANSWER))
    assert facts(span, "usage.upstream.count", "usage.upstream.response.size") == (1, len(ANSWER))
    (call,) = service.children_of(span)
    assert call.trace_id == span.trace_id
    assert facts(call, "usage.kind", "usage.route", BODY_SIZES[1]) == ("upstream", "/upstream", len(ANSWER))


def test_work_after_the_answer(service: Service) -> None:
    _, span = service.ask("GET", "/background/acme")
    (work,) = service.children_of(span)
    (call,) = service.children_of(work)
    for each in (work, call):
        assert facts(each, *WHO, "usage.request.id") == ("acme", 1, span.attributes["usage.request.id"])
    assert (work.name, call.attributes["usage.kind"]) == ("afterwards", "upstream")


def test_concurrent_requests(service: Service) -> None:
    def as_customer(number: int) -> tuple[str, ReceivedSpan]:
        answer, span = service.ask("GET", f"/as/customer-{number}")
        return answer.text, span

    with ThreadPoolExecutor(16) as clients:
        for customer, span in clients.map(as_customer, range(48)):
            assert facts(span, *WHO) == (customer, 1)


def test_web_socket(service: Service) -> None:
    number = service.new_id()
    with connect(f"ws://127.0.0.1:{service.port}/ws", additional_headers={"x-request-id": number}) as socket:
        for text in ("one", "two", "three"):
            socket.send(text)
            assert socket.recv(PATIENCE) == text
        socket.send("bye")
    span = service.span(number)
    assert facts(span, "http.route", *BODY_SIZES) == ("/ws", 14, 11)
    assert outcome(span) == (101, "ok", None, None)


def test_server_sent_events(service: Service) -> None:
    answer, span = service.ask("GET", "/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.text.count("data: ") == 3
    assert facts(span, "http.route", BODY_SIZES[1]) == ("/events", len(answer.content))


def test_every_request_is_one_span_and_nothing_else_is(service: Service) -> None:
    """The last case: by now all of the above has been asked, and the process is stopped."""
    service.stop()
    requests = [span for span in service.sink.unique_spans if span.kind == "server"]
    found = Counter(span.attributes.get("usage.client.request_id") for span in requests)
    assert found == Counter(service.asked)
