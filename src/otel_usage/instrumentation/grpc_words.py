"""What gRPC's clients and servers have in common: statuses, targets and metadata, in the words of HTTP."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from typing import Any, Final
from urllib.parse import unquote

HTTP_STATUS: Final[Mapping[str, int]] = {
    "OK": 200,
    "CANCELLED": 499,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "PERMISSION_DENIED": 403,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400,
    "ABORTED": 409,
    "OUT_OF_RANGE": 400,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "UNAUTHENTICATED": 401,
}
"""The HTTP status that stands for each of gRPC's (``google.rpc.Code``). The others are 500."""

BAGGAGE: Final = "baggage"

Metadata = Iterable[tuple[str, Any]]
"""Keys, which are in lower case, and their values: text, or bytes where the key ends in ``-bin``."""


def http_status(name: str) -> int:
    """The HTTP status for the name of one of gRPC's."""
    return HTTP_STATUS.get(name, 500)


def values_of(metadata: Metadata, wanted: Mapping[str, Any] | frozenset[str]) -> dict[str, str]:
    """The values of the keys that are wanted. Several of one key are one list, as headers are."""
    found: dict[str, str] = {}
    for key, value in metadata:
        if key in wanted and isinstance(value, str):
            found[key] = f"{found[key]}, {value}" if key in found else value
    return found


def with_baggage(metadata: Metadata, *headers: str) -> tuple[tuple[str, Any], ...]:
    """The metadata with these ``baggage`` headers and no other. Empty ones are none."""
    others = [(key, value) for key, value in metadata if key != BAGGAGE]
    return (*others, *((BAGGAGE, header) for header in headers if header))


_RESOLVERS: Final = ("dns", "ipv4", "ipv6", "xds", "google-c2p")
_NO_HOST: Final = ("unix", "unix-abstract", "vsock")
_HTTPS: Final = 443


@lru_cache(maxsize=256)
def place_of(target: str) -> tuple[str, int | None]:
    """Host and port of a channel's target (gRPC Name Resolution). No host: it is a socket of this machine's own, or
    several addresses, of which nobody says which one is called.
    """
    scheme, colon, rest = target.partition(":")
    if colon and scheme in _NO_HOST:
        return "", None
    if colon and scheme in _RESOLVERS:
        target = rest.rpartition("/")[2]
    return ("", None) if "," in target or "/" in target else _split(target)


def _split(address: str) -> tuple[str, int | None]:
    host, colon, port = address.rpartition(":")
    if not colon or address.endswith("]") or (":" in host and not host.startswith("[")):
        return address.strip("[]"), _HTTPS  # what gRPC takes where no port is said
    return host.strip("[]"), int(port) if port.isdecimal() else None


def address_of(peer: str) -> str | None:
    """The address of a connection's peer, as gRPC writes it: ``ipv4:127.0.0.1:5000``, ``ipv6:%5B::1%5D:5000``. None:
    it has none, as on a Unix socket.
    """
    scheme, _, rest = peer.partition(":")
    return _split(unquote(rest))[0] if scheme in ("ipv4", "ipv6") else None


def status_name(code: Any) -> str:
    """The name of a status, which applications may give as a number, too."""
    name = getattr(code, "name", None)
    return name if isinstance(name, str) else _names().get(code, "UNKNOWN")


@cache
def _names() -> dict[int, str]:
    return {status.value[0]: status.name for status in sys.modules["grpc"].StatusCode}
