"""Starlette and FastAPI: the entry of an application, and the templates of the routes that it chose.

FastAPI's entry ends in Starlette's, which is the one that is hooked. What FastAPI's adds is its own telemetry, whose
span is then the current one.
"""

from __future__ import annotations

from typing import Any, Final

from ..guard import guarded, settle
from .asgi import entry
from .carrier import REQUEST_KEY, observed
from .exchange import Receive, Scope, Send
from .hooks import Function, Hook

# What follows is called for each request. `guarded` takes more than a layer does (0.06 µs), so most end our errors by
# themselves; and a layer hands on the coroutine that the router awaits, since one of its own would be one more.


def _route(original: Function) -> Function:
    def handle(self: Any, scope: Scope, receive: Receive, send: Send) -> Any:
        _chosen(self, scope)
        return original(self, scope, receive, send)

    return handle


def _included_route(original: Function) -> Function:
    """FastAPI serves the routes of a router under a prefix that only their "effective" routes know. Others it hands on
    to the method of Starlette's that it overrides, whose hook sees them.
    """

    def handle(self: Any, scope: Scope, receive: Receive, send: Send) -> Any:
        try:
            effective = scope.get("fastapi", _NOTHING).get("effective_route_context")
            if effective is not None and effective.original_route is self:
                _chosen(effective, scope)
        except Exception as error:
            settle("instrumentation.starlette._included_route", error)
        return original(self, scope, receive, send)

    return handle


_NOTHING: Final[dict[str, Any]] = {}


def _chosen(route: Any, scope: Scope) -> None:
    try:
        request = scope.get(REQUEST_KEY)
        if request is not None and request.closed_at is None:
            request.works_here()  # a task of its own, beneath Starlette's BaseHTTPMiddleware
            request.route, request.found = route.path_format, True  # as `matched` does
    except Exception as error:
        settle("instrumentation.starlette._chosen", error)


def _mount(original: Function) -> Function:
    async def handle(self: Any, scope: Scope, receive: Receive, send: Send) -> None:
        _entered(self, scope)
        await original(self, scope, receive, send)

    return handle


@guarded(None)
def _entered(mount: Any, scope: Scope) -> None:
    request = observed(scope)
    if request is not None:
        request.entered(mount.path_format.removesuffix("/{path}"), routes=bool(mount.routes))


TESTED: Final = {"starlette": "1.10", "fastapi": "0.165"}

HOOKS: Final = (
    Hook("starlette.applications", "Starlette.__call__", entry),
    Hook("starlette.routing", "Route.handle", _route),
    Hook("starlette.routing", "WebSocketRoute.handle", _route),
    Hook("starlette.routing", "Mount.handle", _mount),
    Hook("fastapi.routing", "APIRoute.handle", _included_route),
)
