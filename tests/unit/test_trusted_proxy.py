"""Headers are believed only where something vouches for them, whatever a client sends."""

from __future__ import annotations

import time
from collections.abc import Mapping

import pytest

from otel_usage.errors import ConfigError
from otel_usage.schema import BY_KEY
from otel_usage.trusted_proxy import PLATFORMS, ProxyFacts, TrustedProxy

SECRET = "s3cret-of-the-proxy"
CLIENT = "203.0.113.7"
FORGED = "198.51.100.66"
CLOUDFLARE = "173.245.48.9"
NOTHING = ProxyFacts()

CLOUDFLARE_HEADERS = {
    "x-forwarded-for": CLIENT,
    "cf-connecting-ip": CLIENT,
    "cf-ray": "8f2c1b7de9a0d6f1-FRA",
    "cf-ipcountry": "DE",
    "cf-region-code": "BE",
    "cf-ipcity": "Berlin",
}
OWN_HEADERS = {
    "x-forwarded-for": CLIENT,
    "x-request-id": "8f14e45f-ceea",
    "x-geo-country": "DE",
    "x-geo-region": "BE",
    "x-geo-city": "Berlin",
}
BERLIN = {"geo.country.iso_code": "DE", "geo.region.iso_code": "DE-BE", "geo.locality.name": "Berlin"}


def declared(text: str) -> TrustedProxy:
    proxy = TrustedProxy.parse(text)
    assert proxy is not None
    return proxy


def facts(text: str, headers: Mapping[str, str], peer: str | None) -> ProxyFacts:
    """The facts, derived from no more than the headers that were asked for."""
    proxy = declared(text)
    return proxy.facts({name: value for name, value in headers.items() if name in proxy.headers}, peer)


def client(text: str, forwarded: str | None, peer: str | None) -> str | None:
    return facts(text, {} if forwarded is None else {"x-forwarded-for": forwarded}, peer).client_address


def geo(headers: Mapping[str, str], text: str = "10.0.0.0/8") -> dict[str, str]:
    return dict(facts(text, headers, "10.0.0.1").attributes)


# -- the declaration ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["none", " none\n"])
def test_none_declares_nothing(text: str) -> None:
    assert TrustedProxy.parse(text) is None


def test_a_declaration_names_a_platform_networks_and_a_proof() -> None:
    proxy = declared(f" cloudflare , 10.0.0.0/8,192.0.2.1, 2001:db8::/32 ,header:X-Proof={SECRET}")
    assert proxy.platform == "cloudflare"
    assert list(map(str, proxy.networks)) == ["10.0.0.0/8", "192.0.2.1/32", "2001:db8::/32"]
    assert proxy.proof == ("x-proof", SECRET)


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_platform_is_declared_by_its_name_alone(platform: str) -> None:
    assert declared(platform) == TrustedProxy(platform)


def test_a_secret_holds_all_that_comes_after_its_name() -> None:
    assert declared("header:x=abc,vercel,=header:x=0123").proof == ("x", "abc,vercel,=header:x=0123")


def test_an_ipv4_mapped_network_is_its_ipv4_network() -> None:
    assert list(map(str, declared("::ffff:10.0.0.0/104,::ffff:192.0.2.1").networks)) == ["10.0.0.0/8", "192.0.2.1/32"]


@pytest.mark.parametrize(
    "text",
    [
        "", " ", ",", "vercel,", ",vercel", "vercel,,10.0.0.0/8", "none,vercel", "Vercel", "nginx", "*", "true", "1",
        "vercel,fly", "fly,fly", "10.0.0.1/8", "10.0.0.0/33", "0.0.0.0/0", "::/0", "::ffff:0:0/96", "10.0.0",
        "fe80::%eth0", "fe80::1%eth0/128", "2001:db8::1/32", "10.0.0.0/8 192.0.2.1", "10.0.0.0/8;192.0.2.1", "vercel\0",
        "\u0661\u0660.0.0.0",
    ],
)  # fmt: skip
def test_what_is_not_a_declaration_is_refused_by_name(text: str) -> None:
    with pytest.raises(ConfigError, match=r"USAGE_TRUSTED_PROXY is '.*it takes none, or a list of") as caught:
        TrustedProxy.parse(text)
    assert caught.value.setting == "USAGE_TRUSTED_PROXY"


