"""Whatever a client sends, it decides nothing that a proxy is believed for."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st

from otel_usage.errors import ConfigError
from otel_usage.schema import BY_KEY
from otel_usage.trusted_proxy import PLATFORMS, ProxyFacts, TrustedProxy


def declared(text: str) -> TrustedProxy:
    proxy = TrustedProxy.parse(text)
    assert proxy is not None
    return proxy


SECRET = "s3cret-of-the-proxy"
NETWORKS = "10.0.0.0/8,2001:db8:1::/48"
ADDRESSES = [NETWORKS, *PLATFORMS, *(f"{platform},{NETWORKS}" for platform in PLATFORMS)]
DECLARATIONS = [*ADDRESSES, *(f"{text},header:X-Proof={SECRET}" for text in ADDRESSES), f"header:X-Proof={SECRET}"]
HEADERS = sorted({name for text in DECLARATIONS for name in declared(text).headers})

addresses = st.ip_addresses().map(str)
trusted = st.sampled_from(
    [
        "10.0.0.1",
        "10.255.0.9:80",
        "::ffff:10.0.0.2",
        "2001:db8:1::1",
        "[2001:db8:1::2]:443",
        "173.245.48.1",
        "172.16.0.3",
    ]
)
entries = (
    addresses
    | trusted
    | st.sampled_from(["unknown", "", "fe80::1%eth0", "203.0.113.7:80", "\0"])
    | st.text(max_size=20)
)
forwarded = st.lists(entries, max_size=40).map(", ".join)
values = (
    forwarded
    | st.text(max_size=300)
    | st.binary(max_size=300).map(lambda data: data.decode("latin-1"))
    | st.sampled_from([SECRET, "DE", "BE", "Berlin", "cdg1::iad1::x", "Root=1-67891233-abcdef012345678912345678"])
    | st.from_regex(r"[A-Za-z0-9%\\:;=, -]{0,80}", fullmatch=True)
)
headers = st.dictionaries(st.sampled_from(HEADERS), values)
requests = st.sampled_from(DECLARATIONS).flatmap(
    lambda text: st.tuples(
        st.just(text), st.fixed_dictionaries({}, optional=dict.fromkeys(sorted(declared(text).headers), values))
    )
)
peers = st.sampled_from(["10.0.0.1", "173.245.48.1", "172.16.0.3"]) | st.none() | entries
# In none of the networks, and where no platform calls from.
strangers = (
    st.ip_addresses(network="198.18.0.0/15").map(str)
    | st.ip_addresses(network="198.18.0.0/15").map(lambda address: f"::ffff:{address}")
    | st.ip_addresses(network="2001:db8:2::/48").map(str)
    | st.sampled_from([None, "", "unix", "10.0.0.1:80", "[2001:db8:1::1]", "10.0.0.1, 10.0.0.1", "10.0.0.1/32"])
)


@given(requests, peers, st.booleans())
def test_whatever_is_sent_a_fact_is_well_formed_or_absent(
    request: tuple[str, dict[str, str]], peer: str | None, proven: bool
) -> None:
    text, sent = request
    found = declared(text).facts(sent | {"x-proof": SECRET} if proven else sent, peer)
    if found.client_address is not None:
        address = ip_address(found.client_address)
        assert str(address) == found.client_address
        assert isinstance(address, IPv4Address) or (address.scope_id is None and address.ipv4_mapped is None)
    assert found.request_id is None or re.fullmatch(r"[!-~]{1,128}", found.request_id)
    for key, value in found.attributes.items():
        assert 0 < len(value) <= BY_KEY[key].cap
        assert value.isprintable()


@given(st.sampled_from([text for text in ADDRESSES if text != "vercel"]), headers, strangers)
def test_of_a_peer_that_is_not_trusted_nothing_is_believed(text: str, sent: dict[str, str], peer: str | None) -> None:
    assert declared(text).facts(sent, peer) == ProxyFacts()


@given(st.sampled_from(DECLARATIONS).filter(lambda text: "header:" in text), headers, peers, st.text(max_size=40))
def test_without_the_proof_nothing_is_believed(
    text: str, sent: dict[str, str], peer: str | None, given_proof: str
) -> None:
    proof = {"x-proof": given_proof} if given_proof != SECRET else {}
    sent.pop("x-proof", None)
    assert declared(text).facts(sent | proof, peer) == ProxyFacts()


@given(
    st.sampled_from([text for text in DECLARATIONS if NETWORKS in text]),
    headers,
    forwarded | st.text(max_size=300),
    st.sampled_from(["203.0.113.7", "[2001:db8:2::1]:80"]),
    st.lists(st.sampled_from(["10.0.0.1", "10.9.9.9:80", "2001:db8:1::1"]), max_size=20),
)
def test_what_stands_left_of_the_client_changes_nothing(
    text: str, sent: dict[str, str], left: str, client: str, right: list[str]
) -> None:
    proxy = declared(text)
    sent["x-proof"] = SECRET
    end = ", ".join([client, *right])
    plain = proxy.facts(sent | {"x-forwarded-for": end}, "10.0.0.1")
    assert proxy.facts(sent | {"x-forwarded-for": f"{left}, {end}"}, "10.0.0.1") == plain
    if proxy.platform in (None, "aws-alb"):
        assert plain.client_address == str(ip_address(client.removeprefix("[").removesuffix("]:80")))


@given(
    st.ip_addresses() | st.sampled_from(NETWORKS.split(",")).flatmap(lambda network: st.ip_addresses(network=network)),
    st.booleans(),
)
def test_an_address_is_trusted_exactly_where_a_network_holds_it(
    address: IPv4Address | IPv6Address, mapped: bool
) -> None:
    inside = any(address in ip_network(network) for network in NETWORKS.split(","))
    peer = f"::ffff:{address}" if mapped and address.version == 4 else str(address)
    found = declared(NETWORKS).facts({"x-forwarded-for": "203.0.113.7"}, peer)
    assert found.client_address == ("203.0.113.7" if inside else None)


def parsed(text: str) -> TrustedProxy | str | None:
    """What is declared, or the message of the error."""
    try:
        return TrustedProxy.parse(text)
    except ConfigError as error:
        return str(error)


@given(st.text() | st.from_regex(r"[a-z0-9.:/,=% -]{0,60}(header:[a-z]*=[!-~]*)?", fullmatch=True))
def test_a_declaration_is_understood_or_refused_without_showing_a_secret(text: str) -> None:
    proxy = parsed(text)
    if isinstance(proxy, str):
        assert "header:" not in text or "a value that is not shown" in proxy
    elif proxy is not None:
        assert all(network.prefixlen for network in proxy.networks)
        assert proxy.platform or proxy.networks or proxy.proof
