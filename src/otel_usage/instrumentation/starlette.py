"""Starlette and FastAPI: the entry of an application, and the templates of the routes that it chose.

Tested with Starlette 1.10 and FastAPI 0.165. FastAPI has an entry of its own around Starlette's, so both are hooked;
the inner one finds the request observed already.
"""

from __future__ import annotations

from typing import Any, Final

from ..guard import guarded
from ..request import UsageRequest
from .asgi import observe
from .carrier import REQUEST_KEY
from .hooks import Hook


def _call(wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if args and REQUEST_KEY in args[0]:  # FastAPI's entry has seen it already
        return wrapped(*args, **kwargs)
    return observe(wrapped, *args, **kwargs)


def _handle_route(wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    _chosen(instance, *args, **kwargs)
    return wrapped(*args, **kwargs)


def _handle_mount(wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    _entered(instance, *args, **kwargs)
    return wrapped(*args, **kwargs)


@guarded(None)
def _chosen(route: Any, scope: dict[str, Any], *_: Any, **__: Any) -> None:
    request = scope.get(REQUEST_KEY)
    if isinstance(request, UsageRequest):
        request.works_here()  # a task of its own, beneath Starlette's BaseHTTPMiddleware
        # FastAPI serves a router's routes under a prefix that only its "effective" route knows.
        effective = scope.get("fastapi", {}).get("effective_route_context")
        prefixed = effective is not None and effective.original_route is route
        request.matched(effective.path_format if prefixed else route.path_format)


@guarded(None)
def _entered(mount: Any, scope: dict[str, Any], *_: Any, **__: Any) -> None:
    request = scope.get(REQUEST_KEY)
    if isinstance(request, UsageRequest):
        request.entered(mount.path_format.removesuffix("/{path}"), routes=bool(mount.routes))


HOOKS: Final = (
    Hook("fastapi.applications", "FastAPI.__call__", _call),
    Hook("starlette.applications", "Starlette.__call__", _call),
    Hook("starlette.routing", "Route.handle", _handle_route),
    Hook("starlette.routing", "WebSocketRoute.handle", _handle_route),
    Hook("starlette.routing", "Mount.handle", _handle_mount),
    Hook("fastapi.routing", "APIRoute.handle", _handle_route),
)
