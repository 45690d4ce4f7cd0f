"""ASGI: one request span for each HTTP request and each WebSocket connection, on every path (ASGI 3.0)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import MethodType
from typing import Any

from .. import runtime
from ..baggage import restore_baggage, shed_baggage
from ..guard import guarded, settle
from ..request import UsageRequest
from ..scope import CURRENT, leave
from .carrier import BRIDGED, REQUEST_KEY, SCOPE_KEY, joining, reached, request_of
from .exchange import EXCHANGES, Exchange, Message, Receive, Scope, Send
from .hooks import Function
from .told import aside, deliver, prepare

ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]


class UsageMiddleware:
    """Observes an ASGI application: ``app = UsageMiddleware(app)``, outermost, so that it sees every answer.

    Nothing it does can fail a request. When usage is off, it calls the application and nothing else.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await observe(self.app, scope, receive, send)


def entry(original: Function) -> Function:
    """The layer of an application's entry, which is a method that takes what every ASGI application does."""

    async def call(self: Any, scope: Scope, receive: Receive, send: Send) -> None:
        if REQUEST_KEY in scope:  # the server's entry has seen it already, or an application's around this one
            reached(scope)
            await original(self, scope, receive, send)
        else:
            await observe(MethodType(original, self), scope, receive, send)

    return call


async def observe(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Call ``app`` and record the request. When an application starts, get ready; when it ends, deliver what waits."""
    exchange = _begin(scope, receive, send)
    if exchange is None:
        await _beside(app, scope, receive, send)
        return
    request = exchange.request
    cancelled = False
    token, shed = CURRENT.set(request), shed_baggage()
    request.works_here()
    try:
        await app(scope, exchange.receive, exchange.send)
    except BaseException as error:
        # No name may hold on to the error: its traceback holds this frame, and all would wait for a collection.
        cancelled = not isinstance(error, Exception)
        exchange.failed(error)
        raise
    finally:
        if shed is not None:
            restore_baggage(shed)
        leave(token)
        exchange.close()
        if request.recorder.delivers_each and not cancelled:
            await exchange.delivered()


def _begin(scope: Scope, receive: Receive, send: Send) -> Exchange | None:
    """What observes the request. None: it is not to be recorded here."""
    recorder = runtime.running
    if recorder is None or REQUEST_KEY in scope:
        return None
    try:
        kind = EXCHANGES.get(scope["type"])
        if kind is None or ((SCOPE_KEY in scope or BRIDGED in scope) and request_of(scope) is not None):
            return None
        exchange = kind(recorder, scope, receive, send)
        scope[REQUEST_KEY] = exchange.request
    except Exception as error:
        settle("instrumentation.asgi._begin", error)
        return None
    return exchange


async def _beside(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """What is no request to be recorded: one that is already, the life of an application, or anything while off."""
    if scope["type"] == "lifespan" and REQUEST_KEY not in scope:
        scope[REQUEST_KEY] = None  # FastAPI's entry and Starlette's are one application
        await app(scope, _preparing(receive), _delivering(send))
        return
    with joining(_joined(scope)):
        await app(scope, receive, send)


@guarded(None)
def _joined(scope: Scope) -> UsageRequest | None:
    """The request that a bridge has brought here. None: none has, or it has been joined."""
    if runtime.running is None or scope["type"] not in EXCHANGES or REQUEST_KEY in scope:
        return None
    around = request_of(scope)
    if around is not None:
        scope[REQUEST_KEY] = around
    return around


def _preparing(receive: Receive) -> Receive:
    async def receive_first() -> Message:
        message = await receive()
        if message["type"] == "lifespan.startup":
            prepare()
        return message

    return receive_first


def _delivering(send: Send) -> Send:
    """Deliver before the server learns that the application has shut down.

    uvicorn then ends the process by the signal that stopped it, and nothing registered with ``atexit`` runs. The
    application's own requests are over by now; another application on the same loop is not kept either.
    """

    async def send_last(message: Message) -> None:
        if message["type"].startswith("lifespan.shutdown."):
            await aside(deliver)
        await send(message)

    return send_last
