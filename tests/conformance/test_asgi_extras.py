"""What ASGI frameworks have beyond the cases of every stack: mounts within mounts, events, and refusals
of their own kinds. The apps are made before usage is switched on.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncIterator, Callable
from typing import Any, Final
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI, Request
from sse_starlette import EventSourceResponse
from starlette.applications import Starlette
from starlette.routing import Mount, Route
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

import otel_usage as usage
from otel_usage.testing import AxiomStub
from tests.outside import Outside, facts, outcome, outside, the_request
from tests.servers import serve_asgi

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # libraries that those import, and what is deprecated in them, are not of interest
    import blacksheep
    import litestar
    import litestar.exceptions
    import litestar.middleware
    import quart
    import sanic
    import strawberry
    from litestar.params import FromPath
    from strawberry.asgi import GraphQL

SECRET: Final = "what-a-customer-wrote"
SIZES: Final = "http.request.body.size", "http.response.body.size"


async def nothing(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"nothing"})


def fastapi_app(slash: str) -> Any:
    app = FastAPI()

    @app.get("/items/{n}" + slash)
    async def item(n: int) -> int:
        return n

    return app


def three_deep(slash: str = "") -> Any:
    first, second = FastAPI(), FastAPI()
    second.mount("/c/{c}", fastapi_app(slash))
    first.mount("/b", second)
    outermost = FastAPI()
    outermost.mount("/a/{a}", first)
    return outermost


def within_litestar() -> Any:
    inner = three_deep("/")  # with which Litestar ends the paths that it hands on

    @litestar.asgi("/outer/mount", is_mount=True, copy_scope=True)
    async def mounted(scope: Any, receive: Any, send: Any) -> None:
        await inner(scope, receive, send)

    return litestar.Litestar([mounted], logging_config=None)


def blacksheep_items() -> Any:
    app = blacksheep.Application(router=blacksheep.Router())

    @app.router.get("/items/{n}")
    async def item(n: int) -> blacksheep.Response:
        return blacksheep.text(str(n))

    return app


def within_blacksheep() -> Any:
    app = blacksheep.Application(router=blacksheep.Router())
    app.mount("/inner", blacksheep_items())
    app.mount("/plain", nothing)
    return app


def around_others() -> Any:
    made = quart.Quart(__name__)

    @made.get("/items/<int:n>")
    async def item(n: int) -> str:
        return str(n)

    @litestar.get("/items/{n:int}")
    async def litestar_item(n: FromPath[int]) -> str:
        return str(n)

    return Starlette(
        routes=[
            Mount("/quart", made),
            Mount("/litestar/{x}", litestar.Litestar([litestar_item], logging_config=None)),
            Mount("/blacksheep", blacksheep_items()),
        ]
    )


@pytest.mark.parametrize(
    ("make", "path", "template"),
    [
        (three_deep, "/a/1/b/c/2/items/3", "/a/{a}/b/c/{c}/items/{n}"),
        (within_litestar, "/outer/mount/a/1/b/c/2/items/3", "/outer/mount/a/{a}/b/c/{c}/items/{n}/"),
        (within_blacksheep, "/inner/items/3", "/inner/items/{n}"),
        (within_blacksheep, "/plain/what/ever", "/plain/{path}"),
        (around_others, "/quart/items/3", "/quart/items/<int:n>"),
        (around_others, "/litestar/1/items/3", "/litestar/{x}/items/{n}"),
        (around_others, "/blacksheep/items/3", "/blacksheep/items/{n}"),
    ],
)
def test_a_mounted_application_is_one_request_with_the_whole_template(
    make: Callable[[], Any], path: str, template: str, usage_on: None, stub: AxiomStub
) -> None:
    with serve_asgi(make()) as url:
        (answer,) = outside(url, path)
    assert answer.status_code == 200
    span = the_request(stub)
    assert outcome(span) == (200, "ok", None, None)
    assert facts(span, "http.route") == (template,)


@pytest.mark.parametrize("path", ["/a/1/b/c/2/nowhere", "/a/1/nowhere", "/nowhere"])
def test_a_path_that_nothing_beneath_a_mount_knows_is_an_unknown_route(
    path: str, usage_on: None, stub: AxiomStub
) -> None:
    with serve_asgi(three_deep()) as url:
        outside(url, path)
    assert outcome(the_request(stub)) == (404, "unknown_route", None, None)


class Refusing(litestar.middleware.ASGIMiddleware):
    async def handle(self, scope: Any, receive: Any, send: Any, next_app: Any) -> None:
        raise litestar.exceptions.NotAuthorizedException


def litestar_answers() -> Any:
    def answer(_: Any, __: Exception) -> litestar.Response[str]:
        return litestar.Response("sorry", status_code=503)

    @litestar.get("/refused", middleware=[Refusing()])
    async def refused() -> None: ...

    @litestar.get("/handled")
    async def handled() -> None:
        raise KeyError(SECRET)

    @litestar.get("/broken", exception_handlers={Exception: answer})
    async def broken() -> None:
        raise RuntimeError(SECRET)

    @litestar.websocket("/closed")
    async def closed(socket: litestar.WebSocket) -> None:
        await socket.accept()
        raise litestar.exceptions.ServiceUnavailableException

    handlers: Any = {KeyError: answer}
    return litestar.Litestar([refused, handled, broken, closed], exception_handlers=handlers, logging_config=None)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/refused", (401, "auth_401", None, None)),
        ("/handled", (503, "server_error", None, "503")),
        ("/broken", (503, "unhandled_exception", None, "RuntimeError")),
    ],
)
def test_litestar_answers_an_exception_for_which_there_is_a_handler(
    path: str, said: tuple[Any, ...], usage_on: None, stub: AxiomStub
) -> None:
    with serve_asgi(litestar_answers()) as url:
        outside(url, path)
    span = the_request(stub)
    assert outcome(span) == said
    assert facts(span, "http.route") == (path,)


def test_litestar_closes_a_websocket_for_an_http_exception(usage_on: None, stub: AxiomStub) -> None:
    with (
        serve_asgi(litestar_answers()) as url,
        connect(f"ws{url.removeprefix('http')}/closed") as client,
        pytest.raises(ConnectionClosed),
    ):
        client.recv(10)
    assert outcome(the_request(stub)) == (101, "server_error", None, None)


@pytest.mark.parametrize("made", [litestar_answers, blacksheep_items])
def test_a_websocket_where_there_is_none_is_an_unknown_route(
    usage_on: None, stub: AxiomStub, made: Callable[[], Any]
) -> None:
    with serve_asgi(made()) as url, pytest.raises(InvalidStatus), connect(f"ws{url.removeprefix('http')}/nowhere"):
        pass
    assert outcome(the_request(stub)) == (403, "unknown_route", None, None)


def test_blacksheep_has_routers_within_routers_and_filters(usage_on: None, stub: AxiomStub) -> None:
    within = blacksheep.Router(prefix="/within", headers={"x-kind": "a"})
    app = blacksheep.Application(router=blacksheep.Router(sub_routers=[within]))

    @within.get("/items/:n")
    async def item(n: int) -> blacksheep.Response:
        return blacksheep.text(str(n))

    with serve_asgi(app) as url:
        assert outside(url, "/within/items/3", **{"x-kind": "a"})[0].text == "3"
    assert facts(the_request(stub), "http.route") == ("/within/items/:n",)


def events() -> Any:
    async def stream(endless: bool) -> AsyncIterator[dict[str, str]]:
        for count in range(1_000_000 if endless else 3):
            yield {"data": str(count), "event": "count"}
            await asyncio.sleep(0.01)

    return Starlette(
        routes=[
            Route("/events", lambda _: EventSourceResponse(stream(False))),
            Route("/endless", lambda _: EventSourceResponse(stream(True))),
        ]
    )


def test_events_of_sse_starlette_are_counted_to_the_end(usage_on: None, stub: AxiomStub) -> None:
    with serve_asgi(events()) as url:
        (answer,) = outside(url, "/events")
    assert answer.text.count("data: ") == 3
    span = the_request(stub)
    assert outcome(span) == (200, "ok", None, None)
    assert facts(span, "http.route", SIZES[1]) == ("/events", len(answer.content))


def test_a_client_that_has_heard_enough_of_sse_starlette_has_aborted(usage_on: None, stub: AxiomStub) -> None:
    with (
        serve_asgi(events()) as url,
        httpx.Client(base_url=url, transport=Outside()) as client,
        client.stream("GET", "/endless") as answer,
    ):
        heard = len(next(answer.iter_bytes()))
    span = the_request(stub)
    assert outcome(span)[:3] == (200, "client_aborted", True)
    assert int(str(span.attributes[SIZES[1]])) >= heard


def quart_hello() -> Any:
    app = quart.Quart("hello")
    app.add_url_rule("/", view_func=hello)
    return app


def litestar_hello() -> Any:
    return litestar.Litestar([litestar.get("/")(hello)])


def blacksheep_hello() -> Any:
    app = blacksheep.Application()

    @app.router.get("/")
    async def greet() -> blacksheep.Response:
        return blacksheep.text("hello")

    return app


def sanic_hello() -> Any:
    app = sanic.Sanic(f"hello-{uuid4()}".replace("-", "_"))

    @app.get("/")
    async def greet(_request: Any) -> Any:
        return sanic.text("hello")

    return app


def strawberry_hello() -> Any:
    @strawberry.type
    class Query:
        greet: str = "hello"

    return GraphQL(strawberry.Schema(Query))


async def hello() -> str:
    return "hello"


@pytest.mark.parametrize("made", [quart_hello, litestar_hello, blacksheep_hello, sanic_hello, strawberry_hello])
def test_the_resolver_is_told_what_middleware_has_put_into_a_scope_of_its_own(
    switch_on: Callable[..., None], stub: AxiomStub, made: Callable[[], Any]
) -> None:
    app = made()

    async def authenticating(scope: Any, receive: Any, send: Any) -> None:
        await app(scope if scope["type"] == "lifespan" else {**scope, "customer": "acme"}, receive, send)

    switch_on(identity=lambda scope: usage.UsageIdentity(customer_id=scope.get("customer")))
    with serve_asgi(authenticating) as url:
        outside(url, "/")
    assert facts(the_request(stub), "usage.customer.id") == ("acme",)


def test_what_a_route_asks_the_application_in_another_name_is_not_its_callers(
    switch_on: Callable[..., None], stub: AxiomStub
) -> None:
    app = FastAPI()

    @app.get("/quote")
    async def quote() -> None:
        return None

    @app.get("/batch")
    async def batch(request: Request) -> None:
        async def send(message: Any) -> None:
            pass

        within = {**request.scope, "path": "/quote", "headers": [(b"x-customer", b"another")]}
        await app(within, request.receive, send)

    def resolve(scope: Any) -> usage.UsageIdentity:
        return usage.UsageIdentity(customer_id=dict(scope["headers"])[b"x-customer"].decode())

    switch_on(identity=resolve)
    with serve_asgi(app) as url:
        outside(url, "/batch", **{"x-customer": "acme"})
    assert facts(the_request(stub), "usage.customer.id") == ("acme",)
