"""Hosts as they are connected to, and patterns that name some of them. Pure; whatever is unusual matches nothing."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from .errors import ConfigError

_NAME: Final = re.compile(r"(?=.{1,253}\Z)[a-z0-9_](?:[a-z0-9_-]{0,62})(?:\.[a-z0-9_](?:[a-z0-9_-]{0,62}))*")
_PATTERN: Final = re.compile(r"(?P<below>\*\.)?(?P<host>\[[^\[\]]*\]|[^:\[\]]*)(?::(?P<port>[0-9]{1,5}))?")
_NUMERIC: Final = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")
_PRIVATE_SUFFIXES: Final = frozenset({"internal", "lan", "local", "localhost", "test"})
"""Names of one label that no public registry hands out (RFC 2606, RFC 6762; ``internal``: ICANN, 2024)."""

ACCEPTED: Final = (
    "comma-separated hosts, such as pricing.internal, *.svc.cluster.local or 10.0.0.7:8080: ASCII names, whole or with "
    "*. for every name below, or addresses, each with a port or for any; no scheme, path or user"
)


def canonical_host(host: str) -> str | None:
    """One spelling for a host: lower case, without a final dot or brackets; an address in its shortest form.

    None for what is no name in ASCII and no address: a name in other letters goes by its ``xn--`` form (RFC 5890), and
    a number that some resolvers take for an address (``0x7f.1``) is neither.
    """
    if not host.isascii():  # before all else: there are signs whose lower case is ASCII
        return None
    bare = host.lower().removesuffix(".")
    if bare.startswith("[") and bare.endswith("]"):
        bare = bare[1:-1]
    try:
        return ipaddress.ip_address(bare).compressed
    except ValueError:
        return bare if _NAME.fullmatch(bare) and not _NUMERIC.fullmatch(bare) else None


@dataclass(frozen=True, slots=True)
class _Pattern:
    host: str
    below: bool
    port: int | None

    def matches(self, host: str, port: int | None) -> bool:
        if self.port is not None and self.port != port:
            return False
        return host.endswith("." + self.host) if self.below else host == self.host


class HostPatterns:
    """Some hosts: whole names, every name below a suffix, or addresses; each with one port or with any."""

    __slots__ = ("_patterns",)

    def __init__(self, setting: str, patterns: Iterable[str]) -> None:
        """``setting`` is what an error names.

        Raises:
            ConfigError: a pattern is not one, or stands for more than anybody can vouch for, such as ``*.com``.
        """
        self._patterns = tuple(_parsed(setting, pattern) for pattern in patterns)

    def __bool__(self) -> bool:
        return bool(self._patterns)

    def match(self, host: str, port: int | None) -> str | None:
        """``host:port`` in its one spelling, if one of the patterns stands for it; else None.

        ``host`` is what is connected to, not what a header says.
        """
        found = canonical_host(host) if self._patterns else None
        if found is None or not any(pattern.matches(found, port) for pattern in self._patterns):
            return None
        return f"{found}:{port}"


def _parsed(setting: str, text: str) -> _Pattern:
    match = _PATTERN.fullmatch(text)
    host = canonical_host(match["host"]) if match else None
    port = int(match["port"]) if match and match["port"] else None
    if match is None or host is None or port == 0 or (port or 0) > 65535:
        raise ConfigError(setting, text, ACCEPTED)
    if match["below"] and (":" in host or _NUMERIC.fullmatch(host) or not ("." in host or host in _PRIVATE_SUFFIXES)):
        raise ConfigError(setting, text, f"{ACCEPTED}; a suffix has two labels or more, and is no address")
    return _Pattern(host, bool(match["below"]), port)
