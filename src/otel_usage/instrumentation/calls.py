"""What the hooks of every client have in common: whether a call is observed, how it is named, and what was sent before.

A library may send one call more than once, for a redirect or a retry, and may be built on another library, which is
where its attempts are seen. :class:`Call` is what the upper one tells the lower one.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextvars import ContextVar, Token
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.context import get_current
from opentelemetry.instrumentation.utils import is_http_instrumentation_enabled, is_instrumentation_enabled

from .. import runtime
from ..attempt import UpstreamNaming, naming

if TYPE_CHECKING:
    from ..recorder import Recorder

PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}
"""Where a URL leads that names no port."""


def listening() -> Recorder | None:
    """What records a call that is made here. None: usage is off, or whoever is around does not want calls observed."""
    recorder = runtime.running
    # An empty context holds no wish, and says so in a sixth of the 0.3 µs that asking it for each takes.
    if recorder is None or (get_current() and not _wanted()):
        return None
    return recorder


_OFFICIAL: Final = frozenset(
    f"opentelemetry.instrumentation.{name}" for name in ("botocore", "requests", "urllib", "urllib3")
)
"""The official instrumentations that suppress what is beneath them, so that tracing has no span of it beside theirs. We
are beneath them, and usage is to be recorded all the same."""


def _wanted() -> bool:
    return is_http_instrumentation_enabled() or (is_instrumentation_enabled() and _beneath_an_official_one())


def _beneath_an_official_one() -> bool:
    """Whether it is one of those that suppresses, and not the application. The context says that it is suppressed, and
    not by whom. Where the application has done so, they heed it, and pass the call on before they make a span.
    """
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        if frame.f_globals.get("__name__") in _OFFICIAL and "span" in frame.f_locals:
            return True
        frame = frame.f_back
    return False


class Call:
    """One call of a library that sends by way of another, for the length of a ``with`` block."""

    __slots__ = ("_token", "operation", "owner", "provider", "sends")

    _token: Token[Call | None]

    def __init__(
        self, owner: object, provider: str | None = None, operation: str | None = None, *, sends: int = 0
    ) -> None:
        """``owner`` is what calls, such as a session. ``provider`` and ``operation`` are names for a call that the
        application has not named. ``sends``: how often it was sent before.
        """
        self.owner = owner
        self.provider = provider
        self.operation = operation
        self.sends = sends

    def __enter__(self) -> None:
        self._token = _CALL.set(self)

    def __exit__(self, *_: object) -> None:
        try:  # noqa: SIM105  # `suppress` takes 0.2 µs, and this nothing
            _CALL.reset(self._token)
        except ValueError:
            pass  # a coroutine may be closed in another context; there is nothing to undo there
        del self._token  # it holds the context


_CALL: Final[ContextVar[Call | None]] = ContextVar("otel_usage.call", default=None)

_UNNAMED: Final = UpstreamNaming()
"""What calls are named that nobody has named. One for all: it is never written to."""


def calling() -> Call | None:
    """The call of another library that the caller sends for. None: it is its own."""
    return _CALL.get()


def attempted(own: Any = None, sent: int = 0) -> tuple[UpstreamNaming, int]:
    """Count an attempt. Returns how it is named, and how often its call was sent before.

    The nearest name goes first: ``own`` is a dict that names this call, ``with upstream(…)`` names all within, and the
    library above may know names of its own. ``sent`` is how often this library has sent it.
    """
    around, call = naming(), _CALL.get()
    if around is None:
        around = _UNNAMED
    else:
        around.attempts += 1
    if call is not None:
        sent, call.sends = call.sends, call.sends + 1
        if call.provider is not None:
            around = UpstreamNaming(
                call.provider if around.provider is None else around.provider,
                call.operation if around.operation is None else around.operation,
                around.cache_status,
            )
    return around.nearer(own) if isinstance(own, dict) else around, sent


def length_of_body(method: str, status: int, lengths: Sequence[bytes | str]) -> int | None:
    """Bytes of a response's body, where its head says so (RFC 9112, section 6.3). ``lengths``: its ``Content-Length``
    headers. None: its end tells.
    """
    if method == "HEAD" or status in (101, 204, 304):
        return 0
    return int(lengths[0]) if len(lengths) == 1 and lengths[0].isdigit() else None
