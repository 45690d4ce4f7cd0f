"""Every request to an ASGI server becomes exactly one request span, whatever happens to it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, BackgroundTasks, FastAPI, HTTPException, Request, WebSocket
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import PlainTextResponse, RedirectResponse, Response, StreamingResponse
from fastapi.staticfiles import StaticFiles
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.routing import Mount, Route, Router, WebSocketRoute
from starlette.websockets import WebSocketDisconnect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

import otel_usage as usage
from otel_usage.testing import AxiomStub
from tests.outside import Outside, facts, outcome, outside, requests_of, the_request
from tests.servers import serve_asgi

CHUNK = b"x" * 1000
PAUSE = 0.05
SECRET = "the customer's own words"

REJECTIONS = {401: "auth_401", 403: "auth_403", 429: "rate_limit_429"}


class RejectingMiddleware:
    """Pure ASGI: turns a request down with the status that it asks for."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        asked = dict(scope.get("headers", ())).get(b"x-reject")
        if asked is None:
            await self.app(scope, receive, send)
        else:
            usage.identify(customer_id="rejected", tier=1, auth_kind="jwt")
            await PlainTextResponse("no", int(asked))(scope, receive, send)


async def reject_around(request: Request, call_next: Any) -> Any:
    asked = request.headers.get("x-reject-around")
    return Response(status_code=int(asked)) if asked else await call_next(request)


async def ticking(parts: int) -> AsyncIterator[bytes]:
    for part in range(parts):
        if part:
            await asyncio.sleep(PAUSE)
        yield CHUNK


async def breaking() -> AsyncIterator[bytes]:
    yield CHUNK
    raise ValueError(SECRET)


def application(static: Path) -> FastAPI:  # noqa: C901  # many small routes
    app = FastAPI(lifespan=lifespan)
    app.add_middleware(CORSMiddleware, allow_origins=["https://good.example"])
    app.add_middleware(RejectingMiddleware)
    app.add_middleware(BaseHTTPMiddleware, dispatch=reject_around)

    @app.get("/plain")
    async def plain() -> Any:
        return PlainTextResponse("hello")

    @app.get("/not-modified")
    async def not_modified() -> Any:
        return Response(status_code=304)

    @app.get("/moved")
    async def moved() -> Any:
        return RedirectResponse("/plain")

    @app.get("/stream")
    async def stream() -> Any:
        return StreamingResponse(ticking(3))

    @app.get("/boom")
    async def boom() -> Any:
        raise ValueError(SECRET)

    @app.get("/gone")
    async def gone() -> Any:
        raise HTTPException(404)

    @app.get("/unavailable")
    async def unavailable() -> Any:
        raise HTTPException(503)

    @app.post("/upload")
    async def upload(request: Request) -> Any:
        return {"size": len(await request.body())}

    @app.post("/unread")
    async def unread() -> Any:
        return {}

    @app.get("/later")
    async def later(tasks: BackgroundTasks) -> Any:
        async def work() -> None:
            await asyncio.sleep(0.2)
            usage.identify(customer_id="known-later", tier=3)

        tasks.add_task(work)
        return PlainTextResponse("done")

    @app.get("/later-boom")
    async def later_boom(tasks: BackgroundTasks) -> Any:
        def work() -> None:
            raise ValueError(SECRET)

        tasks.add_task(work)
        return PlainTextResponse("done")

    @app.get("/who")
    async def who(name: str | None = None) -> Any:
        if name is not None:
            usage.identify(customer_id=name, tier=1)
            await asyncio.sleep(0.01)
        return PlainTextResponse(name or "nobody")

    @app.websocket("/ws/{room}")
    async def talk(socket: WebSocket, room: str) -> None:
        await socket.accept()
        usage.identify(customer_id=room)
        try:
            while True:
                message = await socket.receive_text()
                if message == "boom":
                    raise ValueError(SECRET)
                if message == "close":
                    await socket.close()
                    return
                await socket.send_text(message * 2)
                await socket.send_bytes(b"\x00")
        except WebSocketDisconnect:
            return

    @app.websocket("/ws-denied")
    async def denied(socket: WebSocket) -> None:
        await socket.close()

    @app.websocket("/ws-answered")
    async def answered(socket: WebSocket) -> None:
        await socket.send_denial_response(PlainTextResponse("too many", 429))

    inner, outer = APIRouter(prefix="/inner"), APIRouter(prefix="/v1/shops/{shop}")

    @inner.get("/items/{item}")
    async def item(shop: str, item: str) -> Any:
        return {}

    @inner.websocket("/ws/{room}")
    async def prefixed(socket: WebSocket, shop: str, room: str) -> None:
        await socket.accept()
        await socket.close()

    outer.include_router(inner)
    app.include_router(outer)

    sub = FastAPI()

    @sub.get("/things/{thing}")
    async def thing(thing: str) -> Any:
        return {}

    @sub.get("/gone")
    async def sub_gone() -> Any:
        raise HTTPException(404)

    app.mount("/sub", sub)
    app.mount("/tenants/{tenant}", sub)
    app.mount("/static", StaticFiles(directory=static))
    deep = Router([Route("/leaf/{number:int}", plain_endpoint)])
    app.mount("/deep", Router([Mount("/er", app=deep)]))
    return app


