"""Falcon's own ways to serve what is no resource, and to handle what is raised."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import falcon
import falcon.asgi
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

import otel_usage as usage
from otel_usage.testing import AxiomStub
from tests.outside import facts, outcome, outside, requests_of, the_request
from tests.servers import serve_asgi, serve_wsgi


class OutOfStock(Exception):
    pass


class Shelf:
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        raise OutOfStock

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        raise falcon.HTTPInternalServerError


def sink(req: falcon.Request, resp: falcon.Response, **params: str) -> None:
    resp.text = "sunk"


@pytest.fixture
def app(tmp_path: Path) -> falcon.App[Any, Any]:
    (tmp_path / "logo.txt").write_text("logo")
    app = falcon.App()
    app.add_route("/shelf", Shelf())
    app.add_sink(sink, "/old/")
    app.add_sink(sink, r"/(?P<kind>a|b)/")
    app.add_static_route("/static", str(tmp_path))
    return app


def test_what_takes_the_beginning_of_a_path_gives_the_template(
    usage_on: None, stub: AxiomStub, app: falcon.App[Any, Any]
) -> None:
    with serve_wsgi(app) as url:
        answers = outside(url, "/old/x/y", "/a/x", "/static/logo.txt", "/nowhere")
    assert [answer.status_code for answer in answers] == [200, 200, 200, 404]
    spans = requests_of(stub, 4)
    assert [facts(span, "http.route")[0] for span in spans] == ["/old/{path}", "/{path}", "/static/{path}", None]
    assert outcome(spans[3]) == (404, "unknown_route", None, None)
    assert usage.health().internal_errors == {}


def test_an_exception_that_a_handler_of_the_application_takes_is_answered_by_it(
    usage_on: None, stub: AxiomStub, app: falcon.App[Any, Any]
) -> None:
    def handle(req: falcon.Request, resp: falcon.Response, error: OutOfStock, params: dict[str, Any]) -> None:
        resp.status = falcon.HTTP_404

    with serve_wsgi(app) as url:
        outside(url, "/shelf")
        app.add_error_handler(OutOfStock, handle)
        outside(url, "/shelf")
    failed, handled = requests_of(stub, 2)
    assert outcome(failed) == (500, "unhandled_exception", None, f"{__name__}.OutOfStock")
    assert outcome(handled) == (404, "not_found", None, None)


def test_an_exception_on_a_web_socket_is_the_connections(usage_on: None, stub: AxiomStub) -> None:
    class Socket:
        async def on_websocket(self, req: falcon.asgi.Request, socket: falcon.asgi.WebSocket, name: str) -> None:
            await socket.accept()
            await socket.receive_text()
            raise OutOfStock

    app = falcon.asgi.App()
    app.add_route("/ws/{name}", Socket())
    with serve_asgi(app) as url, connect(url.replace("http", "ws") + "/ws/x") as socket:
        socket.send("hello")
        with pytest.raises(ConnectionClosed):
            socket.recv(10)
    span = the_request(stub)
    assert facts(span, "http.route", "error.type", "usage.reason") == (
        "/ws/{name}", f"{__name__}.OutOfStock", "unhandled_exception",
    )  # fmt: skip
