"""Frameworks with servers of their own, which are neither ASGI nor WSGI: what both have words for, said in ASGI's."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from ..baggage import NOTHING, Received
from ..recorder import Recorder


class Asked(NamedTuple):
    """What a client asks for."""

    path: str
    query: str
    headers: Iterable[tuple[bytes, bytes]]


_NOBODY_ASKS: Final[dict[str, Any]] = {}


def peer_of(transport: Any) -> str | None:
    """The address of the connection's peer. None: it is not known, as on a Unix socket, or there is none any more."""
    peer = transport.get_extra_info("peername") if transport is not None else None
    return peer[0] if isinstance(peer, tuple) and peer else None


def received(recorder: Recorder, header: str) -> Received:
    """What a ``baggage`` header holds. Nothing of a header that nobody understands goes on."""
    return recorder.baggage.received(header) or NOTHING


def scope_of(recorder: Recorder, served: Any, asked: Callable[[], Asked]) -> dict[str, Any]:
    """What the application's resolver is called with: the framework's request under ``request``, beside what an ASGI
    scope says of who asks for what, so that one resolver can do for services of any kind. Empty: there is none.
    """
    if recorder.config.identity is None:
        return _NOBODY_ASKS
    path, query, headers = asked()
    return {
        "type": "http",
        "method": served.method,
        "path": path,
        "query_string": query.encode(errors="surrogateescape"),
        "headers": [(name.lower(), value) for name, value in headers],
        "request": served,
    }
