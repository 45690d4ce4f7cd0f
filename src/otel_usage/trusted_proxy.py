"""Facts from the headers that a proxy adds, believed only where something vouches for them. Pure.

Anyone can send ``X-Forwarded-For``, ``CF-IPCountry`` or ``X-Request-Id``. ``USAGE_TRUSTED_PROXY`` declares what stands
in front of the service; without a declaration, and for a request that did not come that way, nothing is believed.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from types import MappingProxyType
from typing import Final

from .errors import ConfigError
from .proxy_headers import SOURCES, Network, geography

Address = IPv4Address | IPv6Address

VARIABLE: Final = "USAGE_TRUSTED_PROXY"

_HOPS: Final = 32
"""Entries of ``X-Forwarded-For`` that are passed over at most; a chain of more proxies than that is not one."""
_HOP_LENGTH: Final = 64
"""Characters of an address at most: 45 of IPv6, brackets, a port, and a zone such as ``%eth0``."""

_HOP: Final = re.compile(r"\[([^\]]*:[^\]]*)\](?::[0-9]{1,5})?|([0-9.]+):[0-9]{1,5}")
_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # a token of RFC 9110, section 5.6.2
# No spaces: a header sent twice arrives joined by ", ", which no secret can then be equal to.
_SECRET: Final = re.compile(r"[!-~]{16,}")

# What is shorter than any secret, or a network.
_WORD: Final = re.compile(
    r"[\w.:/*%-]{0,15}|[0-9./]{0,20}|(?:[0-9a-f]{0,4}:){2,7}[0-9a-f.]{0,15}(?:%\w{1,8})?(?:/\d{1,3})?"
)
_BETWEEN: Final = re.compile(r"[\s,;\0]+")


@dataclass(frozen=True, slots=True)
class ProxyFacts:
    """What a request's headers say, as far as something vouches for them."""

    client_address: str | None = None
    """The client's address, without a port or a zone. None: not known; nothing may be taken in its place."""
    request_id: str | None = None
    """The proxy's id of the request. None: it gave none, or one that is too long or holds unusual characters."""
    attributes: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """``geo.country.iso_code``, ``geo.region.iso_code``, ``geo.locality.name``, ``cloud.region`` and
    ``usage.execution.plane``: those that are known."""


@dataclass(frozen=True, slots=True)
class TrustedProxy:
    """What stands in front of the service, and what makes a request believable.

    Without a proof, the peer has to be in one of the networks or of the platform's own ranges. A proof is stronger than
    an address, which others may share: where one is declared it is required of each request, whatever its peer, and
    networks and ranges then only say which entries of ``X-Forwarded-For`` to pass over.

    A platform declares, beyond that, that its headers are to be believed where it was on the request's way:

    ``vercel``
        Nothing but Vercel's own proxy reaches this process. No address can vouch for that: Vercel's Python runtime
        listens on the loopback address, and what it gives the application as the peer is taken from
        ``X-Forwarded-For`` (``vc_init.py`` of vercel/vercel). Never declare it elsewhere without a proof: everything
        would be believed of everyone. With networks, the peer has to be in one of them after all.
    ``cloudflare``
        Requests come through Cloudflare, from its published ranges. Those are shared by all of its customers: one of
        them can send requests of their own making from there, and only a proof (a header added by a transform
        rule) tells those from yours.
    ``fly``
        Requests come through Fly Proxy, from the machine's own or the organisation's private network. The
        organisation's other applications are on it too, and are trusted with it.
    ``aws-alb``
        Requests come through an Application Load Balancer in append mode (the default), from a private address.
        Whatever else can reach this process from inside the VPC is trusted with it: its security group should let in
        the load balancer alone.

    Networks or a proof without a platform are proxies of one's own: they have to set ``X-Request-Id`` and the
    ``X-Geo-…`` headers themselves, or remove a client's, and to append to ``X-Forwarded-For``.
    """

    platform: str | None = None
    """``vercel``, ``cloudflare``, ``fly`` or ``aws-alb``. None: only proxies of one's own."""
    networks: tuple[Network, ...] = ()
    """Where proxies of one's own are."""
    proof: tuple[str, str] | None = field(default=None, repr=False)
    """The lower-case name of a header that the proxy adds, and the secret that is its value. None: addresses vouch."""

    @classmethod
    def parse(cls, text: str) -> TrustedProxy | None:
        """Read the value of ``USAGE_TRUSTED_PROXY``. None for ``none``: nothing is believed.

        Raises:
            ConfigError: it is not ``none`` and not a list of what is accepted.
        """
        if text.strip() == "none":
            return None
        listed, marked, proof = text.partition("header:")
        secret = not _shows_no_proof(text)
        parts = [part.strip() for part in listed.split(",")]
        _require(not marked or parts.pop() == "", text, secret=secret)
        platforms = [part for part in parts if part in PLATFORMS]
        _require(len(platforms) <= 1, text, secret=secret)
        networks = []
        for part in parts:
            network = _network(part)
            _require(network or part in PLATFORMS, part, secret=secret)
            networks += [network] if network else []
        return cls(platforms[0] if platforms else None, tuple(networks), _proof(proof) if marked else None)

    @property
    def headers(self) -> frozenset[str]:
        """The lower-case names of the request headers that :meth:`facts` needs."""
        source = SOURCES[self.platform]
        names = (source.client, source.request_id, source.country, source.region, source.city)
        proof = self.proof[0] if self.proof else None
        return frozenset({"x-forwarded-for"}.union(name for name in (*names, proof) if name))

    def facts(self, headers: Mapping[str, str], peer: str | None) -> ProxyFacts:
        """What ``headers`` say of a request, as far as they are to be believed. Never raises.

        ``headers`` are by lower-case name and decoded as latin-1; lines of one name are joined by ``", "``. ``peer`` is
        the address of the TCP peer itself; None or empty for a Unix socket or where it is not known. A server that
        puts an address from ``X-Forwarded-For`` in its place lets clients choose it (uvicorn with
        ``--forwarded-allow-ips='*'``): then only a proof vouches for anything.
        """
        caller = _address(peer or "")
        if not self._vouched(headers, caller):
            return ProxyFacts()
        client, met = self._walk(headers.get("x-forwarded-for"), caller)
        if self.platform and not (met or self.proof or self.platform == "vercel"):
            # Past the platform, straight to a proxy behind it: that one vouches for the addresses that it appended,
            # but lets the platform's headers through as the client sent them.
            return ProxyFacts(_text(client))
        source = SOURCES[self.platform]
        if source.client:
            client = _address(headers.get(source.client, "").strip())
        request_id = source.identify(headers.get(source.request_id, ""))
        attributes = geography(source, headers)
        if self.platform:
            attributes["usage.execution.plane"] = self.platform
        if region := source.executed_in(request_id or ""):
            attributes["cloud.region"] = region
        return ProxyFacts(_text(client), request_id, MappingProxyType(attributes))

    def _vouched(self, headers: Mapping[str, str], peer: Address | None) -> bool:
        if self.proof:
            name, secret = self.proof
            given = headers.get(name, "").encode("latin-1", "backslashreplace")
            return hmac.compare_digest(given, secret.encode())
        if self.platform == "vercel" and not self.networks:
            return True
        return _within(peer, self.networks) or _within(peer, SOURCES[self.platform].ranges)

    def _walk(self, forwarded: str | None, peer: Address | None) -> tuple[Address | None, bool]:
        """The client by ``X-Forwarded-For``, and whether the platform's proxy was met on the way to it.

        Each proxy appends the address that called it. So the entries are read from the right, where the nearest proxy
        wrote; the first one that is not a trusted proxy is the client, and what stands left of it is the client's own
        invention. If all are trusted, the call came from inside: from the leftmost, or from the peer if there is no
        entry. None: the client is not known, because an entry is broken before one is found, or no end is in sight.

        The platform's ranges make one hop trusted, not more: it appends one entry, and who else calls from a private
        network is a client.
        """
        ranges = SOURCES[self.platform].ranges
        hop, met = peer, _within(peer, ranges)
        passed = met and not _within(peer, self.networks)
        for entry in reversed(() if forwarded is None else forwarded.rsplit(",", _HOPS)):
            hop = _hop(entry)
            ours, platforms = _within(hop, self.networks), _within(hop, ranges)
            if not ours and (passed or not platforms):
                break
            met = met or platforms
            passed = passed or not ours
        return hop, met


