"""What a service vouches for is believed with a valid signature alone: of a known key, in time, and meant for it."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_usage.attribution import LIFETIME, LONGEST_TOKEN, SKEW, Attribution, AttributionSigner, Refusal
from otel_usage.hosts import HostPatterns
from otel_usage.identity import UsageIdentity
from otel_usage.schema import PROVENANCES

SECRET = "0123456789abcdef0123456789abcdef"
OTHER = "fedcba9876543210fedcba9876543210"
HERE = "pricing.internal:8080"
IDENTITY = UsageIdentity("acme", 2, "api_pro", "jwt", None, "verified")
CALLER = bytes.fromhex("0af7651916cd43dd8448eb211c80319c"), bytes.fromhex("b7ad6b7169203331")
NOW = 1_800_000_000


def signer(now: float = NOW, *audience: str, **keys: str) -> AttributionSigner:
    patterns = HostPatterns("X", audience or ["pricing.internal"])
    return AttributionSigner(keys or {"k1": SECRET}, patterns, lambda: now)


def token(identity: UsageIdentity = IDENTITY) -> str:
    signed = signer().sign(Attribution(identity, *CALLER), HERE)
    assert signed is not None
    return signed


def test_what_was_signed_is_believed() -> None:
    found = signer().verify(token())
    assert isinstance(found, Attribution)
    assert found.identity == IDENTITY
    assert (found.trace_id, found.span_id) == CALLER


@given(
    st.builds(
        UsageIdentity,
        customer_id=st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
        tier=st.none() | st.integers(0, 999),
        plan=st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
        auth_kind=st.sampled_from([None, "jwt", "user_api_key"]),
        provenance=st.sampled_from(PROVENANCES),
    )
)
def test_any_identity_arrives_as_it_was(identity: UsageIdentity) -> None:
    found = signer().verify(token(identity))
    assert isinstance(found, Attribution)
    assert found.identity == identity


@given(st.data())
def test_no_change_of_a_single_character_is_believed(data: st.DataObject) -> None:
    good = token()
    at = data.draw(st.integers(0, len(good) - 1))
    bad = good[:at] + data.draw(st.characters().filter(lambda c: c != good[at])) + good[at + 1 :]
    found = signer().verify(bad)
    # The last character of base64 has bits that mean nothing: with them changed it is the same signature.
    assert isinstance(found, Refusal) or (at == len(good) - 1 and found == signer().verify(good))


@given(st.text(max_size=200) | st.binary(max_size=100).map(lambda b: "k1." + base64.urlsafe_b64encode(b).decode()))
def test_no_made_up_token_is_believed(text: str) -> None:
    assert isinstance(signer().verify(text), Refusal)


def test_a_token_of_another_key_is_told_from_a_forged_one() -> None:
    assert signer(NOW, k2=SECRET).verify(token()) is Refusal.UNKNOWN_KEY
    assert signer(NOW, k1=OTHER).verify(token()) is Refusal.FORGED
    assert signer().verify("k1.") is Refusal.FORGED
    assert signer().verify("") is Refusal.FORGED


def test_without_a_key_nothing_is_signed_and_nothing_believed() -> None:
    keyless = AttributionSigner({}, HostPatterns("X", ["pricing.internal"]))
    assert keyless.sign(Attribution(IDENTITY, *CALLER), HERE) is None
    assert keyless.verify(token()) is Refusal.UNKNOWN_KEY


def test_a_key_is_replaced_without_a_gap() -> None:
    """Give every service both keys, the old one first; then the new one first; then the new one alone."""
    old, both, turned, new = (
        signer(NOW, k1=SECRET),
        signer(NOW, k1=SECRET, k2=OTHER),
        signer(NOW, k2=OTHER, k1=SECRET),
        signer(NOW, k2=OTHER),
    )
    for earlier, later in ((old, both), (both, turned), (turned, new)):
        for sender, receiver in ((earlier, later), (later, earlier)):
            signed = sender.sign(Attribution(IDENTITY, *CALLER), HERE)
            assert signed is not None
            assert isinstance(receiver.verify(signed), Attribution)


@pytest.mark.parametrize(
    ("later", "believed"),
    [
        (0, True),
        (LIFETIME + SKEW - 1, True),
        (LIFETIME + SKEW, False),
        (LIFETIME * 1000, False),
        (-SKEW, True),
        (-SKEW - 1, False),
    ],
)
def test_it_is_believed_in_its_time_and_no_other(later: int, believed: bool) -> None:
    found = signer(NOW + later).verify(token())
    assert isinstance(found, Attribution) if believed else found is Refusal.EXPIRED


def test_it_is_believed_by_the_service_that_it_is_meant_for_and_no_other() -> None:
    assert signer(NOW, "billing.internal").verify(token()) is Refusal.OTHER_AUDIENCE
    assert signer(NOW, "pricing.internal:81").verify(token()) is Refusal.OTHER_AUDIENCE
    assert isinstance(signer(NOW, "billing.internal", "*.internal").verify(token()), Attribution)
    nobody = AttributionSigner({"k1": SECRET}, HostPatterns("X", []), lambda: NOW)
    assert nobody.verify(token()) is Refusal.OTHER_AUDIENCE


@pytest.mark.parametrize(
    "facts",
    [
        None, [], "acme", {}, {"aud": HERE}, {"aud": 7, "exp": NOW + 1}, {"aud": HERE, "exp": "soon"},
        {"aud": HERE, "exp": NOW + 1, "provenance": "verified", "trace": "0" * 32, "span": "1"},
        {"aud": HERE, "exp": NOW + 1, "provenance": "verified", "trace": "1", "span": "1", "customer": ["acme"]},
    ],
)  # fmt: skip
def test_a_signed_token_of_another_shape_is_not_believed(facts: object) -> None:
    """Another version of this package, or another program with the same key, may have made it."""
    mine = signer()
    ((_, serializer),) = mine._serializers.items()
    assert isinstance(mine.verify(f"k1.{serializer.dumps(facts)}"), Refusal)


def test_a_token_that_would_unpack_to_very_much_is_not_even_unpacked() -> None:
    """Its payload is compressed, by whoever holds a key: what nobody has signed is not decompressed."""
    import zlib

    bomb = base64.urlsafe_b64encode(zlib.compress(json.dumps("a" * 2_000_000).encode(), 9)).rstrip(b"=").decode()
    assert len(bomb) < LONGEST_TOKEN
    assert signer().verify(f"k1..{bomb}.awWlsg.{'A' * 43}") is Refusal.FORGED
    assert signer().verify("k1." + "A" * LONGEST_TOKEN) is Refusal.FORGED


def test_the_secret_is_in_no_representation() -> None:
    assert SECRET not in f"{signer()!r}{vars(signer())!r}{token()}"
