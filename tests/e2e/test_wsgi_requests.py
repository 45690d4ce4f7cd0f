"""Every request to a WSGI server becomes exactly one request span, whatever happens to it."""

from __future__ import annotations

import socket
import threading
import time
import wsgiref.util
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from wsgiref.types import StartResponse

import flask
import httpx
import pytest
from a2wsgi import WSGIMiddleware
from fastapi import FastAPI
from gunicorn.http.body import Body, LengthReader
from gunicorn.http.unreader import IterUnreader

import otel_usage as usage
from otel_usage.testing import AxiomStub
from tests.outside import Outside, facts, outcome, outside, requests_of, the_request
from tests.servers import serve_asgi, serve_wsgi

CHUNK = b"x" * 1000
PAUSE = 0.05
SECRET = "the customer's own words"
LEFT = threading.Event()
TEMPLATE = "/api/v1/shops/<shop>/inner/items/<int:item>"


def flask_application() -> flask.Flask:  # noqa: C901  # many small routes
    app = flask.Flask(__name__)
    app.logger.disabled = True

    @app.before_request
    def guard() -> Any:
        asked = flask.request.headers.get("x-reject")
        if asked is None:
            return None
        usage.identify(customer_id="rejected", tier=1, auth_kind="jwt")
        return "no", int(asked)

    @app.teardown_request
    def done(_error: BaseException | None) -> None:
        if flask.request.path == "/teardown":
            usage.identify(customer_id="known-at-teardown")

    @app.get("/plain")
    def plain() -> Any:
        return "hello"

    @app.get("/teardown")
    def teardown() -> Any:
        return "hello"

    @app.get("/not-modified")
    def not_modified() -> Any:
        return "", 304

    @app.get("/boom")
    def boom() -> Any:
        raise ValueError(SECRET)

    @app.get("/gone")
    def gone() -> Any:
        flask.abort(404)

    @app.get("/unavailable")
    def unavailable() -> Any:
        flask.abort(503)

    @app.post("/upload")
    def upload() -> Any:
        return str(len(flask.request.get_data()))

    @app.get("/stream")
    def stream() -> Any:
        def parts() -> Iterator[bytes]:
            for part in range(3):
                if part:
                    time.sleep(PAUSE)
                yield CHUNK

        return flask.Response(parts())

    @app.get("/boom-in-stream")
    def boom_in_stream() -> Any:
        def parts() -> Iterator[bytes]:
            yield CHUNK
            raise ValueError(SECRET)

        return flask.Response(parts())

    @app.get("/endless")
    def endless() -> Any:
        def parts() -> Iterator[bytes]:
            try:
                while True:
                    yield CHUNK * 100
            finally:
                LEFT.set()

        return flask.Response(parts())

    @app.get("/who")
    def who() -> Any:
        name = flask.request.args.get("name")
        if name is not None:
            usage.identify(customer_id=name, tier=1)
        return name or "nobody"

    @app.get("/who-in-stream")
    def who_in_stream() -> Any:
        name = flask.request.args["name"]

        def parts() -> Iterator[str]:
            yield "a"
            usage.identify(customer_id=name, tier=2)
            yield "b"

        return flask.Response(parts())

    @app.get("/span-in-stream")
    def span_in_stream() -> Any:
        def parts() -> Iterator[str]:
            with usage.usage_span("rows"):
                yield "a"
                usage.meter("row", 1)
                yield "b"
            usage.meter("after", 1)
            yield "c"

        return flask.Response(parts())

    shop = flask.Blueprint("shop", __name__, url_prefix="/api/v1/shops/<shop>")
    inner = flask.Blueprint("inner", __name__, url_prefix="/inner")

    @inner.get("/items/<int:item>")
    def item(shop: str, item: int) -> Any:
        return "item"

    shop.register_blueprint(inner)
    app.register_blueprint(shop)
    return app


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serve_wsgi(flask_application()) as address:
        yield address


@pytest.fixture
def client(url: str, usage_on: None) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, transport=Outside()) as outside:
        yield outside


