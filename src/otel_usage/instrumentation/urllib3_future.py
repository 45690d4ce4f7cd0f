"""urllib3-future, beneath niquests, sync and async: one upstream span for each attempt that a connection pool makes.

It is made in urllib3's image, and installed in its place or beside it: there are two names for the same modules. Its
connections are its own, and several calls may be on one at the same time. So an exchange is with the promise of a
response, or with the call that waits for it, and never with a connection.
"""

from __future__ import annotations

from contextvars import ContextVar
from functools import cache
from typing import Any, Final

from ..guard import guarded
from .hooks import Function, Hook
from .http_client import EXCHANGE, Exchange, disguised, over
from .urllib3 import attempt

_EXCHANGE: Final[ContextVar[Exchange | None]] = ContextVar("otel_usage.urllib3_future.exchange", default=None)
"""The exchange whose response is waited for."""


def _make_request(original: Function) -> Function:
    def make_request(  # noqa: PLR0917  # as the original
        self: Any, conn: Any, method: str, url: str, body: Any = None, headers: Any = None, retries: Any = None,
        *args: Any, **kwargs: Any,
    ) -> Any:  # fmt: skip
        sending = attempt(self, method, url, body, headers, retries, conn.blocksize)
        if sending is None:
            return original(self, conn, method, url, body, headers, retries, *args, **kwargs)
        exchange, headers, body = sending
        token = _EXCHANGE.set(exchange)
        try:
            response = original(self, conn, method, url, body, headers, retries, *args, **kwargs)
        except BaseException as error:
            exchange.broken(error)
            raise
        finally:
            _EXCHANGE.reset(token)
        _promised(exchange, response)
        return response

    return make_request


def _async_make_request(original: Function) -> Function:
    async def make_request(  # noqa: PLR0917  # as the original
        self: Any, conn: Any, method: str, url: str, body: Any = None, headers: Any = None, retries: Any = None,
        *args: Any, **kwargs: Any,
    ) -> Any:  # fmt: skip
        sending = attempt(self, method, url, body, headers, retries, conn.blocksize)
        if sending is None:
            return await original(self, conn, method, url, body, headers, retries, *args, **kwargs)
        exchange, headers, body = sending
        token = _EXCHANGE.set(exchange)
        try:
            response = await original(self, conn, method, url, body, headers, retries, *args, **kwargs)
        except BaseException as error:
            exchange.broken(error)
            raise
        finally:
            _reset(token)
        _promised(exchange, response)
        return response

    return make_request


def _reset(token: Any) -> None:
    try:  # noqa: SIM105  # as it says
        _EXCHANGE.reset(token)
    except ValueError:
        pass  # a coroutine may be closed in another context; there is nothing to undo there


@guarded(None)
def _promised(exchange: Exchange, response: Any) -> None:
    """Where the connection serves several calls at once, the application is given a promise, and asks for the response
    when it likes.
    """
    if exchange.status is None and hasattr(response, "set_parameter"):
        exchange.asked()
        response.set_parameter(EXCHANGE, exchange)


def _getresponse(original: Function) -> Function:
    def getresponse(self: Any, *, promise: Any = None, early_response_callback: Any = None) -> Any:
        exchange = _waiting(promise)
        try:
            response = original(self, promise=promise, early_response_callback=early_response_callback)
        except BaseException as error:
            _nothing(promise, error)
            raise
        _arrived(exchange, response, _observed)
        return response

    return getresponse


def _async_getresponse(original: Function) -> Function:
    async def getresponse(self: Any, *, promise: Any = None, early_response_callback: Any = None) -> Any:
        exchange = _waiting(promise)
        try:
            response = await original(self, promise=promise, early_response_callback=early_response_callback)
        except BaseException as error:
            _nothing(promise, error)
            raise
        _arrived(exchange, response, _async_observed)
        return response

    return getresponse


@guarded(None)
def _waiting(promise: Any) -> Exchange | None:
    """The exchange of the call that waits, all of which has been sent by now. None: any response will do."""
    exchange = _EXCHANGE.get() or _of(promise)
    if exchange is not None:
        exchange.asked()
    return exchange


@guarded(None)
def _nothing(promise: Any, error: BaseException) -> None:
    """What was promised has not come. Who waits within the call that has sent it says so itself."""
    exchange = _of(promise)
    if exchange is not None:
        exchange.broken(error)


@guarded(None)
def _arrived(exchange: Exchange | None, response: Any, observed: Function) -> None:
    exchange = exchange or _of(response.from_promise)
    if exchange is not None and exchange.status is None:  # an early response is one on the way to this one
        exchange.arrived(response, observed)


def _of(promise: Any) -> Exchange | None:
    found = None if promise is None else promise.get_parameter(EXCHANGE)
    return found if isinstance(found, Exchange) else None


@cache
def _observed(kind: type[Any]) -> type[Any]:
    """A class of responses that tell their exchange what is read of them."""

    class Observed(kind):  # type: ignore[misc]  # the base is only known at run time
        def _read(self, size: int | None, *, read1: bool) -> Any:
            try:
                data = kind._read(self, size, read1=read1)
            except BaseException as error:
                _broke_off(self, kind, error)
                raise
            _read(self, data)
            return data

        def close(self) -> None:
            kind.close(self)
            over(self)

        def __del__(self) -> None:
            over(self)

    return disguised(Observed)


@cache
def _async_observed(kind: type[Any]) -> type[Any]:
    """The same of async ones, which are closed without waiting."""

    class Observed(kind):  # type: ignore[misc]  # as above
        async def _read(self, size: int | None, *, read1: bool) -> Any:
            try:
                data = await kind._read(self, size, read1=read1)
            except BaseException as error:
                _broke_off(self, kind, error)
                raise
            _read(self, data)
            return data

        def close(self) -> None:
            kind.close(self)
            over(self)

        def __del__(self) -> None:
            over(self)

    return disguised(Observed)


@guarded(None)
def _read(response: Any, data: bytes) -> None:
    exchange = vars(response).get(EXCHANGE)
    if exchange is None:
        return
    exchange.received += len(data)
    if response.closed:
        exchange.complete = True
        over(response)


@guarded(None)
def _broke_off(response: Any, kind: type[Any], error: BaseException) -> None:
    """What had come and was not handed on has come all the same. Where the body is too short, the error says how much
    of it there was in all.
    """
    exchange = vars(response).get(EXCHANGE)
    if exchange is None:
        return
    partial = getattr(error, "partial", None)
    if isinstance(partial, int):
        exchange.received = max(exchange.received, partial)
    else:
        exchange.received += len(getattr(response, f"_{kind.__name__}__buffer_excess", b""))
    over(response, error)


def pool_hooks(package: str) -> tuple[Hook, ...]:
    """Those on the pools of the package of this name."""
    return (Hook(f"{package}.connectionpool", "HTTPConnectionPool._make_request", _make_request),)


def _hooks(package: str) -> tuple[Hook, ...]:
    return (
        Hook(f"{package}._async.connectionpool", "AsyncHTTPConnectionPool._make_request", _async_make_request),
        Hook(f"{package}.backend.hface", "HfaceBackend.getresponse", _getresponse),
        Hook(f"{package}.backend._async.hface", "AsyncHfaceBackend.getresponse", _async_getresponse),
    )


TESTED: Final = {"urllib3-future": "2.25"}

HOOKS: Final = (*pool_hooks("urllib3_future"), *_hooks("urllib3_future"), *_hooks("urllib3"))
