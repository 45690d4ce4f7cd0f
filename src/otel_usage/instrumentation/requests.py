"""requests: its calls are seen by way of urllib3. What only a session knows is that a redirect follows on a call."""

from __future__ import annotations

from typing import Any, Final

from .calls import Call, calling
from .hooks import Function, Hook


def _send(original: Function) -> Function:
    def send(self: Any, request: Any, **kwargs: Any) -> Any:
        around = calling()
        # A session sends the hops of a redirect itself, each as a call that follows none.
        if around is not None and around.owner is self and kwargs.get("allow_redirects") is False:
            return original(self, request, **kwargs)
        with Call(self):
            return original(self, request, **kwargs)

    return send


TESTED: Final = {"requests": "2.34"}

HOOKS: Final = (Hook("requests.sessions", "Session.send", _send),)
