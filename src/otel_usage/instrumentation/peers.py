"""Whose connection it is, before a server or a framework puts in its place what ``X-Forwarded-For`` says.

uvicorn does so by default, and with ``--forwarded-allow-ips '*'`` it takes the client's own word; waitress and werkzeug
do so where they are told to. Who may be believed is decided here by ``USAGE_TRUSTED_PROXY`` alone, which needs the
address of the peer itself. Tested with uvicorn 0.54, waitress 3.0 and werkzeug 3.1.
"""

from __future__ import annotations

from typing import Any, Final

from ..guard import guarded
from .carrier import PEER_KEY
from .hooks import Hook


def _of_scope(wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    _remember("client", *args, **kwargs)
    return wrapped(*args, **kwargs)


def _of_environ(wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    _remember("REMOTE_ADDR", *args, **kwargs)
    return wrapped(*args, **kwargs)


@guarded(None)
def _remember(key: str, carrier: dict[str, Any], *_: Any, **__: Any) -> None:
    carrier.setdefault(PEER_KEY, carrier.get(key))  # a second such step sees what the first has put there


HOOKS: Final = (
    Hook("uvicorn.middleware.proxy_headers", "ProxyHeadersMiddleware.__call__", _of_scope),
    Hook("waitress.proxy_headers", "parse_proxy_headers", _of_environ),
    Hook("werkzeug.middleware.proxy_fix", "ProxyFix.__call__", _of_environ),
)