@pytest.mark.parametrize(
    "text",
    [
        "header:", "header:x", "header:x=", "header:x=short", f"header:={SECRET}", f"header:x y={SECRET}",
        f"header:x\0={SECRET}", f"header:{SECRET}", f"header:x={SECRET} ", f"header:x= {SECRET}",
        f"header:x={SECRET}\n", f"header:x={SECRET}\0", f"header:x={SECRET}é", f"header:x={SECRET},vercel, 10.0.0.0/8",
        f"vercel header:x={SECRET}", f"vercel,,header:x={SECRET}", f"nginx,header:x={SECRET}", f"Header:x={SECRET}",
        f"proof:x={SECRET}", f"10.0.0.1/8,header:x={SECRET}", f"vercel,fly,header:x={SECRET}",
        f"none,header:x={SECRET}", f"x={SECRET}",
    ],
)  # fmt: skip
def test_a_refused_declaration_with_a_proof_shows_nothing_of_it(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        TrustedProxy.parse(text)
    assert "is a value that is not shown, because it may be a secret; it takes" in str(caught.value)
    assert not {SECRET, "short", "10.0.0.1", "nginx"} & set(str(caught.value).replace(";", " ").split())
    assert SECRET not in str(caught.value)


def test_a_secret_is_never_shown() -> None:
    assert SECRET not in repr(declared(f"vercel,header:x={SECRET}"))


def test_no_more_headers_are_asked_for_than_the_declaration_needs() -> None:
    assert declared("10.0.0.0/8").headers == frozenset(OWN_HEADERS)
    assert declared("cloudflare").headers == frozenset(CLOUDFLARE_HEADERS)
    assert declared(f"aws-alb,header:X-Proof={SECRET}").headers == {"x-forwarded-for", "x-amzn-trace-id", "x-proof"}


# -- who vouches -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "peer",
    ["192.0.2.9", "11.0.0.1", "::ffff:192.0.2.9", "fe80::1%eth0", "", None, "unknown", "10.0.0.1\0",
     "10.0.0.1, 10.0.0.1", "10.0.0.1:80", "x" * 70_000],
)  # fmt: skip
@pytest.mark.parametrize("text", ["10.0.0.0/8", "cloudflare", "fly", "aws-alb", "vercel,10.0.0.0/8"])
def test_forged_headers_from_an_undeclared_peer_are_not_believed(text: str, peer: str | None) -> None:
    everything = {name: FORGED for platform in PLATFORMS for name in declared(platform).headers}
    assert facts(text, everything | CLOUDFLARE_HEADERS | OWN_HEADERS, peer) == NOTHING


def test_a_declared_proxy_is_believed() -> None:
    assert facts("10.0.0.0/8", OWN_HEADERS, "10.1.2.3") == ProxyFacts(CLIENT, "8f14e45f-ceea", BERLIN)


@pytest.mark.parametrize("peer", ["10.1.2.3", "::ffff:10.1.2.3", "::ffff:a01:203", "fe80::1", "fe80::1%eth0"])
def test_a_peer_is_the_same_in_each_notation(peer: str) -> None:
    assert client("10.0.0.0/8,fe80::1", CLIENT, peer) == CLIENT


def test_cloudflare_is_believed_from_its_own_ranges() -> None:
    expected = ProxyFacts(CLIENT, "8f2c1b7de9a0d6f1-FRA", BERLIN | {"usage.execution.plane": "cloudflare"})
    assert facts("cloudflare", CLOUDFLARE_HEADERS, CLOUDFLARE) == expected
    assert facts("cloudflare", CLOUDFLARE_HEADERS, "2606:4700::1") == expected


