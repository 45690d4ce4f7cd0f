"""Whose connection it is, before a server or a framework puts in its place what ``X-Forwarded-For`` says.

uvicorn does so by default, and with ``--forwarded-allow-ips '*'`` it takes the client's own word; waitress and werkzeug
do so where they are told to. Who may be believed is decided here by ``USAGE_TRUSTED_PROXY`` alone, which needs the
address of the peer itself.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any, Final

from ..guard import guarded
from .carrier import PEER_KEY
from .exchange import Receive, Scope, Send
from .hooks import Function, Hook
from .wsgi import Environ, StartResponse


def _asgi(original: Function) -> Function:
    async def call(self: Any, scope: Scope, receive: Receive, send: Send) -> None:
        _remember("client", scope)
        await original(self, scope, receive, send)

    return call


def _wsgi(original: Function) -> Function:
    def call(self: Any, environ: Environ, start_response: StartResponse) -> Any:
        _remember("REMOTE_ADDR", environ)
        return original(self, environ, start_response)

    return call


def _parse(original: Function) -> Function:
    def parse_proxy_headers(environ: Environ, *args: Any, **kwargs: Any) -> Any:
        _remember("REMOTE_ADDR", environ)
        return original(environ, *args, **kwargs)

    return parse_proxy_headers


@guarded(None)
def _remember(key: str, carrier: MutableMapping[str, Any]) -> None:
    carrier.setdefault(PEER_KEY, carrier.get(key))  # a second such step sees what the first has put there


TESTED: Final = {"uvicorn": "0.54", "waitress": "3.0", "werkzeug": "3.1"}

HOOKS: Final = (
    Hook("uvicorn.middleware.proxy_headers", "ProxyHeadersMiddleware.__call__", _asgi),
    Hook("waitress.proxy_headers", "parse_proxy_headers", _parse),
    Hook("werkzeug.middleware.proxy_fix", "ProxyFix.__call__", _wsgi),
)
