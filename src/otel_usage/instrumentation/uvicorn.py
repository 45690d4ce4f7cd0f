"""uvicorn: whose connection it is, before its proxy middleware puts in its place what ``X-Forwarded-For`` says.

That middleware is on by default, and with ``--forwarded-allow-ips '*'`` it takes the client's own word. Who may be
believed is decided here by ``USAGE_TRUSTED_PROXY`` alone, which needs the address of the peer itself. Tested with
uvicorn 0.54.
"""

from __future__ import annotations

from typing import Any, Final

from ..guard import guarded
from .asgi import PEER_KEY
from .hooks import Hook


def _call(wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    _remember(*args, **kwargs)
    return wrapped(*args, **kwargs)


@guarded(None)
def _remember(scope: dict[str, Any], *_: Any, **__: Any) -> None:
    scope.setdefault(PEER_KEY, scope.get("client"))  # a second such middleware, within, sees what the first has put


HOOKS: Final = (Hook("uvicorn.middleware.proxy_headers", "ProxyHeadersMiddleware.__call__", _call),)