async def plain_endpoint(request: Request) -> Response:
    return PlainTextResponse("hello")


class Life:
    """What the lifespan of the application was seen to do."""

    started = 0


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, str]]:
    Life.started += 1
    yield {"from_lifespan": "yes"}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    static = tmp_path_factory.mktemp("static")
    (static / "file.txt").write_bytes(CHUNK)
    with serve_asgi(application(static)) as address:
        yield address


@pytest.fixture
def client(url: str, usage_on: None) -> Iterator[httpx.Client]:
    # The client's own calls must not be recorded: it plays somebody else.
    with httpx.Client(base_url=url, transport=Outside()) as outside:
        yield outside


def raw(url: str, request: bytes) -> socket.socket:
    host, _, port = url.removeprefix("http://").partition(":")
    connection = socket.create_connection((host, int(port)), timeout=5)
    connection.sendall(request)
    return connection


# -- how it ended ------------------------------------------------------------------------------------------------------


def test_a_success_is_one_span_with_its_route_bytes_and_reason(client: httpx.Client, stub: AxiomStub) -> None:
    assert client.get("/plain").text == "hello"
    span = the_request(stub)
    assert (span.name, span.status_code, span.parent_span_id) == ("GET /plain", "unset", None)
    assert outcome(span) == (200, "ok", None, None)
    assert facts(span, "http.route", "http.request.method", "server.address", "usage.domain") == (
        "/plain", "GET", "127.0.0.1", "plain",
    )  # fmt: skip
    assert facts(span, "http.request.body.size", "http.response.body.size") == (0, 5)
    assert 0 < span.attributes["usage.time_to_first_byte"] * 1e9 <= span.duration


def test_a_304_is_not_modified_and_has_no_bytes(client: httpx.Client, stub: AxiomStub) -> None:
    assert client.get("/not-modified").status_code == 304
    span = the_request(stub)
    assert outcome(span) == (304, "not_modified", None, None)
    assert facts(span, "http.response.body.size") == (0,)


def test_a_redirect_is_a_success(client: httpx.Client, stub: AxiomStub) -> None:
    assert client.get("/moved").status_code == 307
    assert outcome(the_request(stub)) == (307, "ok", None, None)


def test_a_stream_is_measured_to_its_last_byte(client: httpx.Client, stub: AxiomStub) -> None:
    assert len(client.get("/stream").content) == 3 * len(CHUNK)
    span = the_request(stub)
    assert facts(span, "http.response.body.size") == (3 * len(CHUNK),)
    assert span.duration >= 2 * PAUSE * 1e9
    assert span.attributes["usage.time_to_first_byte"] < PAUSE