def test_cloudflare_is_believed_behind_a_proxy_of_ones_own() -> None:
    headers = CLOUDFLARE_HEADERS | {"x-forwarded-for": f"{FORGED}, {CLIENT}, {CLOUDFLARE}"}
    found = facts("cloudflare,10.0.0.0/8", headers, "10.0.0.1")
    assert found.client_address == CLIENT
    assert found.attributes["usage.execution.plane"] == "cloudflare"


def test_who_calls_the_proxy_behind_cloudflare_cannot_pretend_to_come_through_it() -> None:
    headers = CLOUDFLARE_HEADERS | {"x-forwarded-for": f"{FORGED}, {CLOUDFLARE}, {CLIENT}", "x-request-id": "forged"}
    assert facts("cloudflare,10.0.0.0/8", headers, "10.0.0.1") == ProxyFacts(CLIENT)


def test_a_platforms_client_address_is_not_replaced_by_the_platforms_own() -> None:
    headers = {
        name: value for name, value in CLOUDFLARE_HEADERS.items() if name not in ("cf-connecting-ip", "x-forwarded-for")
    }
    assert facts("cloudflare", headers, CLOUDFLARE).client_address is None


def test_vercel_is_believed_as_declared_whatever_its_runtime_calls_the_peer() -> None:
    headers = {
        "x-forwarded-for": CLIENT,
        "x-vercel-forwarded-for": CLIENT,
        "x-vercel-id": "cdg1::iad1::lb9wx-1700000000000-0a1b2c3d4e5f",
        "x-vercel-ip-country": "BR",
        "x-vercel-ip-country-region": "SP",
        "x-vercel-ip-city": "S%C3%A3o%20Paulo",
    }
    expected = ProxyFacts(
        CLIENT,
        "cdg1::iad1::lb9wx-1700000000000-0a1b2c3d4e5f",
        {
            "geo.country.iso_code": "BR",
            "geo.region.iso_code": "BR-SP",
            "geo.locality.name": "São Paulo",
            "cloud.region": "iad1",
            "usage.execution.plane": "vercel",
        },
    )
    for peer in ("127.0.0.1", CLIENT, f"{CLIENT}, 10.0.0.1", None):
        assert facts("vercel", headers, peer) == expected
    assert facts("vercel,127.0.0.1", headers, "127.0.0.1") == expected


def test_fly_names_the_client_apart_from_the_addresses_that_it_forwards() -> None:
    # Fly appends the application's own address, which would pass for the client's.
    headers = {"x-forwarded-for": f"{FORGED}, {CLIENT}, 66.241.124.230", "fly-request-id": "01GG8B6YWB2-fra"}
    plane = {"usage.execution.plane": "fly"}
    assert facts("fly", headers | {"fly-client-ip": CLIENT}, "172.16.9.2") == ProxyFacts(
        CLIENT, "01GG8B6YWB2-fra", plane
    )
    assert facts("fly", headers, "fdaa:0:1::3").client_address is None


def test_a_load_balancer_of_amazon_vouches_for_the_address_that_it_appended_and_no_other() -> None:
    assert client("aws-alb", f"{FORGED}, {CLIENT}", "10.0.0.7") == CLIENT
    # A caller from inside the VPC is a client, though the load balancers are in the same ranges.
    assert client("aws-alb", f"{FORGED}, 10.0.0.5", "10.0.0.7") == "10.0.0.5"
    assert client("aws-alb,10.0.1.0/24", f"{FORGED}, {CLIENT}, 10.0.0.7", "10.0.1.1") == CLIENT


# -- proof -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("peer", ["192.0.2.9", None, "", "unix:"])
def test_a_proof_vouches_for_any_peer(peer: str | None) -> None:
    headers = OWN_HEADERS | {"x-proof": SECRET}
    assert facts(f"header:X-Proof={SECRET}", headers, peer) == ProxyFacts(CLIENT, "8f14e45f-ceea", BERLIN)


def test_a_proof_vouches_for_a_platform_that_is_called_from_elsewhere() -> None:
    found = facts(f"cloudflare,header:X-Proof={SECRET}", CLOUDFLARE_HEADERS | {"x-proof": SECRET}, "127.0.0.1")
    assert found == ProxyFacts(CLIENT, "8f2c1b7de9a0d6f1-FRA", BERLIN | {"usage.execution.plane": "cloudflare"})


