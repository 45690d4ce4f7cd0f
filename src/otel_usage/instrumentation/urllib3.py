"""urllib3: one upstream span for each attempt that a connection pool makes, and so for all that is built on it.

A pool makes each attempt by one method, redirects and retries included. What comes of it is counted beneath, where the
body is read (`http_client.py`), because the pool may read it whole before it returns.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from ..guard import guarded
from .calls import PORTS, attempted, listening
from .hooks import Function, Hook
from .http_client import EXCHANGE, Exchange

_BEGAN: Final = "_otel_usage_began"
"""Where a connection holds when it began to go through a proxy: the attempt has begun then."""


def _make_request(original: Function) -> Function:
    def make_request(  # noqa: PLR0917  # as the original
        self: Any, conn: Any, method: str, url: str, body: Any = None, headers: Any = None, retries: Any = None,
        *args: Any, **kwargs: Any,
    ) -> Any:  # fmt: skip
        sending = _begin(self, conn, method, url, body, headers, retries)
        if sending is None:
            return original(self, conn, method, url, body, headers, retries, *args, **kwargs)
        exchange, headers, body = sending
        try:
            response = original(self, conn, method, url, body, headers, retries, *args, **kwargs)
        except BaseException as error:
            vars(conn).pop(EXCHANGE, None)
            exchange.broken(error)
            raise
        vars(conn).pop(EXCHANGE, None)  # also where it is held twice, by a connection that stands in for another
        if exchange.status is None:
            exchange.elsewhere(response)
        return response

    return make_request


@guarded(None)
def _begin(  # noqa: PLR0917  # one call, where a request takes some hundred
    pool: Any, conn: Any, method: str, url: str, body: Any, headers: Mapping[Any, Any] | None, retries: Any
) -> tuple[Exchange, Any, Any] | None:
    """The attempt, and the headers and body to be sent. None: it is not to be observed, or is already."""
    if EXCHANGE in vars(conn):
        return None
    sending = attempt(pool, conn, method, url, body, headers, retries, conn.blocksize)
    if sending is not None:
        setattr(conn, EXCHANGE, sending[0])
    return sending


@guarded(None)
def attempt(  # noqa: PLR0917  # as above
    pool: Any, conn: Any, method: str, url: str, body: Any, headers: Mapping[Any, Any] | None, retries: Any, block: int
) -> tuple[Exchange, Any, Any] | None:
    """An attempt of a pool, and the headers and body to be sent. None: it is not to be observed."""
    began = vars(conn).pop(_BEGAN, None)
    recorder = listening()
    if recorder is None:
        return None
    name = attempted(None, len(getattr(retries, "history", ())))
    exchange = Exchange(recorder, name, method, _place(pool, url), "utf-8", began)
    return exchange, *exchange.outgoing(headers, body, block)


def _place(pool: Any, url: str) -> tuple[str, int | None]:
    """Host and port that are called: where the pool leads, or a proxy leads that is told the whole URL."""
    scheme, host, port = pool.scheme, pool.host, pool.port
    if pool.proxy is not None and not url.startswith("/"):
        parts = urlsplit(url)
        scheme, host, port = parts.scheme, parts.hostname or host, parts.port
    return host.strip("[]"), port or PORTS.get(scheme)


def prepare_proxy(original: Function) -> Function:
    """Around the method by which a pool has a proxy connect it to a host."""

    def prepare(self: Any, conn: Any) -> Any:
        began = time.time_ns(), time.perf_counter_ns()
        try:
            result = original(self, conn)
        except BaseException as error:
            not_through(self, began, error)
            raise
        through(conn, began)
        return result

    return prepare


@guarded(None)
def through(conn: Any, began: tuple[int, int]) -> None:
    """The proxy has let the call through, which began with asking it."""
    vars(conn)[_BEGAN] = began


@guarded(None)
def not_through(pool: Any, began: tuple[int, int], error: BaseException) -> None:
    """The proxy does not let the call through. That is an attempt, of which only CONNECT was sent."""
    recorder = listening()
    if recorder is not None:
        Exchange(recorder, attempted(), "CONNECT", _place(pool, "/"), "utf-8", began).broken(error)


def _handle_chunk(original: Function) -> Function:
    """A body that is streamed in chunks is read around http.client, chunk by chunk."""

    def handle_chunk(self: Any, amt: int | None) -> Any:
        exchange = _exchange_of(self)
        if exchange is not None:
            exchange.chunk = True
        return original(self, amt)

    return handle_chunk


def _update_chunk_length(original: Function) -> Function:
    def update_chunk_length(self: Any) -> Any:
        exchange = _exchange_of(self)
        if exchange is None:
            return original(self)
        exchange.held = True  # before it raises it closes the response
        try:
            result = original(self)
            exchange.complete = self.chunk_left == 0  # it is closed next, with what may follow the last chunk
        except BaseException as error:
            exchange.broken(error)
            raise
        finally:
            exchange.held = False
        return result

    return update_chunk_length


def _exchange_of(response: Any) -> Exchange | None:
    found = getattr(getattr(response, "_fp", None), EXCHANGE, None)
    return found if isinstance(found, Exchange) else None


TESTED: Final = {"urllib3": "2.8"}


def _hooks() -> tuple[Hook, ...]:
    found = find_spec("urllib3")  # not a module within it, which would import it
    places = found.submodule_search_locations if found is not None else None
    if any((Path(place) / "backend").exists() for place in places or ()):  # it is urllib3-future, by this name
        from .urllib3_future import pool_hooks

        return pool_hooks("urllib3")
    return (
        Hook("urllib3.connectionpool", "HTTPConnectionPool._make_request", _make_request),
        Hook("urllib3.connectionpool", "HTTPSConnectionPool._prepare_proxy", prepare_proxy),
        Hook("urllib3.response", "HTTPResponse._handle_chunk", _handle_chunk),
        Hook("urllib3.response", "HTTPResponse._update_chunk_length", _update_chunk_length),
    )


HOOKS: Final = _hooks()
