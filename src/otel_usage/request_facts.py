"""Facts derived from one request and its response. Pure; each rule says where it comes from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from .forms import OTHER
from .redaction import REDACTED
from .schema import BY_KEY, HTTP_METHODS

PERSONAL_LENGTH: Final = 512
"""Characters of a personal header that are kept at most, where it is kept at all."""

_LONGEST_DOMAIN: Final = BY_KEY["usage.domain"].cap

_HEADERS: Final = frozenset(
    {
        "host", "traceparent", "baggage", "x-request-id", "sentry-trace", "origin", "access-control-request-method",
    }
)  # fmt: skip
_PERSONAL_HEADERS: Final = {
    "user_agent.original": "user-agent",
    "usage.referer": "referer",
    "usage.accept_language": "accept-language",
}


def headers_for(personal: frozenset[str], *, agent: bool) -> frozenset[str]:
    """The request headers that are looked at, in lower case. No other is ever read, but for those of a declared proxy.

    ``personal``: the personal attributes that are recorded; ``agent``: whether the user agent is, as a hash.
    """
    wanted = {header for attribute, header in _PERSONAL_HEADERS.items() if attribute in personal}
    return _HEADERS | wanted | ({"user-agent"} if agent else frozenset())


METHODS: Final[Mapping[str, str]] = {method: method for method in HTTP_METHODS}
_VERSION: Final = re.compile(r"v[0-9]+(?:[._][0-9]+)?(?:alpha|beta|rc)?[0-9]*")
_HOST: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9._-]{1,253}))(?::([0-9]{1,5}))?")
_ORIGIN: Final = re.compile(r"(https?)://(.{1,300})", re.IGNORECASE)
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_TRACEPARENT: Final = re.compile(
    # Version 00 is 55 characters and no more; later ones may go on. A parent of all zeros is none.
    r"(?!ff|00.{54})[0-9a-f]{2}-([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?",
    re.DOTALL,
)
_NO_TRACE: Final = "0" * 32
_SENTRY_TRACE: Final = re.compile(r"([0-9a-f]{32})(?:-[0-9a-f]{16}(?:-[01])?)?")


def method_of(method: str) -> str:
    """The method as it is recorded: its name, or ``_OTHER`` for one that is not known."""
    return METHODS.get(method, OTHER)


def host_of(host: str | None) -> str | None:
    """The host of a ``Host`` header, without its port and an IPv6 address's brackets, or None if it is not one."""
    match = _HOST.fullmatch(host) if host else None
    return (match[1] or match[2]).lower() if match else None


def trace_id_of(traceparent: str | None) -> bytes | None:
    """The trace id of a ``traceparent`` header (W3C Trace Context), or None if it is not valid."""
    match = _TRACEPARENT.fullmatch(traceparent) if traceparent and len(traceparent) <= 512 else None
    return bytes.fromhex(match[1]) if match and match[1] != _NO_TRACE else None


def sentry_trace_id(sentry_trace: str | None) -> str | None:
    """The trace id alone of a ``sentry-trace`` header, or None if it is not valid."""
    match = _SENTRY_TRACE.fullmatch(sentry_trace.strip()) if sentry_trace else None
    return match[1] if match else None


@lru_cache(maxsize=4096)
def domain_of(route: str | None) -> str | None:
    """The first segment of a route's template that is neither ``api`` nor a version nor a parameter; else None.

    None for one that is too long, too: what is looked for in values has no mark any more where they were cut.
    """
    for segment in (route or "").split("/"):
        if not segment or segment == "api" or _VERSION.fullmatch(segment):
            continue
        return None if segment[0] in "{<:" or len(segment) > _LONGEST_DOMAIN else segment
    return None


def reason_of(*, status: int | None, method: str, has_route: bool, is_preflight: bool) -> str:
    """Why a request ended as it did, told by its status. ``ok`` only for a success.

    A caller's fault and a dependency's outage never share a reason.
    """
    if status is None:
        return "server_error"
    if is_preflight and method == "OPTIONS" and status < 500:
        return "preflight" if status < 400 else "cors_error"
    if status == 304:
        return "not_modified"
    if status < 400:
        return "ok"
    if status == 404 and not has_route:
        return "unknown_route"
    return _REASON_OF_STATUS.get(status, "client_error" if status < 500 else "server_error")