@pytest.mark.parametrize(
    "given",
    [
        None, "", " ", SECRET[:-1], SECRET[1:], SECRET + " ", SECRET + "x", SECRET.upper(), f"{SECRET}, {SECRET}",
        f"forged, {SECRET}", f"{SECRET}, ", f"{SECRET}\0", SECRET[:-1] + "é", SECRET[:-1] + "\ud800", "€",
        SECRET * 4000,
    ],
)  # fmt: skip
@pytest.mark.parametrize("text", ["", "10.0.0.0/8,", "aws-alb,", "vercel,"])
def test_without_its_proof_nothing_is_believed_even_of_a_declared_peer(text: str, given: str | None) -> None:
    headers = OWN_HEADERS | CLOUDFLARE_HEADERS | ({} if given is None else {"x-proof": given})
    assert facts(f"{text}header:X-Proof={SECRET}", headers, "10.0.0.1") == NOTHING


def test_beside_a_proof_networks_say_which_hops_to_pass_over() -> None:
    headers = {"x-proof": SECRET, "x-forwarded-for": f"{FORGED}, {CLIENT}, 10.0.0.2"}
    assert facts(f"header:X-Proof={SECRET}", headers, None).client_address == "10.0.0.2"
    assert facts(f"10.0.0.0/8,header:X-Proof={SECRET}", headers, None).client_address == CLIENT
    assert facts(f"aws-alb,header:X-Proof={SECRET}", headers, None).client_address == CLIENT


# -- X-Forwarded-For ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("forwarded", "expected"),
    [
        (CLIENT, CLIENT),
        (f"{FORGED}, {CLIENT}", CLIENT),
        (f"10.0.0.9, {FORGED},{CLIENT}", CLIENT),
        (f"{FORGED}, {CLIENT}, 10.0.0.2,10.0.0.3 ,\t10.0.0.4", CLIENT),
        (f"{CLIENT}:567", CLIENT),
        (f"{CLIENT}, 10.0.0.2:8080", CLIENT),
        ("2001:DB8::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:80", "2001:db8::1"),
        ("::ffff:203.0.113.7", CLIENT),
        (f"{CLIENT}, ::ffff:10.0.0.2", CLIENT),
        (f"{CLIENT}, [::ffff:10.0.0.2]:80", CLIENT),
        ("fe80::1%eth0", "fe80::1"),
        ("fe80::1%\x00<script>", "fe80::1"),
        # All from inside: the first of them.
        ("10.0.0.9, 10.0.0.2", "10.0.0.9"),
        # No header: the proxy itself called.
        (None, "10.0.0.1"),
    ],
)
def test_the_client_is_the_first_hop_from_the_right_that_is_not_trusted(forwarded: str | None, expected: str) -> None:
    assert client("10.0.0.0/8", forwarded, "10.0.0.1") == expected


@pytest.mark.parametrize(
    "broken",
    [
        "", " ", "unknown", "_hidden", "localhost", "203.0.113", "203.0.113.7.8", "203.0.113.256",
        "203.0.113.07", "1", "::g", "203.0.113.7:", "203.0.113.7:x", "203.0.113.7:123456", "203.0.113.7:80:80",
        "[203.0.113.7]:80", "[2001:db8::1", "2001:db8::1]", "[2001:db8::1]x", "[]", "[:]", "203.0.113.7 x",
        "203.0.113.7\0", "203.0.113.7\n", "\u0662\u0660\u0663.0.113.7", "203.0.113.7;", '"203.0.113.7"',
        "for=203.0.113.7", "203.0.113.7%eth0", "203.0.113.7/32", "fe80::1%" + "x" * 99, "9" * 70_000, "\ud800",
    ],
)  # fmt: skip
def test_a_broken_entry_ends_the_way_to_the_client(broken: str) -> None:
    assert client("10.0.0.0/8", broken, "10.0.0.1") is None
    assert client("10.0.0.0/8", f"{CLIENT}, {broken}", "10.0.0.1") is None
    assert client("10.0.0.0/8", f"{CLIENT}, {broken}, 10.0.0.2", "10.0.0.1") is None