def test_an_exception_in_the_handler_is_a_500_and_its_message_goes_nowhere(
    client: httpx.Client, stub: AxiomStub
) -> None:
    assert client.get("/boom").status_code == 500
    span = the_request(stub)
    assert outcome(span) == (500, "unhandled_exception", None, "ValueError")
    assert span.status_code == "error"
    assert span.attributes["http.route"] == "/boom"
    assert SECRET not in repr(span)


def test_an_exception_in_the_middle_of_a_stream_is_an_aborted_error(
    switch_on: Callable[..., None], stub: AxiomStub
) -> None:
    app = FastAPI()

    @app.get("/boom-in-stream")
    async def boom_in_stream() -> Any:
        return StreamingResponse(breaking())

    switch_on()
    with serve_asgi(app) as url, pytest.raises(httpx.RemoteProtocolError):
        outside(url, "/boom-in-stream")
    span = the_request(stub)
    assert outcome(span) == (200, "unhandled_exception", True, "ValueError")
    assert span.status_code == "error"
    assert facts(span, "http.response.body.size") == (len(CHUNK),)
    assert SECRET not in repr(span)


@pytest.mark.parametrize("around", [False, True])
def test_a_client_that_leaves_in_the_middle_of_a_stream_has_aborted_it(
    switch_on: Callable[..., None], stub: AxiomStub, around: bool
) -> None:
    app = FastAPI()
    if around:
        app.add_middleware(BaseHTTPMiddleware, dispatch=reject_around)

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield CHUNK
            await asyncio.sleep(0.005)

    @app.get("/endless")
    async def stream() -> Any:
        usage.identify(customer_id="leaver")
        return StreamingResponse(endless())

    switch_on()
    with serve_asgi(app) as url:
        connection = raw(url, b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
        connection.recv(4096)
        connection.close()
        span = the_request(stub)
    assert outcome(span)[:3] == (200, "client_aborted", True)
    assert span.status_code == "unset"
    assert span.attributes["usage.customer.id"] == "leaver"
    assert span.attributes["http.response.body.size"] >= len(CHUNK)


def test_a_client_that_leaves_in_the_middle_of_its_upload_has_aborted_it(
    url: str, usage_on: None, stub: AxiomStub
) -> None:
    connection = raw(url, b"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nhalf")
    connection.close()
    span = the_request(stub)
    assert outcome(span) == (None, "client_aborted", True, "starlette.requests.ClientDisconnect")
    assert facts(span, "http.request.body.size", "http.route") == (4, "/upload")
    assert span.status_code == "unset"


def test_a_route_that_is_not_there_has_a_reason_of_its_own(client: httpx.Client, stub: AxiomStub) -> None:
    assert client.get("/no/such/thing").status_code == 404
    span = the_request(stub)
    assert outcome(span) == (404, "unknown_route", None, None)
    assert (span.name, span.attributes.get("http.route")) == ("GET", None)


def test_a_404_of_a_handler_is_not_found(client: httpx.Client, stub: AxiomStub) -> None:
    assert client.get("/gone").status_code == 404
    assert outcome(the_request(stub)) == (404, "not_found", None, None)


def test_a_wrong_method_is_405_and_has_its_route(client: httpx.Client, stub: AxiomStub) -> None:
    assert client.post("/plain").status_code == 405
    span = the_request(stub)
    assert outcome(span) == (405, "method_not_allowed", None, None)
    assert facts(span, "http.route", "http.request.method") == ("/plain", "POST")


def test_a_503_of_a_handler_is_an_error_of_the_server(client: httpx.Client, stub: AxiomStub) -> None:
    assert client.get("/unavailable").status_code == 503
    span = the_request(stub)
    assert outcome(span) == (503, "server_error", None, "503")
    assert span.status_code == "error"


@pytest.mark.parametrize(
    ("origin", "status", "reason"),
    [("https://good.example", 200, "preflight"), ("https://bad.example", 400, "cors_error")],
)
def test_a_preflight_is_told_from_its_refusal(
    client: httpx.Client, stub: AxiomStub, origin: str, status: int, reason: str
) -> None:
    headers = {"Origin": origin, "Access-Control-Request-Method": "GET"}
    assert client.options("/plain", headers=headers).status_code == status
    span = the_request(stub)
    assert outcome(span) == (status, reason, None, None)
    # Nobody was identified, and anybody may send any Origin.
    assert facts(span, "http.request.method", "usage.origin.kind") == ("OPTIONS", None)


@pytest.mark.parametrize("status", REJECTIONS)
@pytest.mark.parametrize("header", ["x-reject", "x-reject-around"])
def test_a_rejection_by_an_inner_middleware_is_counted(
    client: httpx.Client, stub: AxiomStub, header: str, status: int
) -> None:
    assert client.get("/plain", headers={header: str(status)}).status_code == status
    span = the_request(stub)
    assert outcome(span) == (status, REJECTIONS[status], None, None)
    assert span.attributes.get("usage.customer.id") == ("rejected" if header == "x-reject" else None)


def test_a_background_task_belongs_to_the_request_and_not_to_its_duration(
    client: httpx.Client, stub: AxiomStub
) -> None:
    assert client.get("/later").text == "done"
    span = the_request(stub)
    assert outcome(span) == (200, "ok", None, None)
    assert span.duration < 0.2e9
    assert facts(span, "usage.customer.id", "usage.tier") == ("known-later", 3)


def test_an_exception_in_a_background_task_is_not_the_responses(client: httpx.Client, stub: AxiomStub) -> None:
    assert client.get("/later-boom").status_code == 200
    span = the_request(stub)
    assert outcome(span) == (200, "ok", None, "ValueError")
    assert span.status_code == "unset"


# -- bytes -------------------------------------------------------------------------------------------------------------


def test_the_bytes_of_a_request_are_counted(client: httpx.Client, stub: AxiomStub) -> None:
    body = "ü" * 5000
    assert client.post("/upload", content=body.encode()).json() == {"size": 10_000}
    assert facts(the_request(stub), "http.request.body.size") == (10_000,)


def test_the_bytes_of_a_chunked_upload_are_counted(client: httpx.Client, stub: AxiomStub) -> None:
    assert client.post("/upload", content=iter([CHUNK] * 7)).json() == {"size": 7000}
    assert facts(the_request(stub), "http.request.body.size") == (7000,)


def test_a_body_that_nobody_reads_is_not_counted(client: httpx.Client, stub: AxiomStub) -> None:
    assert client.post("/unread", content=CHUNK).status_code == 200
    assert facts(the_request(stub), "http.request.body.size") == (0,)


def test_the_answer_to_head_has_no_bytes(switch_on: Callable[..., None], stub: AxiomStub) -> None:
    switch_on()
    with (
        serve_asgi(Starlette(routes=[Route("/things/{thing}", plain_endpoint)])) as url,
        httpx.Client(transport=Outside()) as client,
    ):
        answer = client.head(f"{url}/things/1")
    assert answer.headers["content-length"] == "5"
    span = the_request(stub)
    assert outcome(span) == (200, "ok", None, None)
    assert facts(span, "http.response.body.size", "http.request.method", "http.route") == (0, "HEAD", "/things/{thing}")


# -- templates ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "template", "domain", "outcome_of_it"),
    [
        ("/v1/shops/7/inner/items/9", "/v1/shops/{shop}/inner/items/{item}", "shops", (200, "ok")),
        ("/sub/things/1", "/sub/things/{thing}", "sub", (200, "ok")),
        ("/sub/gone", "/sub/gone", "sub", (404, "not_found")),
        ("/sub/no/such/thing", "/sub/{path}", "sub", (404, "unknown_route")),
        ("/tenants/acme/things/1", "/tenants/{tenant}/things/{thing}", "tenants", (200, "ok")),
        ("/static/file.txt", "/static/{path}", "static", (200, "ok")),
        ("/static/none.txt", "/static/{path}", "static", (404, "not_found")),
        ("/deep/er/leaf/3", "/deep/er/leaf/{number}", "deep", (200, "ok")),
        ("/deep/er/leaf/three", "/deep/er/{path}", "deep", (404, "unknown_route")),
    ],
)
def test_a_route_is_recorded_as_its_template(
    client: httpx.Client, stub: AxiomStub, path: str, template: str, domain: str, outcome_of_it: tuple[int, str]
) -> None:
    client.get(path)
    span = the_request(stub)
    assert facts(span, "http.route", "usage.domain") == (template, domain)
    assert facts(span, "http.response.status_code", "usage.reason") == outcome_of_it
    assert path not in repr(span) or path == template