_REASON_OF_STATUS: Final[Mapping[int, str]] = {
    400: "malformed_request",
    401: "auth_401",
    403: "auth_403",
    404: "not_found",
    405: "method_not_allowed",
    413: "payload_too_large",
    422: "malformed_request",
    429: "rate_limit_429",
    499: "client_aborted",  # nginx's status for a client that went away
}


@lru_cache(maxsize=1024)
def cache_tier_of(cache_control: str | None, bands: tuple[tuple[int, str], ...]) -> str | None:
    """The cache tier that a ``Cache-Control`` header amounts to (RFC 9111), or None if it says nothing about it.

    Shared freshness (``s-maxage``) is placed in ``bands``. Freshness for the browser alone is ``live-browser`` in the
    first band and ``slow-browser`` above.
    """
    directives = dict(_directive(part) for part in (cache_control or "").lower().split(","))
    if "no-store" in directives:
        return "no-store"
    shared, private = directives.get("s-maxage"), directives.get("max-age")
    if shared is None and "public" in directives:
        shared = private
    if shared is not None:
        return next((tier for limit, tier in bands if shared <= limit), bands[-1][1] if bands else None)
    if private is not None and bands:
        return "live-browser" if private <= bands[0][0] else "slow-browser"
    return None


def _directive(part: str) -> tuple[str, int | None]:
    name, _, value = part.strip().partition("=")
    value = value.strip('"')
    return name, int(value) if value.isascii() and value.isdigit() and len(value) <= 10 else None


def origin_kind(credential: str | None, origin: str | None, host: str | None) -> str | None:
    """What kind of client it was. Follows the credential; a header decides only between browsers.

    Args:
        credential: The kind of credential that was verified. None: none was, and then there is no answer, because
            anybody may send any ``Origin``.
        origin: The ``Origin`` header.
        host: The ``Host`` header, with its port.
    """
    known = _ORIGIN_OF_AUTH.get(credential or "")
    if known or not credential or not origin:
        return known
    return "browser-same-origin" if _is_of(origin, host) else "browser-cross-origin"


def _is_of(origin: str, host: str | None) -> bool:
    """Whether an ``Origin`` is the one of the host that was called: the same name and port (RFC 6454, section 5).

    The scheme only tells the port where none is written: that of the request is not known behind a proxy that ends TLS.
    ``null``, and whatever else is more or less than scheme, host and port (a user, a path), is no host's origin.
    """
    match = _ORIGIN.fullmatch(origin)
    if match is None or host is None:
        return False
    default = _DEFAULT_PORTS[match[1].lower()]
    place = _place(match[2], default)
    return place is not None and place == _place(host, default)


def _place(authority: str, default_port: int) -> tuple[str, int] | None:
    match = _HOST.fullmatch(authority)
    if match is None:
        return None
    name = (match[1] or match[2]).lower().removesuffix(".")  # with and without the root's dot it is one name
    return name, int(match[3] or default_port)


_ORIGIN_OF_AUTH: Final[Mapping[str, str]] = {
    "user_api_key": "api-key",
    "enterprise_api_key": "api-key",
    "mcp_oauth": "mcp",
    "internal": "internal-cron",
}


def personal_facts(headers: Mapping[str, str], peer: str | None, wanted: frozenset[str]) -> dict[str, str]:
    """The personal attributes among ``wanted``. The address is the peer's own; the referer loses query and fragment."""
    found = {
        "client.address": peer,
        "user_agent.original": headers.get("user-agent"),
        "usage.referer": (headers.get("referer") or "").partition("#")[0].partition("?")[0],
        "usage.accept_language": headers.get("accept-language"),
    }
    return {key: _cut(value) for key, value in found.items() if value and key in wanted}


def _cut(value: str) -> str:
    """``value``, or as many whole words of it as fit: half of an address or a secret would not be found and redacted.

    What ends at a slash is a word, so that a referer keeps its host. One that goes on for ever leaves a mark.
    """
    if len(value) <= PERSONAL_LENGTH:
        return value
    end = max(value.rfind(mark, 0, PERSONAL_LENGTH + 1) for mark in " \t,;/")
    return value[:end] if end > 0 else REDACTED
