"""Hosts that are trusted are matched as they are connected to; whatever is unusual matches nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_usage.errors import ConfigError
from otel_usage.hosts import HostPatterns, canonical_host


def matches(pattern: str, host: str, port: int | None = 80) -> bool:
    return HostPatterns("X", [pattern]).match(host, port) is not None


@pytest.mark.parametrize(
    ("pattern", "host", "port"),
    [
        ("pricing.internal", "pricing.internal", 80),
        ("pricing.internal", "PRICING.Internal.", 443),
        ("Pricing.Internal.", "pricing.internal", None),
        ("pricing.internal:8080", "pricing.internal", 8080),
        ("pricing", "pricing", 80),
        ("*.internal", "pricing.internal", 80),
        ("*.svc.cluster.local", "a.b.svc.cluster.local", 80),
        ("*.svc.cluster.local:81", "a.svc.cluster.local", 81),
        ("10.0.0.7", "10.0.0.7", 80),
        ("[::1]:80", "::1", 80),
        ("[::1]", "[0:0:0:0:0:0:0:1]", 80),
        ("[2001:DB8::1]", "2001:db8:0::1", 80),
        ("xn--strae-oqa.de", "xn--strae-oqa.de", 80),
        ("_tcp.pricing.internal", "_tcp.pricing.internal", 80),
    ],
)
def test_a_host_is_matched_in_every_spelling_of_its_own(pattern: str, host: str, port: int | None) -> None:
    assert matches(pattern, host, port)


@pytest.mark.parametrize(
    ("pattern", "host", "port"),
    [
        ("pricing.internal", "xpricing.internal", 80),
        ("pricing.internal", "pricing.internal.evil.com", 80),
        ("pricing.internal", "evil.com.pricing.internal", 80),
        ("pricing.internal", "pricing.internal..", 80),
        ("pricing.internal", "pricing%2einternal", 80),
        ("pricing.internal", "pricing\u3002internal", 80),
        ("pricing.internal", "\uff50ricing.internal", 80),
        ("pricing.internal", "pricing.internal\0", 80),
        ("pricing.internal", "pricing.internal\n", 80),
        ("pricing.internal", " pricing.internal", 80),
        ("pricing.internal", "user@pricing.internal", 80),
        ("pricing.internal", "pricing.internal:80", 80),
        ("pricing.internal", "", 80),
        ("pricing.internal:8080", "pricing.internal", 8081),
        ("pricing.internal:8080", "pricing.internal", None),
        ("*.pricing.internal", "pricing.internal", 80),
        ("*.pricing.internal", "xpricing.internal", 80),
        ("*.pricing.internal", ".pricing.internal", 80),
        ("strasse.de", "straße.de", 80),
        ("strasse.de", "xn--strae-oqa.de", 80),
        ("k.internal", "\u212a.internal", 80),  # the sign for kelvin, whose lower case is a k
        ("127.0.0.1", "127.1", 80),
        ("127.0.0.1", "2130706433", 80),
        ("127.0.0.1", "0x7f.0.0.1", 80),
        ("127.0.0.1", "127.0.0.01", 80),
        ("127.0.0.1", "::ffff:127.0.0.1", 80),
        ("127.0.0.1", "127.0.0.1.evil.com", 80),
        ("[::1]", "::1%eth0", 80),
    ],
)
def test_a_host_that_only_looks_like_it_is_not_matched(pattern: str, host: str, port: int | None) -> None:
    assert not matches(pattern, host, port)


@pytest.mark.parametrize(
    "pattern",
    [
        "", "*", "*.", "*.com", "*.de", "a.*.com", "*a.com", "http://a.com", "a.com/x", "a.com:0", "a.com:65536",
        "a.com:", "a.com:http", "straße.de", "a b.com", "-a.com", "*.0.0.1", "*.127.0.0.1", "*.[::1]", "[::1",
        "::1", "127.1", "2130706433", "0x7f.1", "a..b", "a.com,b.com",
    ],
)  # fmt: skip
def test_a_pattern_that_nobody_can_mean_is_refused_by_name(pattern: str) -> None:
    with pytest.raises(ConfigError, match="USAGE_BAGGAGE_HOSTS is ") as error:
        HostPatterns("USAGE_BAGGAGE_HOSTS", [pattern])
    assert repr(pattern) in str(error.value)


def test_a_password_in_what_was_meant_as_a_url_is_not_shown() -> None:
    with pytest.raises(ConfigError) as error:
        HostPatterns("USAGE_BAGGAGE_HOSTS", ["user:hunter2@a.com"])
    assert "hunter2" not in str(error.value)


def test_a_match_is_told_in_one_spelling() -> None:
    hosts = HostPatterns("X", ["*.internal", "[::1]"])
    assert hosts.match("Pricing.INTERNAL.", 8080) == "pricing.internal:8080"
    assert hosts.match("0::1", 80) == "::1:80"
    assert HostPatterns("X", []).match("pricing.internal", 80) is None


@given(st.text(max_size=300), st.none() | st.integers(0, 70000))
def test_no_text_is_too_odd_to_be_looked_at(host: str, port: int | None) -> None:
    found = canonical_host(host)
    assert found is None or (found.isascii() and found == found.lower() and canonical_host(found) == found)
    assert not matches("pricing.internal", host, port) or host.lower() in ("pricing.internal", "pricing.internal.")