def test_a_file_is_counted_to_its_last_byte(client: httpx.Client, stub: AxiomStub) -> None:
    assert client.get("/static/file.txt").content == CHUNK
    assert facts(the_request(stub), "http.response.body.size") == (len(CHUNK),)


def test_a_file_that_is_mounted_at_the_root_has_a_template(
    switch_on: Callable[..., None], stub: AxiomStub, tmp_path: Path
) -> None:
    switch_on()
    (tmp_path / "file.txt").write_bytes(CHUNK)
    with serve_asgi(Starlette(routes=[Mount("/", StaticFiles(directory=tmp_path))])) as url:
        outside(url, "/file.txt", "/none.txt")
    found, missing = requests_of(stub, 2)
    assert facts(found, "http.route", "usage.reason") == ("/{path}", "ok")
    assert facts(missing, "http.route", "usage.reason") == ("/{path}", "not_found")


# -- ways in -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("times", [1, 2])
def test_a_wrapped_framework_is_still_observed_once(
    switch_on: Callable[..., None], stub: AxiomStub, times: int
) -> None:
    switch_on()
    app: Any = FastAPI()

    @app.get("/plain")
    async def plain() -> Any:
        return {}

    for _ in range(times):
        app = usage.UsageMiddleware(app)
    with serve_asgi(app) as url:
        outside(url, "/plain")
    assert the_request(stub).attributes["http.route"] == "/plain"