def test_a_broken_entry_beyond_the_client_is_of_no_account() -> None:
    assert client("10.0.0.0/8", f"unknown, \0, {CLIENT}, 10.0.0.2", "10.0.0.1") == CLIENT


def test_a_chain_without_an_end_leads_to_no_client() -> None:
    assert client("10.0.0.0/8", f"{CLIENT}, " + ", ".join(["10.0.0.2"] * 32), "10.0.0.1") == CLIENT
    assert client("10.0.0.0/8", f"{FORGED}, {CLIENT}, " + ", ".join(["10.0.0.2"] * 32), "10.0.0.1") is None
    assert client("10.0.0.0/8", ",".join(["10.0.0.2"] * 9999), "10.0.0.1") is None


@pytest.mark.parametrize(
    "unit", ["10.0.0.2, ", ",", " ", "\t,", "[", ":", "%", "a=;", "Root=", "Self=;", "%C3", "\\u00"]
)
def test_a_huge_header_costs_no_more_than_its_length(unit: str) -> None:
    huge = unit * (1_000_000 // len(unit))
    started = time.perf_counter()
    for platform in ("10.0.0.0/8", *(f"{name},10.0.0.0/8" for name in PLATFORMS)):
        declared(platform).facts(dict.fromkeys(declared(platform).headers, huge), "10.0.0.1")
    assert time.perf_counter() - started < 2  # seconds; a quadratic one takes minutes


# -- request ids -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    ["", " ", "a b", "a, b", "a\n", "a\0", "é", "a" * 129, "<script>", "\ud800"],
)
def test_a_request_id_that_is_not_harmless_is_none(given: str) -> None:
    assert facts("10.0.0.0/8", {"x-request-id": given}, "10.0.0.1").request_id is None


def test_a_request_id_of_a_client_is_never_taken_for_a_platforms() -> None:
    for platform in PLATFORMS:
        assert "x-request-id" not in declared(platform).headers


ROOT = "1-67891233-abcdef012345678912345678"
SELF = "1-67891234-12456789abcdef0123456789"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (f"Root={ROOT}", ROOT),
        (f"Self={SELF};Root={ROOT}", SELF),
        (f"Root={ROOT}; Self={SELF}; CalledFrom=app", SELF),
        (f"CalledFrom=app;Root={ROOT}", ROOT),
        (f"CalledFrom=Root={ROOT}", None),
        (f"Root={ROOT};Root={ROOT}", None),
        (f"Root={ROOT}, Root={ROOT}", None),
        (f"Self={SELF};Self={SELF};Root={ROOT}", None),
        (f"Self=forged;Root={ROOT}", None),
        (f"Root={ROOT}x", None),
        (f"Root={ROOT.upper()}", None),
        (f"root={ROOT}", None),
        (f"Root={ROOT};a={'x' * 1024}", None),
        ("", None),
    ],
)
def test_of_an_amazon_trace_the_part_that_the_load_balancer_wrote_is_the_id(header: str, expected: str | None) -> None:
    assert facts("aws-alb", {"x-amzn-trace-id": header}, "10.0.0.7").request_id == expected


@pytest.mark.parametrize(
    ("header", "region"),
    [
        ("cdg1::iad1::lb9wx-17", "iad1"),
        ("iad1::iad1::lb9wx-17", "iad1"),
        ("cdg1:fra1:iad1::lb9wx-17", "iad1"),
        ("iad1::lb9wx-17", None),  # where it came in, and no word of where it was executed
        ("lb9wx-17", None),
        ("cdg1::IAD::lb9wx-17", None),
        ("forged::iad1::lb9wx-17", None),
        ("cdg1::iad1", None),
        ("::", None),
        ("cdg1::iad1::lb9wx-17, cdg1::iad1::lb9wx-17", None),
    ],
)
def test_a_region_is_where_the_request_was_executed(header: str, region: str | None) -> None:
    assert facts("vercel", {"x-vercel-id": header}, None).attributes.get("cloud.region") == region


