"""What a value has to look like: what frameworks and instrumentations write fits, and a sentence does not."""

from __future__ import annotations

import time

import pytest

from otel_usage.keyed_hash import KeyedHash
from otel_usage.schema import ATTRIBUTES, BY_KEY, Attribute, ValueType

STRINGS = [attribute for attribute in ATTRIBUTES if attribute.type is ValueType.STRING]

FITTING = {
    "http.route": [
        "/", "", "/v1/items/{id}", "/items/{id:int}", "/files/{path:path}",  # Starlette, FastAPI
        "/items/<int:id>", "/<any(about, help):page>", '/<regex("[a-z]{2}"):lang>',  # werkzeug
        "users/<int:pk>/", "^users/(?P<pk>[0-9]+)/$", r"^users\.(?P<format>[a-z0-9]+)/?$", "^(?:a|b)/(?P<x>[^/]+)/?$",
        r"^(?i)a/(?=b)(?!c)(?P<y>\d{4})-(?P=y)/$", r"^colou?r/(?P<z>\w+?)/$", "^items?(?=/)", "/static/?(.*)",  # Django
        r"/item/{number:\d+}", "/users/:id?/edit", "/größe/{id}", "/{path}", "_OTHER",
    ],
    "usage.domain": ["items", "^users", "größe", "billing-v2", "^items?"],
    "server.address": [
        "api.example.com", "localhost", "10.0.0.7", "::1", "fe80::1%eth0", "my_service.internal", "API.example.com.",
        "bücher.example", "xn--bcher-kva.example",
    ],
    "error.type": [
        "ValueError", "httpx.ConnectTimeout", "shop.load.<locals>.Missing", "500", "_OTHER", "timeout",
        "java.net.UnknownHostException", "a.Outer$Inner", "Fehlerä",
    ],
    "usage.principal.id": ["k1:3f2a9c7711aa00ff3f2a9c7711aa00ff", KeyedHash("0123456789abcdef")("sk_live")],
    "usage.reason": ["ok", "quota_402", "over-quota"],
    "usage.auth.kind": ["jwt", "saml"],
    "usage.request.id": ["cdg1::iad1::abc-1", "Root=1-67891233-abcdef012345678912345678", "8f14e45f"],
    "client.address": ["203.0.113.7", "2001:db8::1", "::ffff:203.0.113.7", "fe80::1%eth0"],
    "cloud.region": ["eu-central-1", "fra1", "West Europe"],
    "geo.region.iso_code": ["DE-BE", "US-CA", "GB-ENG"],
    "user_agent.original": ["Mozilla/5.0 (X11; Linux x86_64)", "GrÃ\x9c", ""],
    "usage.referer": ["https://example.com/docs", "android-app://com.example"],
    "usage.customer.id": ["acme", "Grüße ✓ 1", "a\xa0b", "株式会社　例"],
}  # fmt: skip

SENTENCE = "could not find user Ann Smith in /home/ann"

UNFITTING = {
    "http.route": [
        "/users/4711/raw?token=abc", "/users?4711", "/users?a&b", "/a?next=/b", "https://h.example.com/users", "/a#b",
        "/users/Ann Smith", "/a\tb", "/a\nb", "/a\xa0b", SENTENCE,
    ],
    "usage.domain": ["items/4711", "items?token=abc", "items#a", "free text about Ann"],
    "server.address": [
        "https://h.example.com/users/4711/raw", "h.example.com/users", "user@h.example.com", "h.example.com:8443",
        "a b", "h?x", "", "/var/run/docker.sock",
    ],
    "error.type": [SENTENCE, "Ann Smith", "/home/ann", "", "no: user", "[redacted]"],
    "usage.principal.id": [
        "9f8RAWapiKEYofCustomer77", "RAW2-key-of-customer", "sk_live:0123456789abcdef",
        "k1:3F2A9C7711AA00FF3F2A9C7711AA00FF",
        "k1:3f2a9c7711aa00ff3f2a9c7711aa00ff0", ":3f2a9c7711aa00ff3f2a9c7711aa00ff", "3f2a9c7711aa00ff3f2a9c7711aa00ff",
    ],
    "usage.user_agent.hash": ["curl/8.7.1", "k1:77aa00ff"],
    "usage.reason": ["free text about Ann", "OK", "", "x" * 65],
    "usage.auth.kind": ["free text Ann Smith", "Bearer abc"],
    "usage.identity.provenance": ["sure thing", "", "VERIFIED"],
    "usage.kind": ["span"],
    "usage.cache.tier": ["warm"],
    "usage.cache.status": ["hit"],
    "usage.origin.kind": ["spaceship"],
    "usage.limit.decision": ["maybe"],
    "http.request.method": ["SECRETWORD", "get", ""],
    "usage.request.id": ["a b", "/users?token=abc", ""],
    "usage.client.request_id": ["a b", "é"],
    "usage.sentry.trace_id": ["771a43a4192642f0", "771A43A4192642F0B136D5159A501700"],
    "client.address": ["laptop-of-jane.example.com", "testclient", "/tmp/socket"],
    "cloud.region": ["a/b", "-"],
    "geo.country.iso_code": ["de", "D1"],
    "geo.region.iso_code": ["DE-be", "BE"],
    "usage.referer": ["https://example.com/docs?user=ann", "https://example.com/#ann"],
}  # fmt: skip


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in FITTING.items() for value in values])
def test_what_real_ones_write_is_taken(key: str, value: str) -> None:
    assert BY_KEY[key].accept(value) == value


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in UNFITTING.items() for value in values])
def test_what_somebody_wrote_in_their_place_is_not(key: str, value: str) -> None:
    assert BY_KEY[key].accept(value) is None


@pytest.mark.parametrize("control", ["\n", "\r\n", "\0", "\x1b[31m", "\x7f", "\u2028", "\ud800"], ids=ascii)
@pytest.mark.parametrize("attribute", STRINGS, ids=lambda attribute: attribute.key)
def test_no_attribute_holds_a_control_character(attribute: Attribute, control: str) -> None:
    example = str(attribute.example)
    for text in (example + control, control + example, example[:1] + control + example[1:]):
        assert attribute.accept(text) is None


def test_a_text_is_taken_by_its_words_alone_however_often_it_is_asked_for() -> None:
    for _ in range(2):
        assert BY_KEY["http.route"].accept("/a/{id}") == "/a/{id}"
        assert BY_KEY["http.route"].accept("/a?b=c") is None


@pytest.mark.parametrize("piece", ["(?", "?", "?a", "(?P<a>", ", ", "a.", "://", "<", "?a="])
@pytest.mark.parametrize("attribute", [a for a in STRINGS if a.form is not None], ids=lambda a: a.key)
def test_no_text_makes_a_form_slow(attribute: Attribute, piece: str) -> None:
    started = time.perf_counter()
    assert attribute.form is not None
    attribute.form.fullmatch(piece * 10_000 + "\n")
    assert time.perf_counter() - started < 1.0