# -- Flask: how it ended -----------------------------------------------------------------------------------------------


def test_a_success_is_one_span_with_its_route_bytes_and_reason(client: httpx.Client, stub: AxiomStub) -> None:
    answer = client.get("/plain")
    assert (answer.text, answer.headers["content-length"]) == ("hello", "5")
    span = the_request(stub)
    assert (span.name, span.status_code, span.parent_span_id) == ("GET /plain", "unset", None)
    assert outcome(span) == (200, "ok", None, None)
    assert facts(span, "http.route", "server.address", "usage.domain") == ("/plain", "127.0.0.1", "plain")
    assert facts(span, "http.request.body.size", "http.response.body.size") == (0, 5)
    assert 0 < span.attributes["usage.time_to_first_byte"] * 1e9 <= span.duration


@pytest.mark.parametrize(
    ("method", "path", "expected", "route"),
    [
        ("GET", "/not-modified", (304, "not_modified", None, None), "/not-modified"),
        ("GET", "/gone", (404, "not_found", None, None), "/gone"),
        ("GET", "/no/such/thing", (404, "unknown_route", None, None), None),
        ("POST", "/plain", (405, "method_not_allowed", None, None), None),
        ("GET", "/unavailable", (503, "server_error", None, "503"), "/unavailable"),
        ("OPTIONS", "/plain", (200, "ok", None, None), "/plain"),
        (
            "GET",
            "/api/v1/shops/7/inner/items/9",
            (200, "ok", None, None),
            TEMPLATE,
        ),
    ],
)
def test_an_answer_has_its_reason_and_its_template(
    client: httpx.Client, stub: AxiomStub, method: str, path: str, expected: tuple[Any, ...], route: str | None
) -> None:
    assert client.request(method, path).status_code == expected[0]
    span = the_request(stub)
    assert outcome(span) == expected
    assert span.attributes.get("http.route") == route


def test_an_exception_in_the_handler_is_a_500_and_its_message_goes_nowhere(
    client: httpx.Client, stub: AxiomStub
) -> None:
    assert client.get("/boom").status_code == 500
    span = the_request(stub)
    assert outcome(span) == (500, "unhandled_exception", None, "ValueError")
    assert (span.status_code, span.attributes["http.route"]) == ("error", "/boom")
    assert SECRET not in repr(span)


@pytest.mark.parametrize(("status", "reason"), [(401, "auth_401"), (403, "auth_403"), (429, "rate_limit_429")])
def test_a_rejection_before_the_handler_is_counted(
    client: httpx.Client, stub: AxiomStub, status: int, reason: str
) -> None:
    assert client.get("/plain", headers={"x-reject": str(status)}).status_code == status
    span = the_request(stub)
    assert outcome(span) == (status, reason, None, None)
    assert facts(span, "usage.customer.id", "http.route") == ("rejected", "/plain")


def test_what_is_said_at_teardown_counts(client: httpx.Client, stub: AxiomStub) -> None:
    client.get("/teardown")
    assert the_request(stub).attributes["usage.customer.id"] == "known-at-teardown"


def test_a_preflight_is_told_from_any_options(client: httpx.Client, stub: AxiomStub) -> None:
    client.options("/plain", headers={"Origin": "https://a.example", "Access-Control-Request-Method": "GET"})
    assert outcome(the_request(stub)) == (200, "preflight", None, None)


# -- streams and bytes -------------------------------------------------------------------------------------------------


def test_a_stream_is_measured_to_its_last_byte(client: httpx.Client, stub: AxiomStub) -> None:
    assert len(client.get("/stream").content) == 3 * len(CHUNK)
    span = the_request(stub)
    assert facts(span, "http.response.body.size", "usage.reason") == (3 * len(CHUNK), "ok")
    assert span.duration >= 2 * PAUSE * 1e9
    assert span.attributes["usage.time_to_first_byte"] < PAUSE


