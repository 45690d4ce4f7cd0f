"""The other side of a test: a client that is nobody's upstream call, and the request spans that came of what it did."""

from __future__ import annotations

import time
from contextlib import closing
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import httpx

import otel_usage as usage
from otel_usage.testing import AxiomStub, ReceivedSpan


class Outside(httpx.BaseTransport):
    """httpx's transport without the hooks, which sit on the class of the original: it plays somebody else."""

    def __init__(self) -> None:
        self._transport = httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        handle = httpx.HTTPTransport.__dict__["handle_request"]
        return getattr(handle, "__wrapped__", handle)(self._transport, request)

    def close(self) -> None:
        self._transport.close()


def outside(url: str, *paths: str, **headers: str) -> list[httpx.Response]:
    """The answers to a GET of each path, one after the other, from one client."""
    with httpx.Client(base_url=url, transport=Outside(), headers=headers) as client:
        return [client.get(path) for path in paths]


def unseen(url: str) -> bytes:
    """The body of a GET by Python's http.client itself, which no hook sees where nothing is built on it."""
    parts = urlsplit(url)
    with closing(HTTPConnection(parts.netloc, timeout=20)) as connection:
        connection.request("GET", parts.path or "/")
        return connection.getresponse().read()


def requests_of(stub: AxiomStub, count: int = 1) -> list[ReceivedSpan]:
    """The request spans of a test by their start, of which there must be ``count``.

    Usage is switched off first, so all is delivered, and no other can follow.
    """
    deadline = time.monotonic() + 10
    while len(_requests(stub)) < count and time.monotonic() < deadline:
        time.sleep(0.005)  # the answer is at its client before the request's span is made
    usage.uninstrument()
    found = _requests(stub)
    assert len(found) == count
    return sorted(found, key=lambda span: span.start_time)


def _requests(stub: AxiomStub) -> list[ReceivedSpan]:
    return [span for span in stub.unique_spans if span.kind == "server"]


def the_request(stub: AxiomStub) -> ReceivedSpan:
    """The one request span of a test."""
    return requests_of(stub)[0]


def facts(span: ReceivedSpan, *keys: str) -> tuple[Any, ...]:
    """The values of attributes, None for those that are absent."""
    return tuple(span.attributes.get(key) for key in keys)


def outcome(span: ReceivedSpan) -> tuple[Any, ...]:
    """How a request ended: status code, reason, aborted, error type."""
    return facts(span, "http.response.status_code", "usage.reason", "usage.aborted", "error.type")