def test_the_lifespan_of_an_application_is_left_alone(client: httpx.Client, stub: AxiomStub) -> None:
    assert Life.started == 1
    client.get("/plain")
    the_request(stub)


async def silent(scope: Any, receive: Any, send: Any) -> None:
    """A bare ASGI application, by its paths."""
    if scope["type"] != "http":
        return
    match scope["path"]:
        case "/nothing":
            return
        case "/raises":
            raise ValueError(SECRET)
        case "/cancelled":
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)
        case "/exits":
            raise SystemExit(SECRET)
        case "/cut":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": CHUNK, "more_body": True})
        case "/once":
            headers = ((name, value) for name, value in [(b"x-mine", b"1"), (b"Cache-Control", b"no-store")])
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": CHUNK})
        case _:
            await send(START)
            await send({"type": "http.response.body"})


START = {"type": "http.response.start", "status": 204, "headers": []}


@pytest.fixture
def bare(usage_on: None) -> Iterator[str]:
    with serve_asgi(usage.UsageMiddleware(silent), lifespan="off") as address:
        yield address


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/nothing", (500, "server_error", None, "500")),
        ("/raises", (500, "unhandled_exception", None, "ValueError")),
        ("/exits", (500, "unhandled_exception", None, "SystemExit")),
        ("/cancelled", (500, "server_error", None, "asyncio.exceptions.CancelledError")),
    ],
)
def test_a_bare_application_that_does_not_answer_is_recorded(
    bare: str, stub: AxiomStub, path: str, expected: tuple[Any, ...]
) -> None:
    assert outside(bare, path)[0].status_code == 500
    span = the_request(stub)
    assert outcome(span) == expected
    assert SECRET not in repr(span)


