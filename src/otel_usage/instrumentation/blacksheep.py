"""BlackSheep: the entry of an application, the pattern of the route that matched, the exceptions it answers.

It is compiled in part, and the methods of compiled classes cannot be replaced: what they call on the application's
own class, and on its router, can.
"""

from __future__ import annotations

import sys
from typing import Any, Final

from ..guard import guarded
from ..request import current_request
from ..request_facts import reason_of
from .asgi import entry
from .carrier import observed
from .exchange import Receive, Scope, Send
from .hooks import Function, Hook


def _get_match(original: Function) -> Function:
    def get_match(self: Any, request: Any) -> Any:
        match = original(self, request)
        if match is not None:
            _matched(self, request.scope, match)
        return match

    return get_match


def _handle_websocket(original: Function) -> Function:
    async def handle_websocket(self: Any, scope: Scope, receive: Receive, send: Send) -> None:
        _connected(self, scope)
        await original(self, scope, receive, send)

    return handle_websocket


@guarded(None)
def _connected(app: Any, scope: Scope) -> None:
    if not app.started:  # it has no routes yet, and its router would remember that
        return
    path, root = scope["path"], scope.get("root_path", "")
    match = app.router.get_match_by_method_and_path(b"GET_WS", (path.removeprefix(root) or "/") if root else path)
    if match is not None:
        _matched(app.router, scope, match)


@guarded(None)
def _matched(router: Any, scope: Any, match: Any) -> None:
    request = observed(scope)
    # What answers where no route matches looks like one.
    if request is not None and match.handler is not getattr(router.fallback, "handler", None):
        request.matched(match.pattern.decode())


def _handle_mount_path(original: Function) -> Function:
    def handle_mount_path(self: Any, scope: Scope, route_match: Any) -> Any:
        _entered(scope, route_match)
        return original(self, scope, route_match)

    return handle_mount_path


@guarded(None)
def _entered(scope: Scope, match: Any) -> None:
    request = observed(scope)
    if request is not None:
        request.entered(match.pattern.decode().removesuffix("/*"), routes=hasattr(match.handler, "router"))


def _handle_internal_server_error(original: Function) -> Function:
    async def handle_internal_server_error(self: Any, request: Any, exc: Any) -> Any:
        _failed(request.scope, exc)
        return await original(self, request, exc)

    return handle_internal_server_error


def _close(original: Function) -> Function:
    async def close(self: Any, code: int = 1000, reason: str | None = None) -> None:
        _closing()
        await original(self, code, reason)

    return close


@guarded(None)
def _closing() -> None:
    """A WebSocket is closed: by BlackSheep, if it has caught what the application did not."""
    error, request = sys.exception(), current_request()
    caught_by = error.__traceback__ if error is not None else None
    if error is None or caught_by is None or request is None:
        return
    if caught_by.tb_frame.f_code.co_name != "_handle_websocket":
        return
    if isinstance(error, sys.modules["blacksheep.exceptions"].HTTPException):  # as where no route matches
        request.reason = request.reason or reason_of(
            status=error.status, method="GET", has_route=request.found, is_preflight=False
        )
    else:
        request.failed(error)


@guarded(None)
def _failed(scope: Any, error: BaseException) -> None:
    request = observed(scope)
    if request is not None:
        request.failed(error)


TESTED: Final = {"blacksheep": "2.6"}

HOOKS: Final = (
    Hook("blacksheep.server.application", "Application.__call__", entry),
    Hook("blacksheep.server.application", "MountMixin.__call__", entry),
    Hook("blacksheep.server.application", "MountMixin.handle_mount_path", _handle_mount_path),
    Hook("blacksheep.server.application", "Application._handle_websocket", _handle_websocket),
    Hook("blacksheep.server.application", "Application.handle_internal_server_error", _handle_internal_server_error),
    Hook("blacksheep.server.routing", "Router.get_match", _get_match),
    Hook("blacksheep.server.routing", "RouterFiltersMixin.get_match", _get_match),
    Hook("blacksheep.server.websocket", "WebSocket.close", _close),
)
