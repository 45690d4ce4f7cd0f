"""Quart: the entry of an application, the template of the rule that matched, the exception that nobody handled.

Quart serves a request on a task of its own, beneath the one that the server calls it on, and answers what nobody
handles itself: with a 500, and of a WebSocket by closing it as if all were well. So it is asked where it dispatches, on
that task.
"""

from __future__ import annotations

import sys
from typing import Any, Final

from ..guard import guarded
from ..request import UsageRequest
from .asgi import entry
from .carrier import observed
from .hooks import Function, Hook


def _dispatch_request(original: Function) -> Function:
    async def full_dispatch_request(self: Any, request_context: Any = None) -> Any:
        _matched("request_ctx")
        return await original(self, request_context)

    return full_dispatch_request


def _dispatch_websocket(original: Function) -> Function:
    async def full_dispatch_websocket(self: Any, websocket_context: Any = None) -> Any:
        _matched("websocket_ctx")
        return await original(self, websocket_context)

    return full_dispatch_websocket


def _handle_exception(original: Function) -> Function:
    async def handle_exception(self: Any, error: Exception) -> Any:
        _failed("request_ctx", error)
        return await original(self, error)

    return handle_exception


def _handle_websocket_exception(original: Function) -> Function:
    async def handle_websocket_exception(self: Any, error: Exception) -> Any:
        _failed("websocket_ctx", error)
        return await original(self, error)

    return handle_websocket_exception


@guarded(None)
def _matched(context: str) -> None:
    connection, request = _served(context)
    if request is not None:
        request.works_here()
        if connection.url_rule is not None:
            request.matched(connection.url_rule.rule)


@guarded(None)
def _failed(context: str, error: Exception) -> None:
    _, request = _served(context)
    if request is not None:
        request.failed(error)


def _served(context: str) -> tuple[Any, UsageRequest | None]:
    """Quart's request or WebSocket, of which a context is current, and ours. None: it is not observed."""
    connection = getattr(sys.modules["quart.globals"], context).request_websocket
    return connection, observed(connection.scope)


TESTED: Final = {"quart": "0.22"}

HOOKS: Final = (
    Hook("quart.app", "Quart.__call__", entry),
    Hook("quart.app", "Quart.full_dispatch_request", _dispatch_request),
    Hook("quart.app", "Quart.full_dispatch_websocket", _dispatch_websocket),
    Hook("quart.app", "Quart.handle_exception", _handle_exception),
    Hook("quart.app", "Quart.handle_websocket_exception", _handle_websocket_exception),
)
