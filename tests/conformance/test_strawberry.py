"""GraphQL by Strawberry, as a router of FastAPI, as an ASGI application, and beneath Flask: which operation it was, and
whether it was answered. A status of 200 says neither.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any, Final

import flask
import httpx
import pytest
import strawberry
from fastapi import FastAPI
from graphql import GraphQLError
from starlette.applications import Starlette
from starlette.routing import Mount, Route, WebSocketRoute
from strawberry.asgi import GraphQL
from strawberry.fastapi import GraphQLRouter
from strawberry.flask.views import GraphQLView
from strawberry.schema.config import StrawberryConfig
from websockets.sync.client import connect
from websockets.typing import Subprotocol

import otel_usage as usage
from otel_usage.distinct import SHARE
from otel_usage.testing import AxiomStub
from tests.outside import Outside, facts, outcome, requests_of, the_request
from tests.servers import serve_asgi, serve_wsgi

SECRET: Final = "what-a-customer-wrote"


@strawberry.type
class Query:
    @strawberry.field
    def book(self, title: str) -> str | None:
        usage.identify(customer_id="acme", tier=1, provenance="verified")
        return title

    @strawberry.field
    def broken(self) -> str | None:
        raise RuntimeError(SECRET)

    @strawberry.field
    def needed(self) -> str:
        raise RuntimeError(SECRET)

    @strawberry.field
    def refused(self) -> str | None:
        raise GraphQLError(SECRET)

    @strawberry.field
    def limited(self) -> str | None:
        usage.reject("rate_limit_429")
        raise GraphQLError(SECRET)


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def count(self) -> AsyncIterator[int]:
        for number in range(3):
            yield number


SCHEMA: Final = strawberry.Schema(
    Query, subscription=Subscription, config=StrawberryConfig(batching_config={"max_operations": 10})
)


@contextmanager
def router() -> Iterator[str]:
    app = FastAPI()
    app.include_router(GraphQLRouter(SCHEMA), prefix="/graphql")
    with serve_asgi(app) as url:
        yield f"{url}/graphql"


@contextmanager
def mounted() -> Iterator[str]:
    with serve_asgi(Starlette(routes=[Mount("/graphql", GraphQL(SCHEMA))])) as url:
        yield f"{url}/graphql/"


@contextmanager
def routed() -> Iterator[str]:
    app: Any = GraphQL(SCHEMA)
    with serve_asgi(Starlette(routes=[Route("/graphql", app), WebSocketRoute("/graphql", app)])) as url:
        yield f"{url}/graphql"


@contextmanager
def alone() -> Iterator[str]:
    with serve_asgi(GraphQL(SCHEMA), lifespan="off") as url:
        yield url


@contextmanager
def beneath_flask() -> Iterator[str]:
    app = flask.Flask(__name__)
    app.add_url_rule("/graphql", view_func=GraphQLView.as_view("graphql", schema=SCHEMA))
    with serve_wsgi(app) as url:
        yield f"{url}/graphql"


@pytest.fixture(params=[router, mounted, routed, beneath_flask], ids=lambda each: each.__name__)
def url(request: pytest.FixtureRequest, usage_on: None) -> Iterator[str]:
    with request.param() as url:
        yield url


@pytest.fixture(params=[router, mounted, routed, alone], ids=lambda each: each.__name__)
def async_url(request: pytest.FixtureRequest, usage_on: None) -> Iterator[str]:
    with request.param() as url:
        yield url


def ask(url: str, asked: Any, **headers: str) -> httpx.Response:
    """The answer to an operation, or to a batch of them."""
    with httpx.Client(transport=Outside(), timeout=20) as client:
        return client.post(url, json=asked, headers=headers)


@pytest.mark.parametrize(
    ("operation", "name"),
    [
        ({"query": "query Find($t: String!) { book(title: $t) }", "variables": {"t": SECRET}}, "Find"),
        ({"query": "query A { refused } query _b2 { book(title: \"x\") }", "operationName": "_b2"}, "_b2"),
        ({"query": "{ book(title: \"x\") }"}, None),
        ({"query": f"query {'x' * 64} {{ book(title: \"x\") }}"}, "x" * 64),
        ({"query": f"query {'x' * 65} {{ book(title: \"x\") }}"}, None),
    ],
)  # fmt: skip
def test_the_operations_name(url: str, stub: AxiomStub, operation: dict[str, Any], name: str | None) -> None:
    ask(url, operation)
    span = the_request(stub)
    assert facts(span, "http.route", "http.response.status_code", "usage.operation") == ("/graphql", 200, name)
    assert span.name == "POST /graphql"
    assert SECRET not in repr(span)


@pytest.mark.parametrize(
    ("query", "reason", "error"),
    [
        ('{ book(title: "x") }', "ok", None),
        ("{ broken }", "unhandled_exception", "RuntimeError"),
        ("{ needed }", "unhandled_exception", "RuntimeError"),
        ('{ book(title: "x") broken }', "ok", "RuntimeError"),
        ("{ refused }", "client_error", None),
        ('{ refused book(title: "x") }', "ok", None),
        ("{ limited }", "rate_limit_429", None),
        ("{ nothing }", "malformed_request", None),
        ("{ book(", "malformed_request", None),
    ],
)
def test_a_200_is_no_success_where_nothing_was_answered(
    url: str, stub: AxiomStub, query: str, reason: str, error: str | None
) -> None:
    assert ask(url, {"query": query}).status_code == 200
    span = the_request(stub)
    assert outcome(span) == (200, reason, None, error)
    assert facts(span, "http.route") == ("/graphql",)
    assert SECRET not in repr(span)
    assert "book" not in repr(span)


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"query": "query A { refused } query B { refused }", "operationName": "C"},
        {"query": "query A { refused }", "operationName": 5},
    ],
)
def test_what_is_no_operation_is_a_bad_request(url: str, stub: AxiomStub, asked: dict[str, Any]) -> None:
    assert ask(url, asked).status_code == 400
    assert usage.health().internal_errors == {}
    assert outcome(the_request(stub))[:2] == (400, "malformed_request")


FIND: Final = {"query": 'query Find { book(title: "x") }'}
FAIL: Final = {"query": "query Fail { broken }"}


@pytest.mark.parametrize(
    ("batch", "name", "reason"),
    [
        ([FIND, FIND], "Find", "ok"),
        ([FIND, FAIL], None, "ok"),
        ([FIND, {"query": '{ book(title: "x") }'}], None, "ok"),
        ([FAIL, FAIL], "Fail", "unhandled_exception"),
    ],
)
def test_a_batch_has_a_name_where_its_operations_have_one(
    url: str, stub: AxiomStub, batch: list[Any], name: str | None, reason: str
) -> None:
    assert len(ask(url, batch).json()) == 2
    span = the_request(stub)
    assert facts(span, "usage.operation", "usage.reason") == (name, reason)


def test_a_subscription_over_a_websocket_is_the_connections_operation(async_url: str, stub: AxiomStub) -> None:
    with connect(f"ws{async_url.removeprefix('http')}", subprotocols=[Subprotocol("graphql-transport-ws")]) as client:
        client.send(json.dumps({"type": "connection_init"}))
        assert json.loads(client.recv(10))["type"] == "connection_ack"
        client.send(json.dumps({"id": "1", "type": "subscribe", "payload": {"query": "subscription Three { count }"}}))
        answers = [json.loads(client.recv(10)) for _ in range(4)]
    assert [each["type"] for each in answers] == ["next", "next", "next", "complete"]
    span = the_request(stub)
    assert facts(span, "usage.operation") == ("Three",)
    assert outcome(span) == (101, "ok", None, None)


def test_an_application_of_its_own_has_no_route(usage_on: None, stub: AxiomStub) -> None:
    with alone() as url:
        ask(f"{url}/what/{SECRET}", FIND)
    span = the_request(stub)
    assert facts(span, "http.route", "usage.operation", "usage.customer.id") == (None, "Find", "acme")
    assert SECRET not in repr(span)


def test_names_that_one_client_makes_up_take_no_room_from_others(usage_on: None, stub: AxiomStub) -> None:
    with router() as url, httpx.Client(transport=Outside()) as client:
        for number in range(SHARE + 10):
            client.post(url, json={"query": f'query Made{number} {{ book(title: "x") }}'})
    found = [facts(span, "usage.operation")[0] for span in requests_of(stub, SHARE + 10)]
    assert found == [f"Made{number}" for number in range(SHARE)] + ["_OTHER"] * 10
