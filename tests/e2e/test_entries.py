"""What a server was given is observed at the server, whatever is around the application and whatever it is made of."""

from __future__ import annotations

import threading
import wsgiref.simple_server
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Final

import fastapi
import flask
import granian.server.mp
import granian.server.mt
import pytest
import uvicorn
import waitress.server
import werkzeug.serving

import otel_usage as usage
from otel_usage.testing import AxiomStub
from tests.conftest import TOKEN
from tests.outside import facts, outcome, outside, requests_of, the_request
from tests.servers import free_port, serve_asgi, serve_wsgi, server_process

Serve = Callable[[Any], AbstractContextManager[str]]


def plain_wsgi(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [("content-length", "2")])
    return [b"ok"]


async def plain_asgi(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


def without_lifespan(app: Any) -> AbstractContextManager[str]:
    return serve_asgi(app, lifespan="off")


@contextmanager
def running(server: Any) -> Iterator[str]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


class Quiet(wsgiref.simple_server.WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


class QuietWerkzeug(werkzeug.serving.WSGIRequestHandler):
    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass


def serve_wsgiref(app: Any) -> AbstractContextManager[str]:
    return running(wsgiref.simple_server.make_server("127.0.0.1", 0, app, handler_class=Quiet))


def serve_werkzeug(app: Any) -> AbstractContextManager[str]:
    return running(werkzeug.serving.make_server("127.0.0.1", 0, app, threaded=True, request_handler=QuietWerkzeug))


WSGI: Final[dict[str, Serve]] = {"waitress": serve_wsgi, "wsgiref": serve_wsgiref, "werkzeug": serve_werkzeug}
SERVED: Final[dict[str, tuple[Serve, Any]]] = {
    "uvicorn": (without_lifespan, plain_asgi),
    "WSGI in uvicorn": (lambda app: serve_asgi(app, interface="wsgi"), plain_wsgi),
    **{name: (serve, plain_wsgi) for name, serve in WSGI.items()},
}


@pytest.mark.filterwarnings("ignore:Uvicorn's native WSGI implementation is deprecated")
@pytest.mark.parametrize("server", SERVED)
def test_an_application_of_no_framework_is_observed(usage_on: None, stub: AxiomStub, server: str) -> None:
    serve, app = SERVED[server]
    with serve(app) as url:
        assert outside(url, "/x")[0].text == "ok"
    span = the_request(stub)
    assert outcome(span) == (200, "ok", None, None)
    assert facts(span, "http.route", "http.response.body.size") == (None, 2)
    assert usage.health().internal_errors == {}


def test_an_answer_of_what_is_around_fastapi_is_a_request_and_one_within_is_one(
    usage_on: None, stub: AxiomStub
) -> None:
    within = fastapi.FastAPI()

    @within.get("/items/{n}")
    def item(n: int) -> int:
        return n

    async def guarding(scope: Any, receive: Any, send: Any) -> None:
        if scope.get("path") == "/secret":
            await send({"type": "http.response.start", "status": 401, "headers": []})
            await send({"type": "http.response.body"})
        else:
            await within(scope, receive, send)

    with serve_asgi(guarding) as url:
        assert [answer.status_code for answer in outside(url, "/secret", "/items/3")] == [401, 200]
    refused, found = requests_of(stub, 2)
    assert outcome(refused) == (401, "auth_401", None, None)
    assert facts(found, "http.route") == ("/items/{n}",)


def test_the_resolver_is_asked_with_what_came_to_the_framework_through_middleware_that_copies(
    switch_on: Callable[..., None], stub: AxiomStub
) -> None:
    asgi_within, wsgi_within = fastapi.FastAPI(), flask.Flask("within")
    wsgi_within.add_url_rule("/", view_func=lambda: "ok")

    async def asgi(scope: Any, receive: Any, send: Any) -> None:
        await asgi_within({**scope, "user": "of-the-copy"}, receive, send)

    def wsgi(environ: dict[str, Any], start_response: Any) -> Any:
        return wsgi_within({**environ, "user": "of-the-copy"}, start_response)

    switch_on(identity=lambda carrier: usage.UsageIdentity(customer_id=carrier.get("user")))
    with serve_asgi(asgi) as url:
        outside(url, "/")
    with serve_wsgi(wsgi) as url:
        outside(url, "/")
    assert [facts(span, "usage.customer.id") for span in requests_of(stub, 2)] == [("of-the-copy",)] * 2


@pytest.mark.parametrize("server", WSGI)
def test_an_answer_of_what_is_around_flask_is_a_request_and_one_within_is_one(
    usage_on: None, stub: AxiomStub, server: str
) -> None:
    within = flask.Flask("within")

    @within.get("/items/<n>")
    def item(n: str) -> str:
        return n

    def guarding(environ: dict[str, Any], start_response: Any) -> Any:
        if environ["PATH_INFO"] == "/secret":
            start_response("401 Unauthorized", [("content-length", "0")])
            return []
        return within(environ, start_response)

    with WSGI[server](guarding) as url:
        assert [answer.status_code for answer in outside(url, "/secret", "/items/3")] == [401, 200]
    refused, found = requests_of(stub, 2)
    assert outcome(refused) == (401, "auth_401", None, None)
    assert facts(found, "http.route") == ("/items/<n>",)


def test_a_server_that_goes_on_when_usage_ends_serves_as_before(usage_on: None, stub: AxiomStub) -> None:
    with serve_wsgi(plain_wsgi) as wsgi, without_lifespan(plain_asgi) as asgi:
        for url in (wsgi, asgi):
            outside(url, "/while-on")
        requests_of(stub, 2)  # which switches usage off
        for url in (wsgi, asgi):
            assert outside(url, "/while-off")[0].text == "ok"
    assert len(stub.unique_spans) == 2


class Named:
    """An application that is an object, whose call is what servers look at."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await plain_asgi(scope, receive, send)


def test_what_a_server_asks_its_application_for_it_is_told(usage_on: None) -> None:
    app = Named()
    config = uvicorn.Config(app)
    config.load()
    assert config.app is app, "what was given is what is there"
    assert config.loaded_app.trusted_hosts is not None, "of the middleware that uvicorn has put around it"
    assert config.interface == "asgi3"
    server = waitress.server.create_server(plain_wsgi, port=0, clear_untrusted_proxy_headers=False)
    try:
        assert server.application.__name__ == "plain_wsgi"
        with pytest.raises(AttributeError):
            _ = server.application.nothing
    finally:
        server.task_dispatcher.shutdown(timeout=5)
        server.close()


BARE: Final = """
import otel_usage as usage

usage.instrument()


def app(environ, start_response):
    start_response("200 OK", [])
    return [b"hel", b"lo"]
"""


@pytest.mark.parametrize("on", ["0", "1"])
def test_granian_gives_a_list_its_length(stub: AxiomStub, tmp_path: Path, on: str) -> None:
    (tmp_path / "bare.py").write_text(BARE)
    port = free_port()
    command = ["granian", "--interface", "wsgi", "--port", str(port), "bare:app"]
    settings = {"USAGE_TELEMETRY": on, "USAGE_OTLP_ENDPOINT": stub.url, "AXIOM_API_TOKEN": TOKEN}
    with server_process(command, port, tmp_path, tmp_path, **settings):
        (answer,) = outside(f"http://127.0.0.1:{port}", "/")
    assert (answer.text, answer.headers.get("content-length")) == ("hello", "5")
    spans = [facts(span, "http.response.body.size", "usage.aborted") for span in stub.unique_spans]
    assert spans == [(5, None)] * int(on)


def test_a_server_that_is_given_what_it_has_puts_nothing_around_it_again(usage_on: None) -> None:
    server = wsgiref.simple_server.make_server("127.0.0.1", 0, plain_wsgi, handler_class=Quiet)
    try:
        server.set_app(server.get_app())
        served: Any = server.get_app()
        assert served.app is plain_wsgi
    finally:
        server.server_close()


@pytest.mark.parametrize("server", [granian.server.mp, granian.server.mt])
def test_granians_callbacks_keep_the_name_of_the_application(usage_on: None, server: Any) -> None:
    assert server._asgi_call_wrap(plain_wsgi, {}, {}).__name__ == "plain_wsgi"
    assert server._wsgi_call_wrap(plain_wsgi, {}).__name__ == "plain_wsgi"


@pytest.mark.parametrize("interface", ["asgi", "wsgi"])
def test_granian_serves_what_switches_usage_on_when_it_is_loaded(
    stub: AxiomStub, tmp_path: Path, interface: str
) -> None:
    (tmp_path / "late.py").write_text(LATE)
    port = free_port()
    command = ("granian", f"late:{interface}", "--port", str(port), "--interface", interface)
    settings = {"USAGE_TELEMETRY": "1", "USAGE_OTLP_ENDPOINT": stub.url, "AXIOM_API_TOKEN": TOKEN}
    with server_process(command, port, tmp_path, tmp_path, **settings):
        assert outside(f"http://127.0.0.1:{port}", "/")[0].text == "hello"
        (span,) = stub.wait_for(1)
    assert facts(span, "http.response.status_code", "http.response.body.size") == (200, 5)


LATE: Final = """
import otel_usage

otel_usage.instrument()


async def asgi(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello"})


def wsgi(environ, start_response):
    start_response("200 OK", [])
    return [b"hello"]
"""