# -- geography ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "country", ["XX", "xx", "ZZ", "T1", "", "D", "DEU", "D1", "DE ", "DE, FR", "ß", "ﬁ", "ÄÖ", "D\0"]
)
def test_what_is_not_a_country_is_absent(country: str) -> None:
    assert geo({"x-geo-country": country, "x-geo-region": "BE"}) == {}


@pytest.mark.parametrize(
    ("country", "region", "expected"),
    [
        ("de", "be", "DE-BE"),
        ("DE", "DE-BE", "DE-BE"),
        ("", "DE-BE", "DE-BE"),
        ("US", "CA", "US-CA"),
        ("FR", "971", "FR-971"),
        ("GB", "gb-eng", "GB-ENG"),
        ("FR", "DE-BE", None),
        ("XX", "XX-1", None),
        ("XX", "BE", None),
        ("DE", "", None),
        ("DE", "DE-", None),
        ("DE", "BERL", None),
        ("DE", "BE, BY", None),
        ("DE", "ß", None),
        ("DE", "B\0", None),
    ],
)
def test_a_region_is_a_whole_code_of_its_country(country: str, region: str, expected: str | None) -> None:
    found = geo({"x-geo-country": country, "x-geo-region": region}).get("geo.region.iso_code")
    assert found == expected
    assert found is None or len(found) <= BY_KEY["geo.region.iso_code"].cap


@pytest.mark.parametrize(
    ("header", "city"),
    [
        ("Köln".encode().decode("latin-1"), "Köln"),
        ("東京".encode().decode("latin-1"), "東京"),
        ("x" * 64, "x" * 64),
        ("東".encode().decode("latin-1") * 64, "東" * 64),
        ("100%25", "100%25"),
        ("", None),
        (" ", None),
        ("x" * 65, None),
        ("K\xf6ln", None),  # latin-1, not UTF-8
        ("\xed\xa0\x80", None),  # a lone surrogate
        ("\xe2\x80\xae", None),  # turns the direction of the text that follows
        ("Ber\0lin", None),
        ("Ber\nlin", None),
        ("Berlin, Forged", None),
        ("東京", None),
        ("\ud800", None),
        (" " * 1024 + "Berlin", None),
    ],
)
def test_a_city_is_readable_text_or_absent(header: str, city: str | None) -> None:
    assert geo({"x-geo-city": header}).get("geo.locality.name") == city


@pytest.mark.parametrize(
    ("header", "city"),
    [("K%C3%B6ln", "Köln"), ("Washington%2C%20D.C.", "Washington, D.C."), ("%", "%"), ("K%F6ln", None), ("%00", None),
     ("%ED%A0%80", None), ("%41" * 65, None), ("%41" * 9999, None)],
)  # fmt: skip
def test_a_city_of_vercel_is_percent_decoded(header: str, city: str | None) -> None:
    assert facts("vercel", {"x-vercel-ip-city": header}, None).attributes.get("geo.locality.name") == city


@pytest.mark.parametrize(
    ("header", "city"),
    [(r"S\u00c3\u00a3o Paulo", "São Paulo"), ("São".encode().decode("latin-1"), "São"), (r"S\u00c3", None),
     (r"\u0000", None), (r"\u00", r"\u00"), (r"\u20ac", r"\u20ac")],
)  # fmt: skip
def test_a_city_of_cloudflare_is_read_from_its_escapes(header: str, city: str | None) -> None:
    assert facts("cloudflare", {"cf-ipcity": header}, CLOUDFLARE).attributes.get("geo.locality.name") == city


def test_every_attribute_is_one_of_the_schema() -> None:
    headers = {"x-vercel-id": "cdg1::iad1::x", "x-vercel-ip-country": "DE", "x-vercel-ip-country-region": "BE",
               "x-vercel-ip-city": "Berlin"}  # fmt: skip
    found = facts("vercel", headers, None).attributes
    assert len(found) == 5
    assert found.keys() <= BY_KEY.keys()