def test_a_bare_application_that_stops_half_way_is_recorded(bare: str, stub: AxiomStub) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        outside(bare, "/cut")
    span = the_request(stub)
    assert outcome(span) == (200, "server_error", True, None)
    assert (span.status_code, span.attributes["http.response.body.size"]) == ("error", len(CHUNK))


def test_headers_that_can_be_read_once_still_arrive(bare: str, stub: AxiomStub) -> None:
    assert outside(bare, "/once")[0].headers["x-mine"] == "1"
    assert facts(the_request(stub), "usage.cache.tier") == ("no-store",)


@pytest.mark.parametrize("on", [True, False])
def test_the_development_header_is_sent_where_it_is_switched_on(
    switch_on: Callable[..., None], stub: AxiomStub, on: bool
) -> None:
    switch_on(dev_header=on)
    with serve_asgi(usage.UsageMiddleware(silent), lifespan="off") as url:
        answers = outside(url, "/empty", "/empty")
    assert [answer.headers.get_list("x-usage-telemetry") for answer in answers] == [["ok"] if on else []] * 2
    assert START["headers"] == [], "the application's own message was changed"
    requests_of(stub, 2)


def test_usage_that_is_off_leaves_an_application_as_it_is(stub: AxiomStub) -> None:
    with serve_asgi(usage.UsageMiddleware(silent), lifespan="off") as url:
        assert outside(url, "/empty")[0].status_code == 204
    assert stub.spans == []


# -- one connection, many requests -------------------------------------------------------------------------------------


def test_an_identity_does_not_reach_the_next_request_on_its_connection(client: httpx.Client, stub: AxiomStub) -> None:
    for path in ("/who?name=acme", "/who", "/who?name=globex", "/who"):
        assert client.get(path).status_code == 200
    found = sorted(requests_of(stub, 4), key=lambda span: span.start_time)
    assert [span.attributes.get("usage.customer.id") for span in found] == ["acme", None, "globex", None]


def test_fifty_requests_at_once_do_not_mix(url: str, usage_on: None, stub: AxiomStub) -> None:
    everybody = threading.Barrier(50)

    def ask(number: int) -> str:
        everybody.wait(10)
        return outside(url, f"/who?name=customer-{number}", **{"x-request-id": f"ask-{number}"})[0].text

    with ThreadPoolExecutor(50) as pool:
        names = list(pool.map(ask, range(50)))
    assert names == [f"customer-{number}" for number in range(50)]
    found = requests_of(stub, 50)
    pairs = {facts(span, "usage.client.request_id", "usage.customer.id") for span in found}
    assert pairs == {(f"ask-{number}", f"customer-{number}") for number in range(50)}
    assert len({span.trace_id for span in found}) == 50
    assert len({span.attributes["usage.request.id"] for span in found}) == 50


# -- WebSocket ---------------------------------------------------------------------------------------------------------


def test_a_websocket_connection_is_one_record_of_the_bytes_both_ways(url: str, usage_on: None, stub: AxiomStub) -> None:
    with connect(f"ws{url.removeprefix('http')}/ws/kitchen") as ws:
        for _ in range(3):
            ws.send("grün")
            assert (ws.recv(), ws.recv()) == ("grüngrün", b"\x00")
    span = the_request(stub)
    assert outcome(span) == (101, "ok", None, None)
    assert facts(span, "http.route", "usage.customer.id") == ("/ws/{room}", "kitchen")
    assert facts(span, "http.request.body.size", "http.response.body.size") == (3 * 5, 3 * (10 + 1))