def _shows_no_proof(text: str) -> bool:
    """Whether it can only be misspelt words and addresses: a misspelt proof is a secret, too."""
    return "header" not in text.lower() and all(map(_WORD.fullmatch, _BETWEEN.split(text)))


def _require(condition: object, got: str, *, secret: bool) -> None:
    if not condition:
        raise ConfigError(VARIABLE, None if secret else got, _FORM)


def _network(part: str) -> Network | None:
    """A CIDR or an address as a network; None if it is neither, has host bits set or covers everything."""
    try:
        network = ip_network(part)
    except ValueError:
        return None
    if "%" in part:  # addresses are compared without their zone
        return None
    if isinstance(network, IPv6Network) and network.network_address.ipv4_mapped and network.prefixlen >= 96:
        network = IPv4Network((network.network_address.ipv4_mapped, network.prefixlen - 96))
    return network if network.prefixlen else None


def _proof(text: str) -> tuple[str, str]:
    name, _, secret = text.partition("=")
    _require(_HEADER_NAME.fullmatch(name) and _SECRET.fullmatch(secret), text, secret=True)
    return name.lower(), secret


def _within(address: Address | None, networks: tuple[Network, ...]) -> bool:
    return address is not None and any(address in network for network in networks)


def _text(address: Address | None) -> str | None:
    return None if address is None else str(address)


def _address(text: str) -> Address | None:
    """An address without its zone, which is any text; an IPv4-mapped one (RFC 4291, 2.5.5.2) as its IPv4. Else None."""
    try:
        address = ip_address(text) if len(text) <= _HOP_LENGTH else None
    except ValueError:
        return None
    return (address.ipv4_mapped or IPv6Address(int(address))) if isinstance(address, IPv6Address) else address


def _hop(entry: str) -> Address | None:
    """The address of one entry of ``X-Forwarded-For``, which may have a port. None if it is anything else."""
    text = entry.strip(" \t")
    match = _HOP.fullmatch(text) if len(text) <= _HOP_LENGTH else None
    return _address((match[1] or match[2]) if match else text)


PLATFORMS: Final = tuple(name for name in SOURCES if name)
"""What ``USAGE_TRUSTED_PROXY`` takes as a platform."""

_FORM: Final = (
    f"none, or a list of: one of {', '.join(PLATFORMS)}; networks without host bits, or addresses, but not all of them;"
    " and last header:NAME=SECRET, of at least 16 printable ASCII characters without spaces"
)
