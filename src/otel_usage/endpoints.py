"""URLs of endpoints: their parts, where they are such, and whether they lead to this machine."""

from __future__ import annotations

import ipaddress
import re
from typing import Final
from urllib.parse import SplitResult, urlsplit

_NOT_IN_URL: Final = re.compile(r"[@?#\\\s\x00-\x1f\x7f\ud800-\udfff]")


def split_url(url: str) -> SplitResult | None:
    """The parts of an http:// or https:// URL with a host, without user, query or fragment. None: it is none.

    An error of the standard library's would hold what it could not read, and so would one of ours that it has caused.
    """
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        return None
    return parts if good and not _NOT_IN_URL.search(url) else None


def host_of(url: SplitResult) -> str:
    """The host's name as it is compared. Empty: it has none."""
    return (url.hostname or "").lower().rstrip(".")


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, by its address or as ``localhost``. Another name only looks like one: whoever
    owns ``127.0.0.1.example.com`` decides where it leads.
    """
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
