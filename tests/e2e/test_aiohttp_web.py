"""aiohttp.web: what it does in ways of its own."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from aiohttp import web

from otel_usage import guard
from otel_usage.testing import AxiomStub
from tests.outside import Outside, facts, outcome, outside, requests_of, the_request
from tests.servers import serve_aiohttp

SIZE = "http.response.body.size"
HUGE = 512 * 1024 * 1024

Handler = Callable[[web.Request], object]


@pytest.fixture(autouse=True)
def nothing_of_ours_fails() -> Iterator[None]:
    yield
    assert not guard.internal_errors()


def app_of(handler: Handler, path: str = "/") -> web.Application:
    app = web.Application()
    app.router.add_get(path, handler)
    return app


def sent(url: str, **headers: str) -> bytes:
    """The body of an answer as it was sent, without the framing of chunks."""
    with (
        httpx.Client(transport=Outside(), headers={"accept-encoding": "gzip", **headers}) as client,
        client.stream("GET", url) as answer,
    ):
        return b"".join(answer.iter_raw())


async def compressed(_: web.Request) -> web.Response:
    response = web.Response(text="a text " * 1000)
    response.enable_compression()
    return response


async def compressed_stream(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    response.enable_compression()
    await response.prepare(request)
    for number in range(300):
        await response.write(b"%d, " % number * 100)
    return response


async def compressed_payload(_: web.Request) -> web.Response:
    async def parts() -> AsyncIterator[bytes]:
        for number in range(300):
            yield b"%d, " % number * 100

    response = web.Response(body=parts())
    response.enable_compression()
    return response


@pytest.mark.parametrize("handler", [compressed, compressed_stream, compressed_payload])
def test_what_is_compressed_counts_as_it_is_sent(usage_on: None, stub: AxiomStub, handler: Handler) -> None:
    with serve_aiohttp(app_of(handler)) as url:
        body = sent(url)
    assert len(body) < 7000
    assert facts(the_request(stub), SIZE) == (len(body),)


def test_two_tasks_that_write_one_response(usage_on: None, stub: AxiomStub) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await asyncio.gather(*(response.write(b"x" * 100_000) for _ in range(20)))
        return response

    with serve_aiohttp(app_of(handler)) as url:
        assert len(sent(url)) == 2_000_000
    assert facts(the_request(stub), SIZE) == (2_000_000,)


@pytest.mark.parametrize(
    ("method", "headers", "status", "size"),
    [
        ("GET", {}, 200, 1000),
        ("GET", {"range": "bytes=10-19"}, 206, 10),
        ("GET", {"range": "bytes=2000-"}, 416, 0),
        ("HEAD", {}, 200, 0),
    ],
)
def test_parts_of_a_file(
    usage_on: None,
    stub: AxiomStub,
    tmp_path: Path,
    method: str,
    headers: dict[str, str],
    status: int,
    size: int,
) -> None:
    (tmp_path / "file").write_bytes(b"f" * 1000)
    app = web.Application()
    app.router.add_static("/files", tmp_path)
    with serve_aiohttp(app) as url, httpx.Client(transport=Outside()) as client:
        assert client.request(method, f"{url}/files/file", headers=headers).status_code == status
    span = the_request(stub)
    assert facts(span, "http.route", "http.response.status_code", SIZE) == ("/files/{path}", status, size)


def test_a_file_that_is_not_there(usage_on: None, stub: AxiomStub, tmp_path: Path) -> None:
    app = web.Application()
    app.router.add_static("/files", tmp_path)
    with serve_aiohttp(app) as url:
        outside(url, "/files/none")
    assert facts(the_request(stub), "http.route", "usage.reason") == ("/files/{path}", "not_found")


def test_a_client_that_leaves_in_the_middle_of_a_file(usage_on: None, stub: AxiomStub, tmp_path: Path) -> None:
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(HUGE)

    async def handler(_: web.Request) -> web.FileResponse:
        return web.FileResponse(tmp_path / "huge")

    with serve_aiohttp(app_of(handler)) as url:
        with socket.create_connection((urlsplit(url).hostname, urlsplit(url).port), 10) as client:
            client.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            assert client.recv(1000)
        span = the_request(stub)
    assert outcome(span)[:3] == (200, "client_aborted", True)
    assert 0 < int(str(span.attributes[SIZE])) < HUGE


def test_a_handler_that_timed_out(usage_on: None, stub: AxiomStub) -> None:
    async def handler(_: web.Request) -> web.Response:
        raise TimeoutError

    with serve_aiohttp(app_of(handler)) as url:
        assert outside(url, "/")[0].status_code == 504
    assert outcome(the_request(stub)) == (504, "unhandled_exception", None, "TimeoutError")


def test_an_error_in_a_body_that_has_not_been_sent_yet(usage_on: None, stub: AxiomStub) -> None:
    async def handler(_: web.Request) -> web.Response:
        async def parts() -> AsyncIterator[bytes]:
            raise LookupError
            yield b""

        return web.Response(body=parts())

    with serve_aiohttp(app_of(handler)) as url, pytest.raises(httpx.TransportError):
        outside(url, "/")
    assert facts(the_request(stub), "usage.reason", "error.type") == ("unhandled_exception", "LookupError")


def test_a_template_with_a_pattern_has_only_its_name(usage_on: None, stub: AxiomStub) -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.Response()

    inner = app_of(handler, r"/{name}/{n:\d+}")
    outer, app = web.Application(), web.Application()
    outer.add_subapp("/inner", inner)
    app.add_subapp("/outer", outer)
    with serve_aiohttp(app) as url:
        outside(url, "/outer/inner/a/17", "/outer/inner/a/b", "/outer/elsewhere")
    found = [facts(span, "http.route", "usage.reason") for span in requests_of(stub, 3)]
    assert found == [("/outer/inner/{name}/{n}", "ok"), (None, "unknown_route"), (None, "unknown_route")]


def test_a_middleware_that_asks_the_router_whether_another_path_would_do(usage_on: None, stub: AxiomStub) -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.Response()

    app = web.Application(middlewares=[web.normalize_path_middleware()])
    app.router.add_get("/items/", handler)
    with serve_aiohttp(app) as url:
        assert outside(url, "/items")[0].status_code == 308
    assert facts(the_request(stub), "http.route", "http.response.status_code") == (None, 308)


def test_a_server_without_an_application(usage_on: None, stub: AxiomStub) -> None:
    async def handler(_: web.BaseRequest) -> web.Response:
        return web.Response(text="hello")

    with serve_aiohttp(handler) as url:
        assert outside(url, "/any")[0].text == "hello"
    assert facts(the_request(stub), "http.response.status_code", SIZE) == (200, 5)


def test_a_response_that_an_application_uses_again_is_as_it_was(
    switch_on: Callable[..., None], stub: AxiomStub
) -> None:
    switch_on(dev_header=True)
    seen: list[web.Response] = []

    async def handler(_: web.Request) -> web.Response:
        seen.append(web.Response(text="hello"))
        return seen[0]

    with serve_aiohttp(app_of(handler)) as url:
        outside(url, "/")
    assert "x-usage-telemetry" not in seen[0].headers
    the_request(stub)
