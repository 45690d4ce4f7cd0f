"""A WSGI application of no framework. What it serves has a template where it says so."""

import json
import os
import time
from collections.abc import Callable, Iterable
from typing import Any

import parts
from setting import SECRET

import otel_usage as usage

Answer = tuple[int, Iterable[bytes]]
App = Callable[[dict[str, Any], Any], Iterable[bytes]]


def as_customer(customer: str) -> list[bytes]:
    parts.identify_around_a_pause(customer)
    return [customer.encode()]


def thread(customer: str) -> list[bytes]:
    parts.identify_on_a_thread(customer)
    return [customer.encode()]


def background(customer: str) -> list[bytes]:
    parts.identify(customer)
    parts.start_afterwards()
    return [customer.encode()]


def read(environ: dict[str, Any]) -> bytes:
    length = environ.get("CONTENT_LENGTH")
    return bytes(environ["wsgi.input"].read(int(length)) if length else environ["wsgi.input"].read())


def item(environ: dict[str, Any], name: str, n: str) -> Answer:
    if environ["REQUEST_METHOD"] != "GET":
        return 405, [b""]
    return 200, [json.dumps({name: int(n)}).encode()]


def serve(environ: dict[str, Any]) -> Answer:  # noqa: C901 - it is the table of what there is
    match environ["PATH_INFO"].split("/")[1:]:
        case [""]:
            usage.annotate(route="/")
            return 200, [b"hello"]
        case ["items", n]:
            usage.annotate(route="/items/{n}")
            return item(environ, "n", n)
        case ["inner", m, "items", n]:
            usage.annotate(route="/inner/{m}/items/{n}")
            return item(environ, m, n)
        case ["echo"]:
            return 200, [read(environ)]
        case ["empty"]:
            return 204, []
        case ["moved"]:
            return 302, [b""]
        case ["status", code]:
            usage.annotate(route="/status/{code}")
            return int(code), [b"as you wish"]
        case ["refused"]:
            usage.annotate(route="/refused")
            return 403, [b""]
        case ["broken"]:
            usage.annotate(route="/broken")
            raise RuntimeError(SECRET)
        case ["stream"]:
            return 200, parts.chunks(5)
        case ["stream-broken"]:
            return 200, parts.chunks(1, breaks=True)
        case ["forever"]:
            return 200, parts.chunks(1000)
        case ["slow"]:
            usage.annotate(route="/slow")
            time.sleep(0.5)
            return 200, [b"at last"]
        case ["as", customer]:
            return 200, as_customer(customer)
        case ["deep", customer]:
            return 200, [customer.encode()]
        case ["thread", customer]:
            return 200, thread(customer)
        case ["upstream"]:
            usage.annotate(route="/upstream")
            return 200, [parts.call_upstream().encode()]
        case ["background", customer]:
            return 200, background(customer)
        case ["events"]:
            usage.annotate(route="/events")
            return 200, parts.events()
        case _:
            return 404, [b"no"]


def plain(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    status, body = serve(environ)
    headers = [("location", "/")] if status == 302 else []
    if environ["PATH_INFO"] == "/events":
        headers.append(("content-type", "text/event-stream"))
    if isinstance(body, list) and status != 204:
        headers.append(("content-length", str(sum(map(len, body)))))
    start_response(f"{status} as it is", headers)
    return body


def authenticating(within: App) -> App:
    def call(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path.startswith("/deep/"):
            parts.identify(path.removeprefix("/deep/"))
        return within(environ, start_response)

    return call


app = authenticating(plain)
if os.environ.get("MODE") == "by-hand":
    app = usage.UsageWSGIMiddleware(app)
