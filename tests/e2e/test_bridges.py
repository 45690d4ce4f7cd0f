"""A request that crosses from ASGI to WSGI or back is one request, with one customer."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Final

import a2wsgi
import fastapi
import flask
import pytest
from a2wsgi import ASGIMiddleware
from asgiref.wsgi import WsgiToAsgi
from werkzeug.middleware.dispatcher import DispatcherMiddleware

import otel_usage as usage
from otel_usage.testing import AxiomStub
from tests.outside import facts, outside, the_request
from tests.servers import serve_asgi, serve_wsgi

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of Starlette, which would rather have its bridge forgotten
    from starlette.middleware.wsgi import WSGIMiddleware


def old() -> flask.Flask:
    """An application that was there before."""
    app = flask.Flask("old")

    @app.get("/x")
    def handle() -> str:
        usage.identify(customer_id="acme", tier=1, auth_kind="jwt")
        return "ok"

    return app


def new() -> fastapi.FastAPI:
    """One of today."""
    app = fastapi.FastAPI()

    @app.get("/x")
    def handle() -> None:
        usage.identify(customer_id="acme", tier=1, auth_kind="jwt")

    return app


def mounted(bridge: Callable[[Any], Any]) -> AbstractContextManager[str]:
    app = fastapi.FastAPI()
    app.mount("/sub", bridge(old()))
    return serve_asgi(app)


def dispatched(outer: Callable[[Any], Any]) -> AbstractContextManager[str]:
    return serve_wsgi(outer(DispatcherMiddleware(old(), {"/sub": ASGIMiddleware(new())})))


def in_flask(app: Any) -> flask.Flask:
    outer = flask.Flask("outer")
    outer.wsgi_app = app  # type: ignore[method-assign]
    return outer


BRIDGES: Final[dict[str, Callable[[], AbstractContextManager[str]]]] = {
    "a2wsgi in FastAPI": lambda: mounted(a2wsgi.WSGIMiddleware),
    "Starlette's in FastAPI": lambda: mounted(WSGIMiddleware),
    "asgiref in FastAPI": lambda: mounted(WsgiToAsgi),
    "FastAPI by a2wsgi in WSGI": lambda: dispatched(usage.UsageWSGIMiddleware),
    "FastAPI by a2wsgi in Flask": lambda: dispatched(in_flask),
}


@pytest.mark.parametrize("bridge", BRIDGES)
def test_one_request_is_one_span_of_its_customer(usage_on: None, stub: AxiomStub, bridge: str) -> None:
    with BRIDGES[bridge]() as url:
        assert outside(url, "/sub/x")[0].status_code == 200
    assert usage.health().internal_errors == {}
    span = the_request(stub)
    assert facts(span, "usage.customer.id", "usage.tier", "usage.identity.provenance") == ("acme", 1, "verified")
