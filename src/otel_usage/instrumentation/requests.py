"""requests and niquests: their calls are seen by way of urllib3 and urllib3-future. What only a session knows is that a
redirect follows on a call.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

from .calls import Call, calling
from .hooks import Function, Hook


def _send(original: Function) -> Function:
    def send(self: Any, request: Any, **kwargs: Any) -> Any:
        with _call(self, kwargs):
            return original(self, request, **kwargs)

    return send


def _async_send(original: Function) -> Function:
    async def send(self: Any, request: Any, **kwargs: Any) -> Any:
        with _call(self, kwargs):
            return await original(self, request, **kwargs)

    return send


def _call(session: Any, asked: Mapping[str, Any]) -> AbstractContextManager[None]:
    """The call that is made. A session sends the hops of a redirect itself, each as a call that follows none."""
    around = calling()
    hop = around is not None and around.owner is session and asked.get("allow_redirects") is False
    return _SAME if hop else Call(session)


_SAME: Final[AbstractContextManager[None]] = nullcontext()

TESTED: Final = {"requests": "2.34", "niquests": "3.21"}

HOOKS: Final = (
    Hook("requests.sessions", "Session.send", _send),
    Hook("niquests.sessions", "Session.send", _send),
    Hook("niquests.async_session", "AsyncSession.send", _async_send),
)
