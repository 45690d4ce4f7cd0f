"""Werkzeug's dispatcher, which mounts WSGI applications in one: what a route is beneath depends on where it is mounted.

It changes ``SCRIPT_NAME``, as proxies and middlewares do that know a customer's name from its path. So that is not
read: what the application has mounted is.
"""

from __future__ import annotations

from typing import Any, Final

from ..guard import guarded
from .carrier import observed
from .hooks import Function, Hook
from .wsgi import Environ, StartResponse, entry


def _dispatching(original: Function) -> Function:
    def dispatch(self: Any, environ: Environ, start_response: StartResponse) -> Any:
        _entered(self.mounts, environ)
        return original(self, environ, start_response)

    return entry(dispatch)


@guarded(None)
def _entered(mounts: Any, environ: Environ) -> None:
    request = observed(environ)
    if request is None or not isinstance(mounts, dict):  # any other may have all there is
        return
    prefix = environ.get("PATH_INFO", "")
    while "/" in prefix and prefix not in mounts:
        prefix = prefix.rpartition("/")[0]
    if prefix in mounts:
        request.entered(prefix, routes=False)


TESTED: Final = {"werkzeug": "3.1"}

HOOKS: Final = (Hook("werkzeug.middleware.dispatcher", "DispatcherMiddleware.__call__", _dispatching),)
