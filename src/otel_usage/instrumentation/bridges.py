"""Bridges from ASGI to WSGI: they make an environ of a scope, which then knows less than the scope does.

The environ is told which scope it was made of. So one request that crosses a bridge is one, and its peer and headers
are read where nothing has changed or merged them.
"""

from __future__ import annotations

from typing import Any, Final

from ..guard import guarded
from .carrier import SCOPE_KEY
from .hooks import Function, Hook


def telling(original: Function) -> Function:
    """The layer of a function that makes an environ of a scope."""

    def build_environ(scope: Any, *args: Any, **kwargs: Any) -> Any:
        environ = original(scope, *args, **kwargs)
        _tell(environ, scope)
        return environ

    return build_environ


def _method(original: Function) -> Function:
    def build_environ(self: Any, scope: Any, *args: Any, **kwargs: Any) -> Any:
        environ = original(self, scope, *args, **kwargs)
        _tell(environ, scope)
        return environ

    return build_environ


@guarded(None)
def _tell(environ: dict[str, Any], scope: Any) -> None:
    environ[SCOPE_KEY] = scope


TESTED: Final = {"a2wsgi": "1.10", "asgiref": "3.13", "starlette": "1.10", "uvicorn": "0.54"}

HOOKS: Final = (
    Hook("a2wsgi.wsgi", "build_environ", telling),
    Hook("asgiref.wsgi", "WsgiToAsgiInstance.build_environ", _method),
    Hook("starlette.middleware.wsgi", "build_environ", telling),
    Hook("uvicorn.middleware.wsgi", "build_environ", telling),
)
