"""Bridges from ASGI to WSGI: they make an environ of a scope, which then knows less than the scope does.

The environ is told which scope it was made of. So one request that crosses a bridge is one, and its peer and headers
are read where nothing has changed or merged them. Tested with a2wsgi 1.10, asgiref 3.13, Starlette 1.10, uvicorn 0.54.
"""

from __future__ import annotations

from typing import Any, Final

from ..guard import guarded
from .carrier import SCOPE_KEY
from .hooks import Hook


def _build(wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    environ = wrapped(*args, **kwargs)
    _tell(environ, *args, **kwargs)
    return environ


@guarded(None)
def _tell(environ: dict[str, Any], scope: Any, *_: Any, **__: Any) -> None:
    environ[SCOPE_KEY] = scope


HOOKS: Final = (
    Hook("a2wsgi.wsgi", "build_environ", _build),
    Hook("asgiref.wsgi", "WsgiToAsgiInstance.build_environ", _build),
    Hook("starlette.middleware.wsgi", "build_environ", _build),
    Hook("uvicorn.middleware.wsgi", "build_environ", _build),
)