def test_a_generator_that_raises_half_way_is_an_aborted_error(client: httpx.Client, stub: AxiomStub) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        client.get("/boom-in-stream")
    span = the_request(stub)
    assert outcome(span) == (200, "unhandled_exception", True, "ValueError")
    assert span.status_code == "error"
    assert facts(span, "http.response.body.size") == (len(CHUNK),)
    assert SECRET not in repr(span)


def test_a_client_that_leaves_in_the_middle_has_aborted_it(url: str, usage_on: None, stub: AxiomStub) -> None:
    LEFT.clear()
    host, _, port = url.removeprefix("http://").partition(":")
    connection = socket.create_connection((host, int(port)), timeout=5)
    connection.sendall(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
    connection.recv(4096)
    connection.close()
    span = the_request(stub)
    assert outcome(span) == (200, "client_aborted", True, None)
    assert span.status_code == "unset"
    assert LEFT.is_set(), "the application's own generator was not closed"


def test_the_bytes_of_a_request_are_counted(client: httpx.Client, stub: AxiomStub) -> None:
    assert client.post("/upload", content=CHUNK * 3).text == "3000"
    assert facts(the_request(stub), "http.request.body.size") == (3000,)


def test_the_bytes_of_a_chunked_upload_are_counted(client: httpx.Client, stub: AxiomStub) -> None:
    assert client.post("/upload", content=iter([CHUNK] * 7)).text == "7000"
    assert facts(the_request(stub), "http.request.body.size") == (7000,)


def test_the_answer_to_head_has_no_bytes(client: httpx.Client, stub: AxiomStub) -> None:
    assert client.head("/plain").headers["content-length"] == "5"
    span = the_request(stub)
    assert outcome(span) == (200, "ok", None, None)
    assert facts(span, "http.response.body.size") == (0,)


# -- identity ----------------------------------------------------------------------------------------------------------


def test_a_generator_can_say_who_it_is_for(client: httpx.Client, stub: AxiomStub) -> None:
    assert client.get("/who-in-stream?name=acme").text == "ab"
    assert facts(the_request(stub), "usage.customer.id", "usage.tier") == ("acme", 2)


def test_a_usage_span_stays_current_over_the_parts_of_a_generator(client: httpx.Client, stub: AxiomStub) -> None:
    assert client.get("/span-in-stream").text == "abc"
    request = the_request(stub)
    custom = next(span for span in stub.unique_spans if span.kind == "internal")
    assert custom.parent_span_id == request.span_id
    assert [event.attributes["usage.meter.name"] for event in custom.events] == ["row"]
    assert [event.attributes["usage.meter.name"] for event in request.events] == ["after"]


def test_an_identity_does_not_reach_the_next_request_on_its_connection(client: httpx.Client, stub: AxiomStub) -> None:
    for path in ("/who?name=acme", "/who", "/who-in-stream?name=globex", "/who"):
        assert client.get(path).status_code == 200
    found = sorted(requests_of(stub, 4), key=lambda span: span.start_time)
    assert [span.attributes.get("usage.customer.id") for span in found] == ["acme", None, "globex", None]


def test_fifty_requests_at_once_do_not_mix(url: str, usage_on: None, stub: AxiomStub) -> None:
    def ask(number: int) -> str:
        path = "/who" if number % 2 else "/who-in-stream"
        return outside(url, f"{path}?name=customer-{number}", **{"x-request-id": f"ask-{number}"})[0].text

    with ThreadPoolExecutor(20) as pool:
        assert len(list(pool.map(ask, range(50)))) == 50
    found = requests_of(stub, 50)
    pairs = {facts(span, "usage.client.request_id", "usage.customer.id") for span in found}
    assert pairs == {(f"ask-{number}", f"customer-{number}") for number in range(50)}


def who_is_in_g(environ: Any) -> usage.UsageIdentity | None:
    """A resolver of an application that keeps its user in ``flask.g``."""
    user = flask.g.get("user")
    return None if user is None else usage.UsageIdentity(customer_id=user, tier=2, provenance="verified")


def test_a_resolver_can_read_what_flask_keeps_of_the_request(switch_on: Callable[..., None], stub: AxiomStub) -> None:
    app = flask.Flask(__name__)

    @app.before_request
    def authenticate() -> None:
        flask.g.user = flask.request.headers.get("x-user")

    @app.get("/plain")
    def plain() -> Any:
        return "hello"

    switch_on(identity=who_is_in_g)
    with serve_wsgi(app) as url:
        outside(url, "/plain", **{"x-user": "acme"})
        outside(url, "/plain")
    assert usage.health().internal_errors.get("USAGE_IDENTITY") is None
    known, unknown = sorted(requests_of(stub, 2), key=lambda span: span.start_time)
    assert facts(known, "usage.customer.id", "usage.identity.provenance") == ("acme", "verified")
    assert facts(unknown, "usage.customer.id", "usage.identity.provenance") == (None, "unavailable")


# -- any WSGI application ----------------------------------------------------------------------------------------------


class Closing:
    """An iterable that tells when it was closed, and may fail at it."""

    def __init__(self, *parts: bytes, error: Exception | None = None) -> None:
        self._parts = iter(parts)
        self._error = error
        self.closed = 0

    def __iter__(self) -> Iterator[bytes]:
        return self._parts

    def close(self) -> None:
        self.closed += 1
        if self._error is not None:
            raise self._error


HEADERS: list[tuple[str, str]] = [("Content-Type", "text/plain")]


class Bare:
    """A bare WSGI application, by its paths."""

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Any:
        action: Callable[..., Any] = getattr(self, environ["PATH_INFO"].strip("/"))
        return action(environ, start_response)

    def single(self, environ: dict[str, Any], start_response: StartResponse) -> Any:
        start_response("200 OK", HEADERS)
        return [b"hello"]

    def empty(self, environ: dict[str, Any], start_response: StartResponse) -> Any:
        start_response("204 No Content", [])
        return []

    def closing(self, environ: dict[str, Any], start_response: StartResponse) -> Any:
        start_response("200 OK", [])
        self.body = Closing(b"part", b"", b"part")
        return self.body

    def fails_at_close(self, environ: dict[str, Any], start_response: StartResponse) -> Any:
        start_response("200 OK", [("Content-Length", "4")])
        return Closing(b"part", error=ValueError(SECRET))

    def writes(self, environ: dict[str, Any], start_response: StartResponse) -> Any:
        write = start_response("200 OK", [("Content-Length", "9")])
        write(b"written")
        return [b"!!"]

    def raises(self, environ: dict[str, Any], start_response: StartResponse) -> Any:
        raise ValueError(SECRET)

    def exits(self, environ: dict[str, Any], start_response: StartResponse) -> Any:
        raise SystemExit(SECRET)

    def raises_before_its_first_byte(self, environ: dict[str, Any], start_response: StartResponse) -> Any:
        start_response("200 OK", [])
        yield b""
        raise ValueError(SECRET)

    def never_starts(self, environ: dict[str, Any], start_response: StartResponse) -> Any:
        return [b"hello"]

    def starts_late(self, environ: dict[str, Any], start_response: StartResponse) -> Any:
        usage.identify(customer_id="late")
        start_response("200 OK", [])
        yield b"hello"

    def starts_anew(self, environ: dict[str, Any], start_response: StartResponse) -> Any:
        start_response("200 OK", [])
        try:
            raise ValueError(SECRET)
        except ValueError as error:
            start_response("502 Bad Gateway", [], (ValueError, error, error.__traceback__))
        return [b"sorry"]

    def reads_lines(self, environ: dict[str, Any], start_response: StartResponse) -> Any:
        stream = environ["wsgi.input"]
        got = stream.readline() + b"".join(stream.readlines(1)) + next(iter(stream)) + stream.read(2) + stream.read()
        start_response("200 OK", [])
        return [got]

    def file(self, environ: dict[str, Any], start_response: StartResponse) -> Any:
        start_response("200 OK", [("Content-Length", str(Path(__file__).stat().st_size))])
        return environ["wsgi.file_wrapper"](Path(__file__).open("rb"))  # which the server closes


@pytest.fixture(scope="module")
def app() -> Bare:
    return Bare()


@pytest.fixture(scope="module")
def bare_url(app: Bare) -> Iterator[str]:
    with serve_wsgi(usage.UsageWSGIMiddleware(app)) as address:
        yield address


@pytest.fixture
def bare(bare_url: str, usage_on: None) -> str:
    return bare_url


@pytest.mark.parametrize(
    ("path", "status", "expected", "size"),
    [
        ("/single", 200, (200, "ok", None, None), 5),
        ("/empty", 204, (204, "ok", None, None), 0),
        ("/closing", 200, (200, "ok", None, None), 8),
        ("/writes", 200, (200, "ok", None, None), 9),
        ("/raises", 500, (500, "unhandled_exception", None, "ValueError"), 0),
        ("/raises_before_its_first_byte", 500, (500, "unhandled_exception", None, "ValueError"), 0),
        ("/never_starts", 500, (500, "server_error", None, "500"), 0),
        ("/starts_late", 200, (200, "ok", None, None), 5),
        ("/starts_anew", 502, (502, "server_error", None, "502"), 5),
    ],
)
def test_a_bare_application_is_recorded_as_its_server_answered(
    bare: str, stub: AxiomStub, path: str, status: int, expected: tuple[Any, ...], size: int
) -> None:
    assert outside(bare, path)[0].status_code == status
    span = the_request(stub)
    assert outcome(span) == expected
    assert span.status_code == ("error" if status >= 500 else "unset")
    assert facts(span, "http.response.body.size") == (size,)
    assert SECRET not in repr(span)


def test_an_iterable_of_the_application_is_closed_once(app: Bare, bare: str, stub: AxiomStub) -> None:
    assert outside(bare, "/closing")[0].content == b"partpart"
    the_request(stub)
    assert app.body.closed == 1


def test_a_failure_to_close_is_not_the_responses(bare: str, stub: AxiomStub) -> None:
    assert outside(bare, "/fails_at_close")[0].content == b"part"
    span = the_request(stub)
    assert outcome(span) == (200, "ok", None, "ValueError")
    assert span.status_code == "unset"


def test_the_length_that_a_server_makes_of_a_single_part_is_unchanged(app: Bare, bare: str, stub: AxiomStub) -> None:
    found = outside(bare, "/single")[0].headers
    the_request(stub)  # which switches usage off
    with serve_wsgi(app, ours=False) as unobserved:
        expected = outside(unobserved, "/single")[0].headers
    assert found["content-length"] == expected["content-length"] == "5"
    assert found.keys() == expected.keys()


def test_a_generator_that_starts_late_can_say_who_it_is_for(bare: str, stub: AxiomStub) -> None:
    outside(bare, "/starts_late")
    assert the_request(stub).attributes["usage.customer.id"] == "late"


def test_every_way_of_reading_a_body_is_counted(bare: str, stub: AxiomStub) -> None:
    body = b"one\ntwo\nthree\nfour\nfive"
    with httpx.Client(transport=Outside()) as client:
        assert client.post(f"{bare}/reads_lines", content=body).content == body
    assert facts(the_request(stub), "http.request.body.size") == (len(body),)


def test_a_file_that_a_server_could_send_by_itself_is_counted(bare: str, stub: AxiomStub) -> None:
    content = outside(bare, "/file")[0].content
    assert facts(the_request(stub), "http.response.body.size", "usage.reason") == (len(content), "ok")


@pytest.mark.parametrize("on", [True, False])
def test_the_development_header_is_sent_where_it_is_switched_on(
    switch_on: Callable[..., None], stub: AxiomStub, bare_url: str, on: bool
) -> None:
    switch_on(dev_header=on)
    answers = outside(bare_url, "/single", "/single")
    assert [answer.headers.get_list("x-usage-telemetry") for answer in answers] == [["ok"] if on else []] * 2
    assert len(HEADERS) == 1, "the application's own list was changed"
    requests_of(stub, 2)


def test_a_wrapped_framework_is_still_observed_once(switch_on: Callable[..., None], stub: AxiomStub) -> None:
    switch_on()
    with serve_wsgi(usage.UsageWSGIMiddleware(usage.UsageWSGIMiddleware(flask_application()))) as url:
        outside(url, "/plain")
    assert the_request(stub).attributes["http.route"] == "/plain"


def test_usage_that_is_off_leaves_an_application_as_it_is(stub: AxiomStub, bare_url: str) -> None:
    assert outside(bare_url, "/single")[0].text == "hello"
    assert stub.spans == []


# -- without a server: what no server here does ------------------------------------------------------------------------


def called(app: Any, path: str) -> Any:
    environ = {"PATH_INFO": path}
    wsgiref.util.setup_testing_defaults(environ)
    return usage.UsageWSGIMiddleware(app)(environ, lambda *_: lambda data: None)


def test_a_server_that_never_closes_a_response_does_not_hide_the_request(
    app: Bare, usage_on: None, stub: AxiomStub
) -> None:
    body = called(app, "/single")
    next(body)
    del body
    assert outcome(the_request(stub)) == (200, "client_aborted", True, None)


def test_a_server_that_closes_twice_makes_no_second_record(app: Bare, usage_on: None, stub: AxiomStub) -> None:
    body = called(app, "/single")
    assert b"".join(body) == b"hello"
    body.close()
    body.close()
    assert outcome(the_request(stub)) == (200, "ok", None, None)


def test_a_process_that_is_told_to_stop_is_not_the_clients_doing(app: Bare, usage_on: None, stub: AxiomStub) -> None:
    with pytest.raises(SystemExit):
        called(app, "/exits")
    assert outcome(the_request(stub)) == (500, "unhandled_exception", None, "SystemExit")


def test_a_wsgi_application_mounted_in_an_asgi_one_is_one_request_with_the_whole_template(
    usage_on: None, stub: AxiomStub
) -> None:
    app = FastAPI()
    app.mount("/legacy/é", WSGIMiddleware(flask_application()))  # type: ignore[arg-type]  # a2wsgi types ASGI its own way
    with serve_asgi(app) as url:
        assert httpx.get(f"{url}/legacy/é/plain").text == "hello"
        assert httpx.get(f"{url}/legacy/é/plain").text == "hello"
        assert usage.flush().complete
    first, second = [span for span in stub.spans if span.kind == "server"]
    assert first.name == second.name == "GET /legacy/é/plain"
    assert first.attributes["http.response.body.size"] == 5


def test_a_servers_stream_still_takes_the_size_by_its_name(usage_on: None, stub: AxiomStub) -> None:
    def app(environ: dict[str, Any], start_response: StartResponse) -> Any:
        stream = environ["wsgi.input"]
        got = [stream.read(size=2), stream.readline(size=9), *stream.readlines(size=1), stream.read(size=None)]
        start_response("200 OK", [])
        return got

    sent = b"ab\nc\nd\nef"
    environ: dict[str, Any] = {"wsgi.input": Body(LengthReader(IterUnreader(iter([sent])), len(sent)))}
    body: Any = usage.UsageWSGIMiddleware(app)(environ, lambda *_: lambda _: None)
    assert b"".join(body) == sent
    body.close()
    assert facts(the_request(stub), "http.request.body.size") == (len(sent),)


def test_a_server_that_asks_for_no_body_for_head_has_lost_no_client(usage_on: None, stub: AxiomStub) -> None:
    def app(environ: dict[str, Any], start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", [])
        return iter([b"hello"])

    body: Any = usage.UsageWSGIMiddleware(app)({"REQUEST_METHOD": "HEAD"}, lambda *_: lambda _: None)
    body.close()
    assert outcome(the_request(stub)) == (200, "ok", None, None)
