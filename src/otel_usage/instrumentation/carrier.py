"""What ASGI scopes and WSGI environs hold of ours, and how headers are read from a scope."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Final

from ..request import UsageRequest
from ..scope import enter, leave

REQUEST_KEY: Final = "otel_usage.request"
"""Where both hold the request: an application within an observed one is not observed again."""

PEER_KEY: Final = "otel_usage.peer"
"""Where both hold the peer of the connection, if it may be somebody else by now: ASGI's ``client``, WSGI's address."""

SCOPE_KEY: Final = "otel_usage.scope"
"""Where an environ holds the ASGI scope that it was made of."""

BRIDGED: Final = "wsgi_environ"
"""Where a scope holds the environ that a2wsgi has made it of."""


def observed(carrier: Mapping[str, Any] | None) -> UsageRequest | None:
    """The request that a scope or an environ is of. None: it is not observed, or there is no carrier."""
    request = carrier.get(REQUEST_KEY) if carrier is not None else None
    return request if isinstance(request, UsageRequest) else None


def request_of(carrier: Mapping[str, Any]) -> UsageRequest | None:
    """The observed request that ``carrier`` is made of by a bridge, in either direction. None: it is one of its own."""
    other = carrier.get(SCOPE_KEY) or carrier.get(BRIDGED)
    return observed(other) if other is not None else None


def reached(carrier: Mapping[str, Any]) -> None:
    """An observed request has come to an application within. Middleware around that may have made it another carrier,
    which is then the one that knows what they have found out.

    Not what a route makes of it, to ask the application for something else: that may be in somebody else's name.
    """
    request = observed(carrier)
    if request is not None and request.closed_at is None and request.route is None:
        request.carrier = carrier


@contextmanager
def joining(request: UsageRequest | None) -> Iterator[None]:
    """Be a part of a request that is observed around a bridge, whose threads may not know it. None: of none."""
    if request is None:
        yield
        return
    token = enter(request)
    try:
        yield
    finally:
        leave(token)


def peer_of(scope: Mapping[str, Any]) -> str | None:
    """The address of the connection's peer. None: it is not known, as on a Unix socket."""
    client = scope.get(PEER_KEY, scope.get("client"))
    return client[0] if client else None


def headers_of(sent: Iterable[tuple[bytes, bytes]], names: frozenset[str]) -> dict[str, str]:
    """The headers of these names. Several of one name are one list (RFC 9110, section 5.3)."""
    wanted, others = _by_bytes(names)
    found: dict[str, str] = {}
    several: dict[str, list[str]] = {}  # put together at the end: a client may send very many
    for name, value in sent:
        if name in others:  # most are, and this costs each a quarter of what looking it up would
            continue
        key = wanted.get(name) or wanted.get(name.lower())  # not every server keeps to ASGI's lower case
        if key is not None:
            text = value.decode("latin-1")
            if key in found:
                several.setdefault(key, [found[key]]).append(text)
            else:
                found[key] = text
        elif len(others) < _OTHERS_LIMIT and len(name) <= _LONGEST_OTHER:
            others.add(name)
    for key, values in several.items():
        found[key] = ", ".join(values)
    return found


_OTHERS_LIMIT: Final = 1024
"""Names of headers that are remembered as not wanted at most: clients choose them."""
_LONGEST_OTHER: Final = 64


@lru_cache(maxsize=4)
def _by_bytes(names: frozenset[str]) -> tuple[dict[bytes, str], set[bytes]]:
    """The keys of headers by their names, and the names of others, as they come."""
    return {name.encode(): name for name in names}, set()
