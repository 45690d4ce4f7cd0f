"""Flask's own ways to be composed, to stream, and to end a request."""

from __future__ import annotations

from collections.abc import Iterator

import flask
import pytest
from werkzeug.middleware.dispatcher import DispatcherMiddleware

import otel_usage as usage
from otel_usage.testing import AxiomStub
from tests.outside import facts, outside, requests_of, the_request
from tests.servers import serve_wsgi


def test_blueprints_in_blueprints_give_the_full_template(usage_on: None, stub: AxiomStub) -> None:
    outer, inner = (flask.Blueprint(name, name) for name in ("outer", "inner"))

    @inner.get("/items/<int:n>")
    def item(org: str, n: int) -> str:
        return org

    outer.register_blueprint(inner, url_prefix="/<org>")
    app = flask.Flask("nested")
    app.register_blueprint(outer, url_prefix="/v1")
    with serve_wsgi(app) as url:
        outside(url, "/v1/acme/items/3", "/v1/acme/items/three")
    found, missing = requests_of(stub, 2)
    assert facts(found, "http.route") == ("/v1/<org>/items/<int:n>",)
    assert facts(missing, "http.route", "usage.reason") == (None, "unknown_route")


@pytest.mark.parametrize("ours", [True, False])
def test_applications_that_werkzeug_mounts_in_one_have_the_full_template(
    usage_on: None, stub: AxiomStub, ours: bool
) -> None:
    def made(name: str) -> flask.Flask:
        app = flask.Flask(name)
        app.add_url_rule("/items/<int:n>", view_func=lambda n: name)
        return app

    v2 = DispatcherMiddleware(made("v2"), {"/beta": made("beta")})
    app = DispatcherMiddleware(made("root"), {"/v1": made("v1"), "/v2/api": v2})
    paths = "/items/1", "/v1/items/1", "/v2/api/items/1", "/v2/api/beta/items/1", "/v1/secret/1", "/v2/secret/1"
    with serve_wsgi(app, ours=ours) as url:
        answers = [answer.text for answer in outside(url, *paths)]
    assert answers[:4] == ["root", "v1", "v2", "beta"]
    assert [facts(span, "http.route", "usage.reason") for span in requests_of(stub, 6)] == [
        ("/items/<int:n>", "ok"),
        ("/v1/items/<int:n>", "ok"),
        ("/v2/api/items/<int:n>", "ok"),
        ("/v2/api/beta/items/<int:n>", "ok"),
        ("/v1/{path}", "not_found"),
        (None, "unknown_route"),
    ]


def test_what_is_said_while_streaming_and_at_teardown_is_the_requests(usage_on: None, stub: AxiomStub) -> None:
    app = flask.Flask("streaming")

    @app.get("/stream/<customer>")
    def stream(customer: str) -> flask.Response:
        def parts() -> Iterator[bytes]:
            yield b"one"
            usage.identify(customer_id=flask.request.view_args["customer"], tier=2)  # type: ignore[index]
            yield b"two"

        return flask.Response(flask.stream_with_context(parts()))

    @app.teardown_request
    def teardown(error: BaseException | None) -> None:
        usage.meter("rows", 2)

    with serve_wsgi(app) as url:
        assert outside(url, "/stream/acme")[0].text == "onetwo"
    span = the_request(stub)
    assert facts(span, "usage.customer.id", "usage.tier", "http.response.body.size") == ("acme", 2, 6)
    ends = [event.name for event in span.events]
    assert ends == ["usage.meter"] * 2, "Flask ends the context of the view, and that of the stream"
