"""urllib3: one upstream span for each attempt that a connection pool makes, and so for all that is built on it.

A pool makes each attempt by one method, redirects and retries included. What comes of it is counted beneath, where the
body is read (`http_client.py`), because the pool may read it whole before it returns.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, Final
from urllib.parse import urlsplit

from ..guard import guarded, report
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
        if exchange.status is None:
            _elsewhere(exchange, conn, response)
        return response

    return make_request


def _begin(  # noqa: PLR0917  # one call, where a request takes some hundred
    pool: Any, conn: Any, method: str, url: str, body: Any, headers: Mapping[Any, Any] | None, retries: Any
) -> tuple[Exchange, Any, Any] | None:
    """The attempt, and the headers and body to be sent. None: it is not to be observed, or is already."""
    kept = vars(conn)
    began = kept.pop(_BEGAN, None)
    if EXCHANGE in kept:
        return None
    sending = attempt(pool, method, url, body, headers, retries, conn.blocksize, began)
    if sending is not None:
        kept[EXCHANGE] = sending[0]
    return sending


def attempt(  # noqa: PLR0917  # as above
    pool: Any, method: str, url: str, body: Any, headers: Mapping[Any, Any] | None, retries: Any, block: int,
    began: tuple[int, int] | None = None,
) -> tuple[Exchange, Any, Any] | None:  # fmt: skip
    """An attempt of a pool, and the headers and body to be sent. None: it is not to be observed."""
    try:
        recorder = listening()
        if recorder is None:
            return None
        name = attempted(None, len(getattr(retries, "history", ())))
        exchange = Exchange(recorder, name, method, _place(pool, url), "utf-8", began)
        return exchange, *exchange.outgoing(headers, body, block)
    except Exception as error:  # as `guarded` does, whose wrapper takes 0.06 µs
        report("instrumentation.urllib3.attempt", error)
        return None


def _place(pool: Any, url: str) -> tuple[str, int | None]:
    """Host and port that are called: the pool's, unless that is of a proxy, which is told the whole URL."""
    scheme, host, port = pool.scheme, pool.host, pool.port
    if not url.startswith("/"):
        parts = urlsplit(url)
        if parts.hostname:
            scheme, host, port = parts.scheme, parts.hostname, parts.port
    return host.strip("[]"), port or PORTS.get(scheme)


@guarded(None)
def _elsewhere(exchange: Exchange, conn: Any, response: Any) -> None:
    """The response has not come by way of http.client, as that of a recording or of HTTP/2: it is here, whole."""
    vars(conn).pop(EXCHANGE, None)
    exchange.asked()
    exchange.responded(response.status)
    exchange.received = getattr(response, "_fp_bytes_read", 0) or len(getattr(response, "_data", None) or b"")
    exchange.complete = True
    exchange.finish()


def _prepare_proxy(original: Function) -> Function:
    def prepare_proxy(self: Any, conn: Any) -> Any:
        began = time.time_ns(), time.perf_counter_ns()
        try:
            result = original(self, conn)
        except BaseException as error:
            _not_through(self, began, error)
            raise
        vars(conn)[_BEGAN] = began
        return result

    return prepare_proxy


@guarded(None)
def _not_through(pool: Any, began: tuple[int, int], error: BaseException) -> None:
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
        result = original(self)
        if exchange is not None and self.chunk_left == 0:
            exchange.complete = True  # it is closed next, with what may follow the last chunk
        return result

    return update_chunk_length


def _exchange_of(response: Any) -> Exchange | None:
    found = getattr(response._fp, EXCHANGE, None)
    return found if isinstance(found, Exchange) else None


TESTED: Final = {"urllib3": "2.8"}


def _hooks() -> tuple[Hook, ...]:
    if find_spec("urllib3.backend") is not None:  # it is urllib3-future, by this name
        from .urllib3_future import pool_hooks

        return pool_hooks("urllib3")
    return (
        Hook("urllib3.connectionpool", "HTTPConnectionPool._make_request", _make_request),
        Hook("urllib3.connectionpool", "HTTPSConnectionPool._prepare_proxy", _prepare_proxy),
        Hook("urllib3.response", "HTTPResponse._handle_chunk", _handle_chunk),
        Hook("urllib3.response", "HTTPResponse._update_chunk_length", _update_chunk_length),
    )


HOOKS: Final = _hooks()
