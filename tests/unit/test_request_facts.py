"""Facts are derived from requests by fixed rules, whatever the client sends."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_usage.config import UsageConfig
from otel_usage.redaction import REDACTED, redact
from otel_usage.request_facts import (
    PERSONAL_LENGTH,
    cache_tier_of,
    domain_of,
    host_of,
    method_of,
    origin_kind,
    personal_facts,
    reason_of,
    sentry_trace_id,
    trace_id_of,
)
from otel_usage.schema import BY_KEY, CACHE_TIERS, HTTP_METHODS, ORIGIN_KINDS, PERSONAL_KEYS, REASONS

BANDS = UsageConfig().cache_bands
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"

hostile = (
    st.text()
    | st.from_regex(r"[0-9a-f\-:._/,=\[\]\s]{0,200}")
    | st.binary(max_size=300).map(lambda data: data.decode("latin-1"))
)


def reason(status: int | None, method: str = "GET", *, route: bool = True, preflight: bool = False) -> str:
    return reason_of(status=status, method=method, has_route=route, is_preflight=preflight)


# -- domain ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("route", "domain"),
    [
        (None, None),
        ("", None),
        ("/", None),
        ("/api", None),
        ("/api/v2", None),
        ("/v2/items/{id}", "items"),
        ("/api/v1/items", "items"),
        ("/api/v1beta1/items", "items"),
        ("/v2.1/items", "items"),
        ("/v2024_01/items", "items"),
        ("items", "items"),
        ("//items//", "items"),
        ("/vitamins/{id}", "vitamins"),
        ("/version/1", "version"),
        ("/apis/1", "apis"),
        ("/{tenant}/items", None),
        ("/<int:tenant>/items", None),
        ("/:tenant/items", None),
        ("/api/{path}", None),
        ("/" + "x" * 64, "x" * 64),
        ("/" + "x" * 65, None),
        ("/" + "x" * 50 + "ann.longname@example.com/items", None),
    ],
)
def test_the_domain_is_the_first_segment_that_names_something(route: str | None, domain: str | None) -> None:
    assert domain_of(route) == domain


@given(st.text())
def test_a_domain_is_never_a_version_a_parameter_or_too_long(route: str) -> None:
    domain = domain_of(route)
    assert domain is None or (0 < len(domain) <= BY_KEY["usage.domain"].cap and domain[0] not in "{<:")
    assert domain not in ("api", "v1", "v2")


# -- reason ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (200, "ok"), (204, "ok"), (302, "ok"), (101, "ok"), (304, "not_modified"), (400, "malformed_request"),
        (401, "auth_401"), (403, "auth_403"), (404, "not_found"), (405, "method_not_allowed"), (409, "client_error"),
        (413, "payload_too_large"), (418, "client_error"), (422, "malformed_request"), (429, "rate_limit_429"),
        (499, "client_aborted"), (500, "server_error"), (502, "server_error"), (503, "server_error"),
        (None, "server_error"),
    ],
)  # fmt: skip
def test_a_status_amounts_to_a_reason(status: int | None, expected: str) -> None:
    assert reason(status) == expected


def test_a_404_without_a_route_is_an_unknown_route() -> None:
    assert reason(404, route=False) == "unknown_route"
    assert reason(403, route=False) == "auth_403"


@pytest.mark.parametrize(("status", "expected"), [(204, "preflight"), (403, "cors_error"), (503, "server_error")])
def test_a_preflight_is_not_blamed_for_an_outage(status: int, expected: str) -> None:
    assert reason(status, "OPTIONS", preflight=True) == expected


@pytest.mark.parametrize("status", range(100, 600))
def test_no_failure_is_ever_ok_and_faults_of_the_two_sides_never_share_a_reason(status: int) -> None:
    fine = {"ok", "preflight", "not_modified"}
    servers = {"server_error"}
    for method in ("GET", "OPTIONS"):
        for route in (True, False):
            for preflight in (True, False):
                found = reason(status, method, route=route, preflight=preflight)
                assert found in REASONS
                assert (found in fine) == (status < 400)
                assert (found in servers) == (status >= 500)


# -- cache tier --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "tier"),
    [
        (None, None),
        ("", None),
        ("no-cache", None),
        ("private", None),
        ("no-store", "no-store"),
        ("public, No-Store, s-maxage=60", "no-store"),
        ("s-maxage=0", "live"),
        ("s-maxage=60", "live"),
        ("s-maxage=61", "fast"),
        ("public, max-age=300", "fast"),
        ('public, max-age="600"', "medium"),
        ("max-age=5, s-maxage=3600", "slow"),
        ("s-maxage=21600", "static"),
        ("s-maxage=86400", "daily"),
        ("s-maxage=99999999", "daily"),
        ("max-age=60", "live-browser"),
        ("private, max-age=61", "slow-browser"),
        ("max-age=99999999999999999999", None),
        ("max-age=-1", None),
        ("max-age=1.5", None),
        ("max-age=٣", None),
    ],
)
def test_a_cache_control_amounts_to_a_tier(header: str | None, tier: str | None) -> None:
    assert cache_tier_of(header, BANDS) == tier


def test_a_tier_follows_the_configured_bands() -> None:
    assert cache_tier_of("s-maxage=10", ((5, "fast"), (20, "daily"))) == "daily"
    assert cache_tier_of("s-maxage=10", ()) is None
    assert cache_tier_of("max-age=10", ()) is None


@given(hostile)
def test_whatever_a_cache_control_holds_its_tier_is_a_known_one(header: str) -> None:
    assert cache_tier_of(header, BANDS) in (None, *CACHE_TIERS)


# -- headers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "host"),
    [
        (None, None),
        ("", None),
        ("API.Example.com", "api.example.com"),
        ("example.com:8080", "example.com"),
        ("10.0.0.1:80", "10.0.0.1"),
        ("[::1]:8080", "::1"),
        ("[2001:DB8::1]", "2001:db8::1"),
        ("example.com:", None),
        ("example.com:80:80", None),
        ("user@example.com", None),
        ("example.com/path", None),
        ("exa mple.com", None),
        ("example.com\n", None),
        ("bücher.example", None),
        ("x" * 300, None),
    ],
)
def test_a_host_is_taken_without_its_port_or_not_at_all(header: str | None, host: str | None) -> None:
    assert host_of(header) == host


@pytest.mark.parametrize(
    ("header", "valid"),
    [
        (f"00-{TRACE}-{PARENT}-01", True),
        (f"00-{TRACE}-{PARENT}-00", True),
        (f"cc-{TRACE}-{PARENT}-01-what-the-future-brings", True),
        (f"00-{TRACE}-{PARENT}-01-more", False),
        (f"ff-{TRACE}-{PARENT}-01", False),
        (f"00-{'0' * 32}-{PARENT}-01", False),
        (f"00-{TRACE}-{'0' * 16}-01", False),
        (f"00-{TRACE.upper()}-{PARENT}-01", False),
        (f"00-{TRACE}-{PARENT}-01\n", False),
        (f"00-{TRACE}-{PARENT}", False),
        (f"00-{TRACE[:-1]}-{PARENT}-01", False),
        (f"01-{TRACE}-{PARENT}-01-{'x' * 512}", False),
        ("", False),
        (None, False),
    ],
)
def test_a_traceparent_is_believed_only_where_it_is_valid(header: str | None, valid: bool) -> None:
    assert trace_id_of(header) == (bytes.fromhex(TRACE) if valid else None)


@pytest.mark.parametrize(
    ("header", "trace"),
    [
        (f"{TRACE}-{PARENT}-1", TRACE),
        (f"{TRACE}-{PARENT}", TRACE),
        (f" {TRACE} ", TRACE),
        (f"{TRACE}-{PARENT}-2", None),
        (f"{TRACE}x", None),
        ("", None),
        (None, None),
    ],
)
def test_of_a_sentry_trace_only_the_trace_id_is_kept(header: str | None, trace: str | None) -> None:
    assert sentry_trace_id(header) == trace


@pytest.mark.parametrize(
    ("header", "kept"),
    [("order-17_retry.2", True), ("a" * 128, True), ("a" * 129, False), ("a b", False), ("a\n", False), ("é", False)],
)
def test_a_clients_request_id_is_kept_where_it_is_harmless(header: str, kept: bool) -> None:
    assert BY_KEY["usage.client.request_id"].accept(header) == (header if kept else None)


def test_a_method_that_is_not_known_has_no_name() -> None:
    assert [method_of(method) for method in HTTP_METHODS] == list(HTTP_METHODS)
    assert {method_of(method) for method in ("get", "", "BREW", "GET ", "x" * 9999)} == {"_OTHER"}


@given(hostile)
def test_no_header_can_raise_or_grow(header: str) -> None:
    assert method_of(header) in (*HTTP_METHODS, "_OTHER")
    host = host_of(header)
    assert host is None or re.fullmatch(r"[a-z0-9._:-]{1,253}", host)
    trace_id = trace_id_of(header)
    assert trace_id is None or (len(trace_id) == 16 and any(trace_id))
    sentry = sentry_trace_id(header)
    assert sentry is None or re.fullmatch(r"[0-9a-f]{32}", sentry)
    request_id = BY_KEY["usage.client.request_id"].accept(header)
    assert request_id is None or re.fullmatch(r"[!-~]{1,128}", str(request_id))
    assert origin_kind(None, header, header) is None
    assert origin_kind("jwt", header, header) in (None, *ORIGIN_KINDS)
    assert origin_kind("jwt", f"https://{header}", header) in ORIGIN_KINDS


@given(st.integers(1, (1 << 128) - 1), st.integers(1, (1 << 64) - 1), st.integers(0, 255))
def test_every_valid_traceparent_is_read(trace_id: int, parent: int, flags: int) -> None:
    assert trace_id_of(f"00-{trace_id:032x}-{parent:016x}-{flags:02x}") == trace_id.to_bytes(16)


# -- origin ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("auth_kind", "origin", "host", "kind"),
    [
        ("user_api_key", None, None, "api-key"),
        ("enterprise_api_key", "https://example.com", "example.com", "api-key"),
        ("mcp_oauth", None, None, "mcp"),
        ("internal", None, None, "internal-cron"),
        ("jwt", None, None, None),
        ("jwt", "https://example.com", "example.com", "browser-same-origin"),
        ("jwt", "https://evil.example", "example.com", "browser-cross-origin"),
        ("widget_key", "https://shop.example", "api.example", "browser-cross-origin"),
        ("telepathy", "https://example.com", "example.com", "browser-same-origin"),
        (None, None, "example.com", None),
        (None, "https://example.com", "example.com", None),
        (None, "https://evil.example", "example.com", None),
    ],
)
def test_the_origin_follows_the_credential_before_any_header(
    auth_kind: str | None, origin: str | None, host: str | None, kind: str | None
) -> None:
    assert origin_kind(auth_kind, origin, host) == kind


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("https://example.com", "example.com"),
        ("HTTPS://EXAMPLE.com", "example.COM"),
        ("https://example.com", "example.com:443"),
        ("http://example.com:80", "example.com"),
        ("https://example.com:8443", "example.com:8443"),
        ("https://example.com.", "example.com"),
        ("https://example.com", "example.com."),
        ("http://[::1]:8000", "[::1]:8000"),
    ],
)
def test_the_same_name_and_port_is_the_same_origin(origin: str, host: str) -> None:
    assert origin_kind("jwt", origin, host) == "browser-same-origin"


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("null", "null"),
        ("null", "example.com"),
        ("http://localhost:3000", "localhost:8000"),
        ("https://example.com:8443", "example.com"),
        ("https://example.com:80", "example.com"),
        ("https://evil.example", "example.com"),
        ("https://example.com.evil.example", "example.com"),
        ("https://example.com..", "example.com"),
        ("https://user@example.com", "example.com"),
        ("https://example.com@evil.example", "example.com"),
        ("https://example.com:443@evil.example", "example.com"),
        ("https://evil.example#@example.com", "example.com"),
        ("https://evil.example\\@example.com", "example.com"),
        ("https://example.com/", "example.com"),
        ("https://example.com https://evil.example", "example.com"),
        ("https://example.com\n", "example.com"),
        ("https://exa\nmple.com", "example.com"),
        ("//example.com", "example.com"),
        ("example.com", "example.com"),
        ("capacitor://localhost", "localhost"),
        ("file://", "example.com"),
        ("http://[broken", "example.com"),
        ("https://example.com", None),
        ("https://example.com", ""),
    ],
)
def test_nothing_else_passes_for_the_same_origin(origin: str, host: str | None) -> None:
    assert origin_kind("jwt", origin, host) == "browser-cross-origin"


# -- personal facts ----------------------------------------------------------------------------------------------------

HEADERS = {
    "user-agent": "curl/8.7.1",
    "referer": "https://example.com/docs?token=1#part",
    "accept-language": "de-DE",
}


def test_personal_facts_are_only_those_that_are_wanted() -> None:
    assert personal_facts(HEADERS, "203.0.113.7", frozenset()) == {}
    assert personal_facts(HEADERS, "203.0.113.7", PERSONAL_KEYS) == {
        "client.address": "203.0.113.7",
        "user_agent.original": "curl/8.7.1",
        "usage.referer": "https://example.com/docs",
        "usage.accept_language": "de-DE",
    }


def test_personal_facts_that_were_not_sent_are_absent() -> None:
    assert personal_facts({}, None, PERSONAL_KEYS) == {}


@given(st.text(max_size=2000))
def test_personal_facts_are_cut(text: str) -> None:
    found = personal_facts(dict.fromkeys(HEADERS, text), text, PERSONAL_KEYS)
    assert all(0 < len(value) <= PERSONAL_LENGTH for value in found.values())
    assert not set("?#") & set(found.get("usage.referer", ""))


@pytest.mark.parametrize("mark", [" ", ",", "; ", "/"])
@given(before=st.integers(420, 520), after=st.integers(0, 40))
def test_no_half_of_an_address_is_kept_where_a_header_is_cut(mark: str, before: int, after: int) -> None:
    text = f"{'U' * before}{mark}ann.longname@example.com{mark}{'V' * after}"
    found = personal_facts(dict.fromkeys(HEADERS, text), None, PERSONAL_KEYS)
    for value in found.values():
        assert "ann" not in redact(value)


def test_a_header_that_is_cut_keeps_its_whole_words() -> None:
    agent = "Mozilla/5.0 (X11; Linux x86_64) " * 20
    referer = "https://example.com/" + "docs/" * 200
    found = personal_facts({"user-agent": agent, "referer": referer}, None, PERSONAL_KEYS)
    assert found["user_agent.original"] == agent[:511]
    assert found["usage.referer"] == referer[:509]


def test_a_header_of_one_endless_word_leaves_a_mark() -> None:
    text = "x" * 490 + "ann.longname@example.com"
    assert personal_facts({"user-agent": text}, None, PERSONAL_KEYS) == {"user_agent.original": REDACTED}
    assert personal_facts({"user-agent": text[:512]}, None, PERSONAL_KEYS) == {"user_agent.original": text[:512]}