def test_a_websocket_that_the_application_leaves_open_is_complete(
    switch_on: Callable[..., None], stub: AxiomStub
) -> None:
    async def greet(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text("hello")

    switch_on()
    app = Starlette(routes=[WebSocketRoute("/greet", greet)])
    with serve_asgi(app) as url, connect(f"ws{url.removeprefix('http')}/greet") as ws:
        assert ws.recv() == "hello"
    assert outcome(the_request(stub)) == (101, "ok", None, None)


@pytest.mark.parametrize("code", [1000, 1001, None])
def test_a_websocket_that_its_client_closes_is_complete(
    url: str, usage_on: None, stub: AxiomStub, code: int | None
) -> None:
    with connect(f"ws{url.removeprefix('http')}/ws/kitchen") as ws:
        # Without a code: as a browser's close() does it.
        ws.socket.sendall(b"\x88\x80\0\0\0\0") if code is None else ws.close(code)
        span = the_request(stub)
    assert outcome(span) == (101, "ok", None, None)


def test_a_websocket_that_the_application_closes_is_complete(url: str, usage_on: None, stub: AxiomStub) -> None:
    with connect(f"ws{url.removeprefix('http')}/ws/kitchen") as ws:
        ws.send("close")
        with pytest.raises(ConnectionClosed):
            ws.recv()
    assert outcome(the_request(stub)) == (101, "ok", None, None)


def test_a_websocket_route_of_a_router_has_its_prefix(url: str, usage_on: None, stub: AxiomStub) -> None:
    with connect(f"ws{url.removeprefix('http')}/v1/shops/3/inner/ws/kitchen"):
        pass
    assert facts(the_request(stub), "http.route") == ("/v1/shops/{shop}/inner/ws/{room}",)


@pytest.mark.parametrize(
    ("path", "status", "reason"), [("/ws-denied", 403, "auth_403"), ("/ws-answered", 429, "rate_limit_429")]
)
def test_a_websocket_that_is_denied_has_the_status_of_its_denial(
    url: str, usage_on: None, stub: AxiomStub, path: str, status: int, reason: str
) -> None:
    with pytest.raises(InvalidStatus) as denied, connect(f"ws{url.removeprefix('http')}{path}"):
        pass
    assert denied.value.response.status_code == status
    assert outcome(the_request(stub)) == (status, reason, None, None)


def test_a_websocket_that_is_lost_was_aborted(url: str, usage_on: None, stub: AxiomStub) -> None:
    with connect(f"ws{url.removeprefix('http')}/ws/kitchen") as ws:
        ws.send("hello")
        ws.recv()
        ws.socket.shutdown(socket.SHUT_RDWR)
        span = the_request(stub)
    assert outcome(span)[:3] == (101, "client_aborted", True)
    assert facts(span, "http.request.body.size") == (5,)


def test_an_exception_in_a_websocket_is_an_error(url: str, usage_on: None, stub: AxiomStub) -> None:
    with connect(f"ws{url.removeprefix('http')}/ws/kitchen") as ws:
        ws.send("boom")
        with pytest.raises(ConnectionClosed):
            ws.recv()
    span = the_request(stub)
    assert outcome(span) == (101, "unhandled_exception", True, "ValueError")
    assert span.status_code == "error"


def test_a_bare_starlette_websocket_has_its_template(switch_on: Callable[..., None], stub: AxiomStub) -> None:
    async def echo(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text(await socket.receive_text())

    switch_on()
    app = Starlette(routes=[WebSocketRoute("/echo/{name}", echo)])
    with serve_asgi(app) as url, connect(f"ws{url.removeprefix('http')}/echo/a") as ws:
        ws.send("hello")
        assert ws.recv() == "hello"
    span = the_request(stub)
    assert outcome(span) == (101, "ok", None, None)
    assert facts(span, "http.route") == ("/echo/{name}",)
