"""urllib.request, of Python's own: one upstream span for each request that its handler for HTTP sends.

The handler makes a connection for each, which is where the attempt is put; the rest is http.client's
(`http_client.py`). A redirect, or an answer to a challenge, is opened by the same opener within the call.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlsplit

from ..guard import report
from .calls import PORTS, Call, attempted, calling, listening
from .hooks import Function, Hook
from .http_client import EXCHANGE, Exchange


def _open(original: Function) -> Function:
    def open(self: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: A001  # its name shows in tracebacks
        around = calling()
        if around is not None and around.owner is self:
            return original(self, *args, **kwargs)
        with Call(self):
            return original(self, *args, **kwargs)

    return open


def _do_open(original: Function) -> Function:
    def do_open(self: Any, http_class: Any, req: Any, **http_conn_args: Any) -> Any:
        exchange = _begin(req)
        if exchange is None:
            return original(self, http_class, req, **http_conn_args)

        def connection(*args: Any, **kwargs: Any) -> Any:
            made = http_class(*args, **kwargs)
            setattr(made, EXCHANGE, exchange)
            return made

        try:
            return original(self, connection, req, **http_conn_args)
        except BaseException as error:
            exchange.broken(error)
            raise

    return do_open


def _begin(request: Any) -> Exchange | None:
    try:
        recorder = listening()
        if recorder is None:
            return None
        parts = urlsplit(request.full_url)  # `host` is the proxy's, where there is one
        place = parts.hostname, parts.port or PORTS.get(parts.scheme)
        return Exchange(recorder, attempted(), request.get_method(), place, "iso-8859-1")
    except Exception as error:  # as `guarded` does, whose wrapper takes 0.06 µs
        report("instrumentation.urllib._begin", error)
        return None


TESTED: Final[dict[str, str]] = {}

HOOKS: Final = (
    Hook("urllib.request", "OpenerDirector.open", _open),
    Hook("urllib.request", "AbstractHTTPHandler.do_open", _do_open),
)
