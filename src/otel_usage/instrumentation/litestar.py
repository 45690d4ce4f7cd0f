"""Litestar: the entry of an application, the template of the route, the exceptions that it answers itself.

An application binds its routes' methods when it is made, so they are no place for hooks: its router is asked again what
it is about to choose, which it remembers. That is before middlewares and guards, which may refuse the request.
"""

from __future__ import annotations

import sys
from typing import Any, Final

from ..guard import guarded
from ..request import UsageRequest, current_request
from ..request_facts import reason_of
from .asgi import entry
from .carrier import observed
from .exchange import Receive, Scope, Send
from .hooks import Function, Hook


def _router(original: Function) -> Function:
    async def call(self: Any, scope: Scope, receive: Receive, send: Send) -> None:
        _routed(self, scope)
        await original(self, scope, receive, send)

    return call


@guarded(None)
def _routed(router: Any, scope: Scope) -> None:
    request = observed(scope)
    if request is None:
        return
    path, root = scope["path"], scope.get("root_path", "")
    path = sys.modules["litestar.utils"].normalize_path(path.split(root, maxsplit=1)[-1] if root else path)
    try:
        # With the arguments that the router gives itself: it remembers its answers by them.
        _, handler, rest, _, template = router.handle_routing(path=path, method=scope.get("method"))
    except sys.modules["litestar.exceptions"].LitestarException:  # it has no such route, or not for this method
        return
    if getattr(handler, "is_mount", False):
        request.entered(path.removesuffix(rest.strip("/")).rstrip("/"), routes=False)
    else:
        request.matched(template)


def _handle_request_exception(original: Function) -> Function:
    async def handle_request_exception(  # noqa: PLR0917  # as Litestar's own has them
        self: Any, litestar_app: Any, scope: Scope, receive: Receive, send: Send, exc: Exception
    ) -> None:
        _answered(litestar_app, scope, exc)
        await original(self, litestar_app, scope, receive, send, exc)

    return handle_request_exception


@guarded(None)
def _answered(app: Any, scope: Scope, error: Exception) -> None:
    """An exception is answered by the handler for it. That for every exception handles none in particular."""
    handler = scope.get("route_handler")
    handlers = app.exception_handlers if handler is None else handler.resolve_exception_handlers()
    if not isinstance(error, sys.modules["litestar.exceptions"].HTTPException) and not any(
        each in handlers for each in type(error).__mro__ if each is not Exception
    ):
        _failed(observed(scope), error)


def _handle_websocket_exception(original: Function) -> Function:
    async def handle_websocket_exception(send: Send, exc: Exception) -> None:
        _closed(exc)
        await original(send, exc)

    return handle_websocket_exception


@guarded(None)
def _closed(error: Exception) -> None:
    """A WebSocket is closed because of an exception, with a code that says little."""
    request, exceptions = current_request(), sys.modules["litestar.exceptions"]
    if request is not None and isinstance(error, exceptions.HTTPException):
        request.reason = request.reason or reason_of(
            status=error.status_code, method="GET", has_route=request.found, is_preflight=False
        )
    elif not isinstance(error, exceptions.WebSocketException):
        _failed(request, error)


def _handling(original: Function) -> Function:
    async def call(self: Any, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await original(self, scope, receive, send)
        except Exception as error:
            _failed(observed(scope), _within(error))
            raise

    return call


def _within(error: BaseException) -> BaseException:
    """What the application raised once its response had started: Litestar streams in a group of tasks, and lets what
    ends that on within an exception of its own.
    """
    found = error.__cause__ or error
    while isinstance(found, BaseExceptionGroup) and len(found.exceptions) == 1:
        found = found.exceptions[0]
    return found


@guarded(None)
def _failed(request: UsageRequest | None, error: BaseException) -> None:
    if request is not None:
        request.failed(error)


TESTED: Final = {"litestar": "2.25"}

_EXCEPTIONS: Final = "litestar.middleware._internal.exceptions.middleware"

HOOKS: Final = (
    Hook("litestar.app", "Litestar.__call__", entry),
    Hook("litestar._asgi.asgi_router", "ASGIRouter.__call__", _router),
    Hook(_EXCEPTIONS, "ExceptionHandlerMiddleware.__call__", _handling),
    Hook(_EXCEPTIONS, "ExceptionHandlerMiddleware.handle_request_exception", _handle_request_exception),
    Hook(_EXCEPTIONS, "ExceptionHandlerMiddleware.handle_websocket_exception", _handle_websocket_exception),
)
