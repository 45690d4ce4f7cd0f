"""Falcon, for WSGI and for ASGI: the entry of an application, the template of the resource that it found, the exception
that it makes a 500 of.
"""

from __future__ import annotations

import re
from typing import Any, Final

from ..guard import guarded
from ..request import UsageRequest
from .asgi import entry as asgi_entry
from .carrier import observed
from .hooks import Function, Hook
from .wsgi import Environ, StartResponse
from .wsgi import entry as wsgi_entry


def _wsgi(original: Function) -> Function:
    entry = wsgi_entry(original)

    def call(self: Any, env: Environ, start_response: StartResponse) -> Any:
        return entry(self, env, start_response)

    return call


def _routing(original: Function) -> Function:
    def get_responder(self: Any, req: Any) -> Any:
        found = original(self, req)
        _found(self, req, found)
        return found

    return get_responder


@guarded(None)
def _found(app: Any, falcon_request: Any, found: tuple[Any, ...]) -> None:
    request = _observed(falcon_request)
    if request is None:
        return
    *_, resource, template = found
    request.works_here()
    if resource is None:
        _fell_through(app, request, falcon_request.path)
    elif template is not None:  # a router of the application's own may know of none
        request.matched(template)


def _fell_through(app: Any, request: UsageRequest, path: str) -> None:
    """No resource was found: the first sink or folder of files takes it that has the beginning of its path."""
    for prefix, _, is_sink in app._sink_and_static_routes:
        if prefix.match(path):
            beginning = prefix.pattern if is_sink else prefix._prefix
            request.entered("" if _REGEX.search(beginning) else beginning.rstrip("/"), routes=False)
            return


_REGEX: Final = re.compile(r"[][\\^$*+?(){}|]")
"""What a template is not to have: the beginning that a sink takes is a regular expression."""


def _handling(original: Function) -> Function:
    def handle_exception(self: Any, req: Any, resp: Any, ex: Exception, *more: Any, **named: Any) -> Any:
        _failed(self, req, ex)
        return original(self, req, resp, ex, *more, **named)

    return handle_exception


def _handling_async(original: Function) -> Function:
    async def handle_exception(self: Any, req: Any, resp: Any, ex: Exception, *more: Any, **named: Any) -> Any:
        _failed(self, req, ex)
        return await original(self, req, resp, ex, *more, **named)

    return handle_exception


@guarded(None)
def _failed(app: Any, falcon_request: Any, error: Exception) -> None:
    """Where no handler but Falcon's last one takes it, which answers 500 or closes the socket: nobody outside sees it.

    That one is looked for, and not hooked: an application holds it from the moment it is made.
    """
    request = _observed(falcon_request)
    if request is not None and app._find_error_handler(error) == app._python_error_handler:
        request.failed(error)


def _observed(falcon_request: Any) -> UsageRequest | None:
    scope = getattr(falcon_request, "scope", None)
    return observed(falcon_request.env if scope is None else scope)


TESTED: Final = {"falcon": "4.4"}

HOOKS: Final = (
    Hook("falcon.app", "App.__call__", _wsgi),
    Hook("falcon.app", "App._get_responder", _routing),
    Hook("falcon.app", "App._handle_exception", _handling),
    Hook("falcon.asgi.app", "App.__call__", asgi_entry),
    Hook("falcon.asgi.app", "App._handle_exception", _handling_async),
)
