"""What each kind of proxy writes into the headers of a request, and how it is read. Pure; nothing here asks whether to
believe it: :mod:`otel_usage.trusted_proxy` does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final
from urllib.parse import unquote_to_bytes

from .forms import IDENTIFIER

Network = IPv4Network | IPv6Network

_TEXT_LENGTH: Final = 1024
"""Characters of a header that is taken apart at most."""
_CITY_LENGTH: Final = 64
"""What the schema takes as ``geo.locality.name``."""

_COUNTRY: Final = re.compile(r"[A-Za-z]{2}")
_NO_COUNTRY: Final = frozenset({"XX", "ZZ"})
"""Two letters that say that the country is not known: Cloudflare's, and the Unicode CLDR's. (``T1``, Cloudflare's word
for Tor, is not two letters.)"""
_REGION: Final = re.compile(r"(?:([A-Za-z]{2})-)?([A-Za-z0-9]{1,3})")
_TRACE_FIELD: Final = re.compile(r"(?:^|;) ?(Self|Root)=([^;]*)")
_TRACE: Final = re.compile(r"1-[0-9a-f]{8}-[0-9a-f]{24}")
_VERCEL_REGION: Final = re.compile(r"[a-z]{3}[0-9]{1,2}")
_ESCAPED_BYTE: Final = re.compile(rb"\\u00([0-9A-Fa-f]{2})")


def geography(source: Source, headers: Mapping[str, str]) -> dict[str, str]:
    """The ``geo.…`` attributes that are known."""
    country = _country(headers.get(source.country or "", ""))
    found = {
        "geo.country.iso_code": country,
        "geo.region.iso_code": _region(headers.get(source.region or "", ""), country),
        "geo.locality.name": _city(headers.get(source.city or "", ""), source.decode),
    }
    return {key: value for key, value in found.items() if value}


def _country(text: str) -> str | None:
    # Checked before its case is changed: "ß" becomes "SS", which is South Sudan.
    code = text.upper() if _COUNTRY.fullmatch(text) else None
    return None if code in _NO_COUNTRY else code


def _region(text: str, country: str | None) -> str | None:
    """An ISO 3166-2 code, from all of it or from its part after the dash. None if it is in another country."""
    match = _REGION.fullmatch(text)
    if not match:
        return None
    named = _country(match[1]) if match[1] else country
    return f"{named}-{match[2].upper()}" if named and named == (country or named) else None


def _city(text: str, decode: Callable[[bytes], bytes]) -> str | None:
    """A city's name, or None if it is not UTF-8, holds what cannot be shown or is longer than the schema takes.

    One with a comma is none: so are two lines joined, of which the client may have sent one.
    """
    if "," in text or len(text) > _TEXT_LENGTH:
        return None
    try:
        city = decode(text.encode("latin-1")).decode().strip()
    except UnicodeError:
        return None
    return city if 0 < len(city) <= _CITY_LENGTH and city.isprintable() else None


def _as_it_is(data: bytes) -> bytes:
    return data


def _unescaped(data: bytes) -> bytes:
    r"""Bytes beyond ASCII from the form in which Cloudflare writes them: ``S\u00c3\u00a3o Paulo``.

    (Cloudflare, "Available Managed Transforms", "Encoding of non-ASCII header values".)
    """
    return _ESCAPED_BYTE.sub(lambda match: bytes.fromhex(match[1].decode()), data)


def _identifier(text: str) -> str | None:
    return text if IDENTIFIER.fullmatch(text) else None


def _amazon_trace(text: str) -> str | None:
    """The load balancer's own id in an ``X-Amzn-Trace-Id`` header, or None.

    That is ``Self`` where there is one. ``Root`` is the load balancer's only as long as there is no ``Self``: it keeps
    the ``Root`` that a client sent, and then adds or replaces ``Self`` (AWS, "Request tracing for your Application Load
    Balancer").
    """
    fields = _TRACE_FIELD.findall(text) if len(text) <= _TEXT_LENGTH else []
    found: dict[str, str] = dict(fields)
    trace = found.get("Self", found.get("Root", ""))
    return trace if len(found) == len(fields) and _TRACE.fullmatch(trace) else None


def _vercel_region(request_id: str) -> str | None:
    """The region that executed the function, by ``X-Vercel-Id``: the last of ``cdg1::iad1::id``.

    None where there is but one: that is where the request came in (Vercel's documentation of request headers: regions
    that it hit, "as well as the region the function was executed in").
    """
    *regions, _ = re.split(":+", request_id)
    executed = len(regions) >= 2 and all(map(_VERCEL_REGION.fullmatch, regions))
    return regions[-1] if executed else None


def _nowhere(_request_id: str) -> str | None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where one kind of proxy writes its facts: names of headers, None for a fact that it does not give."""

    ranges: tuple[Network, ...] = ()
    """Where it calls from. Empty: that says nothing."""
    client: str | None = None
    """The client's address; where one is named, no other is believed. None: ``X-Forwarded-For`` has it."""
    request_id: str
    """The proxy's id of the request."""
    identify: Callable[[str], str | None] = _identifier
    """Reads that id. None: it is too long or holds unusual characters."""
    executed_in: Callable[[str], str | None] = _nowhere
    """The region where the request is executed, by that id. None: it does not say."""
    country: str | None = None
    region: str | None = None
    city: str | None = None
    decode: Callable[[bytes], bytes] = _as_it_is
    """Undoes how bytes beyond ASCII of the city are written. What comes out is UTF-8."""


def _networks(*texts: str) -> tuple[Network, ...]:
    return tuple(map(ip_network, texts))


# https://www.cloudflare.com/ips-v4 and ips-v6, as a daily copy of them was on 2026-02-11.
_CLOUDFLARE: Final = _networks(
    "173.245.48.0/20", "103.21.244.0/22", "103.22.200.0/22", "103.31.4.0/22", "141.101.64.0/18", "108.162.192.0/18",
    "190.93.240.0/20", "188.114.96.0/20", "197.234.240.0/22", "198.41.128.0/17", "162.158.0.0/15", "104.16.0.0/13",
    "104.24.0.0/14", "172.64.0.0/13", "131.0.72.0/22", "2400:cb00::/32", "2606:4700::/32", "2803:f800::/32",
    "2405:b500::/32", "2405:8100::/32", "2a06:98c0::/29", "2c0f:f248::/32",
)  # fmt: skip

SOURCES: Final[Mapping[str | None, Source]] = {
    # The names in the documentation of Envoy's "IP Geolocation Filter", which replaces what a client sent. Its region
    # is an ISO code, its text UTF-8.
    None: Source(
        request_id="x-request-id",
        country="x-geo-country",
        region="x-geo-region",
        city="x-geo-city",
    ),
    # https://vercel.com/docs/headers/request-headers. Vercel replaces X-Forwarded-For "to prevent IP spoofing"; this
    # one holds the same, and stays where a proxy on top of Vercel replaces that.
    "vercel": Source(
        client="x-vercel-forwarded-for",
        request_id="x-vercel-id",
        executed_in=_vercel_region,
        country="x-vercel-ip-country",
        region="x-vercel-ip-country-region",
        city="x-vercel-ip-city",
        decode=unquote_to_bytes,
    ),
    # https://developers.cloudflare.com/fundamentals/reference/http-headers/; region and city come with the managed
    # transform "Add visitor location headers". CF-Ray ends in the point of presence, which executes nothing of ours.
    "cloudflare": Source(
        ranges=_CLOUDFLARE,
        client="cf-connecting-ip",
        request_id="cf-ray",
        country="cf-ipcountry",
        region="cf-region-code",
        city="cf-ipcity",
        decode=_unescaped,
    ),
    # https://fly.io/docs/networking/request-headers/. Fly appends the application's own address to X-Forwarded-For
    # after the client's, so that cannot be walked. Fly-Region is where the request came in, not where it is executed.
    "fly": Source(
        # A machine's private IPv4 network, and 6PN. Fly's documentation does not say from which address its proxy
        # calls; if it is another one, nothing is believed without a proof.
        ranges=_networks("172.16.0.0/12", "fdaa::/16"),
        client="fly-client-ip",
        request_id="fly-request-id",
    ),
    # https://docs.aws.amazon.com/elasticloadbalancing/latest/application/x-forwarded-headers.html
    "aws-alb": Source(
        # RFC 1918, RFC 6598, RFC 4193
        ranges=_networks("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"),
        request_id="x-amzn-trace-id",
        identify=_amazon_trace,
    ),
}
"""By the platform's name; None: proxies of one's own."""
