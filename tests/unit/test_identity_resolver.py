"""Verified credentials become an identity by fixed rules."""

from __future__ import annotations

from enum import IntEnum, StrEnum
from hmac import compare_digest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_usage import resolver as resolver_module
from otel_usage.identity import CLAIMS, TIER_LIMIT, UNKNOWN, UsageIdentity, beyond_claim, coerce_tier
from otel_usage.keyed_hash import CACHE_LENGTH, KeyedHash
from otel_usage.resolver import UNMAPPED_ENTERPRISE, Credentials, IdentityResolver
from otel_usage.schema import AUTH_KINDS, BY_KEY, PROVENANCES

PEPPER = "k1:0123456789abcdef"
HASH = KeyedHash(PEPPER)
KEY = "sk_live_0000000000000000"


class Tier(IntEnum):
    FREE = 0
    PRO = 2


def resolve(**credentials: object) -> UsageIdentity:
    return IdentityResolver(HASH).resolve(Credentials(**credentials))  # type: ignore[arg-type]  # any of its fields


# -- who ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("credentials", "auth_kind", "customer", "secret"),
    [
        ({"internal_service": "billing"}, "internal", "billing", None),
        ({"enterprise_api_key": KEY}, "enterprise_api_key", UNMAPPED_ENTERPRISE, KEY),
        ({"user_api_key": KEY, "customer_id": "acme"}, "user_api_key", "acme", KEY),
        ({"mcp_client_id": "client", "user_id": "u1"}, "mcp_oauth", "u1", "client"),
        ({"user_id": "u1"}, "jwt", "u1", "u1"),
        ({"widget_key": KEY, "customer_id": "acme"}, "widget_key", "acme", KEY),
        ({}, "anon", None, None),
    ],
)
def test_each_kind_of_authentication_names_its_customer(
    credentials: dict[str, str], auth_kind: str, customer: str | None, secret: str | None
) -> None:
    found = resolve(**credentials, tier=2)
    assert (found.auth_kind, found.customer_id, found.provenance) == (auth_kind, customer, "verified")
    assert found.principal_id == (HASH(secret) if secret else None)
    assert found.tier == (0 if auth_kind == "anon" else 2)


def test_every_kind_of_the_schema_can_be_resolved() -> None:
    ways = (
        {"internal_service": "x"}, {"enterprise_api_key": "x"}, {"user_api_key": "x"}, {"mcp_client_id": "x"},
        {"user_id": "x"}, {"widget_key": "x", "customer_id": "x"}, {},
    )  # fmt: skip
    assert {resolve(**way).auth_kind for way in ways} == set(AUTH_KINDS)


def test_the_credential_nearest_to_the_contract_decides() -> None:
    ranked = ("internal_service", "enterprise_api_key", "user_api_key", "mcp_client_id", "user_id", "widget_key")
    kinds = ("internal", "enterprise_api_key", "user_api_key", "mcp_oauth", "jwt", "widget_key")
    for index, kind in enumerate(kinds):
        assert resolve(customer_id="x", **dict.fromkeys(ranked[index:], "x")).auth_kind == kind


@pytest.mark.parametrize("credential", [{}, {"user_api_key": KEY}, {"mcp_client_id": "client"}])
def test_the_organisation_goes_before_the_user(credential: dict[str, str]) -> None:
    assert resolve(org_id="org", user_id="user", **credential).customer_id == "org"


def test_a_token_is_known_by_its_user_and_not_by_its_organisation() -> None:
    assert resolve(org_id="org", user_id="user").principal_id == HASH("user")
    assert resolve(org_id="org").principal_id == HASH("org")


def test_the_owner_of_a_key_goes_before_the_account_that_calls() -> None:
    assert resolve(user_api_key=KEY, customer_id="owner", org_id="org").customer_id == "owner"


def test_a_widget_key_without_an_owner_is_nobody_and_never_a_customer_itself() -> None:
    found = resolve(widget_key=KEY, tier=9, plan="api_pro")
    assert found == UsageIdentity(tier=0, auth_kind="anon", provenance="verified")
    assert KEY not in repr(found)


def test_nobody_is_anonymous_whatever_tier_is_claimed() -> None:
    found = resolve(tier=9, plan="api_pro")
    assert found == UsageIdentity(tier=0, auth_kind="anon", provenance="verified")


# -- what could not be read --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tier", [0, 2, "2", None])
def test_an_entitlement_that_could_not_be_read_is_not_tier_0(tier: object) -> None:
    found = resolve(user_api_key=KEY, customer_id="acme", tier=tier, plan="api_pro", entitlement_available=False)
    assert (found.tier, found.plan, found.provenance) == (None, None, "unavailable")
    assert found.customer_id == "acme"
    assert "usage.tier" not in found.attributes()


@pytest.mark.parametrize("credentials", [{}, {"internal_service": "billing"}])
def test_who_has_no_entitlement_does_not_miss_it(credentials: dict[str, str]) -> None:
    assert resolve(**credentials, entitlement_available=False).provenance == "verified"


# -- public keys -------------------------------------------------------------------------------------------------------

PUBLIC = "wk_live_0000000000000000"
WIDGETS = IdentityResolver(HASH, widget_customers={"wk_other": "globex", PUBLIC: "contoso", "wk_schlüssel": "umlaut"})


def test_a_registered_public_key_counts_for_its_owner() -> None:
    found = WIDGETS.resolve(Credentials(widget_key=PUBLIC, tier=1, plan="widget"))
    assert found == UsageIdentity("contoso", 1, "widget", "widget_key", HASH(PUBLIC), "verified")
    assert WIDGETS.resolve(Credentials(widget_key="wk_schlüssel")).customer_id == "umlaut"


@pytest.mark.parametrize(
    "presented", [PUBLIC[:-1], PUBLIC + "x", PUBLIC.upper(), "ключ", "\ud800", "\0", " ", "x" * 5_000_000]
)
def test_any_other_public_key_is_nobodys_and_raises_nothing(presented: str) -> None:
    found = WIDGETS.resolve(Credentials(widget_key=presented, tier=3, plan="api_pro", entitlement_available=False))
    assert found == UsageIdentity(tier=0, auth_kind="anon", provenance="verified")


def test_a_public_key_that_the_application_has_looked_up_counts_for_whom_it_found() -> None:
    found = WIDGETS.resolve(Credentials(widget_key="wk_elsewhere", customer_id="acme", tier=2))
    assert (found.auth_kind, found.customer_id, found.tier) == ("widget_key", "acme", 2)


def test_a_public_key_never_lends_the_tier_and_plan_of_another_customer() -> None:
    found = WIDGETS.resolve(Credentials(widget_key=PUBLIC, customer_id="acme", tier=3, plan="enterprise"))
    assert (found.customer_id, found.tier, found.plan) == ("contoso", None, None)
    own = WIDGETS.resolve(Credentials(widget_key=PUBLIC, customer_id="contoso", tier=1, plan="widget"))
    assert (own.tier, own.plan) == (1, "widget")


@pytest.mark.parametrize("credential", [{"user_api_key": KEY}, {"org_id": "acme"}, {"mcp_client_id": "client"}])
def test_a_public_key_beside_a_better_credential_counts_for_nothing(credential: dict[str, str]) -> None:
    more: dict[str, object] = {**credential, "tier": 3}
    with_it = WIDGETS.resolve(Credentials(widget_key=PUBLIC, **more))  # type: ignore[arg-type]  # any of its fields
    assert with_it == WIDGETS.resolve(Credentials(**more))  # type: ignore[arg-type]  # as above


def test_every_registered_public_key_is_compared_whichever_matches(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bytes] = []

    def comparing(given: bytes, registered: bytes) -> bool:
        compared.append(registered)
        return compare_digest(given, registered)

    monkeypatch.setattr(resolver_module, "compare_digest", comparing)
    every = [key.encode() for key in WIDGETS.widget_customers]
    for presented in ("wk_other", PUBLIC, "wk_schlüssel", "nobody's"):
        compared.clear()
        WIDGETS.widget_customer(presented)
        assert compared == every


def test_a_public_key_that_was_left_empty_in_the_settings_is_nobodys() -> None:
    resolver = IdentityResolver(widget_customers={"": "acme"})
    assert resolver.widget_customer("") is None
    assert resolver.resolve(Credentials(widget_key="")).auth_kind == "anon"


def test_a_resolver_does_not_print_its_public_keys() -> None:
    assert PUBLIC not in repr(WIDGETS)


# -- enterprise keys ---------------------------------------------------------------------------------------------------


def test_an_enterprise_key_is_mapped_by_its_digest() -> None:
    resolver = IdentityResolver(HASH, {HASH(KEY): "globex"})
    assert resolver.resolve(Credentials(enterprise_api_key=KEY, customer_id="other")).customer_id == "globex"
    assert KEY not in repr(resolver)


@pytest.mark.parametrize(
    ("more", "customer"),
    [({}, UNMAPPED_ENTERPRISE), ({"org_id": "org"}, "org"), ({"customer_id": "acme", "org_id": "org"}, "acme")],
)
def test_an_enterprise_key_that_is_not_mapped_is_visible(more: dict[str, str], customer: str) -> None:
    resolver = IdentityResolver(HASH, {HASH("another"): "globex"})
    assert resolver.resolve(Credentials(enterprise_api_key=KEY, **more)).customer_id == customer  # type: ignore[arg-type]


def test_without_a_pepper_there_is_no_principal_and_no_mapping() -> None:
    resolver = IdentityResolver(None, {HASH(KEY): "globex"})
    found = resolver.resolve(Credentials(enterprise_api_key=KEY))
    assert (found.principal_id, found.customer_id) == (None, UNMAPPED_ENTERPRISE)


ROTATED = KeyedHash("k2:fedcba9876543210")


def test_a_key_that_was_mapped_under_a_former_pepper_is_still_found() -> None:
    resolver = IdentityResolver(ROTATED, {HASH(KEY): "globex"}, former_hash_keys=(KeyedHash("k0:" + "0" * 16), HASH))
    found = resolver.resolve(Credentials(enterprise_api_key=KEY))
    assert (found.customer_id, found.principal_id) == ("globex", ROTATED(KEY))
    forgotten = IdentityResolver(ROTATED, {HASH(KEY): "globex"})
    assert forgotten.resolve(Credentials(enterprise_api_key=KEY)).customer_id == UNMAPPED_ENTERPRISE


def test_the_current_peppers_line_goes_before_a_former_one() -> None:
    moved = IdentityResolver(ROTATED, {HASH(KEY): "globex", ROTATED(KEY): "initech"}, former_hash_keys=(HASH,))
    assert moved.resolve(Credentials(enterprise_api_key=KEY)).customer_id == "initech"


def test_former_peppers_map_nothing_where_no_pepper_is_set() -> None:
    resolver = IdentityResolver(None, {HASH(KEY): "globex"}, former_hash_keys=(HASH,))
    found = resolver.resolve(Credentials(enterprise_api_key=KEY))
    assert (found.customer_id, found.principal_id) == (UNMAPPED_ENTERPRISE, None)


def test_credentials_do_not_print_their_secrets() -> None:
    shown = repr(Credentials(user_api_key=KEY, enterprise_api_key=KEY, widget_key=KEY, org_id="org"))
    assert KEY not in shown
    assert "org" in shown


# -- tiers -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tier", "known"),
    [
        (0, 0), (3, 3), ("0", 0), ("3", 3), (" 3 ", 3), ("007", 7), (Tier.PRO, 2), (TIER_LIMIT - 1, TIER_LIMIT - 1),
        (TIER_LIMIT, None), (10**30, None), ("9" * 10, None), (-1, None), ("-1", None), (True, None), (False, None),
        (2.0, None), ("2.0", None), ("two", None), ("", None), ("٣", None), ("1\n2", None), (None, None), ([], None),
        ({}, None), (b"2", None),
    ],
)  # fmt: skip
def test_a_tier_is_a_whole_number_or_not_known(tier: object, known: int | None) -> None:
    found = coerce_tier(tier, "user_api_key")
    assert (found, type(found)) == (known, type(known))
    assert coerce_tier(tier, "anon") == 0


@given(st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(), st.sampled_from(AUTH_KINDS))
def test_no_tier_can_raise_or_be_negative(tier: object, auth_kind: str) -> None:
    found = coerce_tier(tier, auth_kind)
    assert found is None or 0 <= found < TIER_LIMIT
    assert auth_kind != "anon" or found == 0


# -- identities --------------------------------------------------------------------------------------------------------


def test_an_identity_is_valid_by_construction() -> None:
    assert UsageIdentity(tier=-1).tier is None  # nonsense is not known
    assert UsageIdentity(tier=7, auth_kind="anon").tier == 0
    assert UsageIdentity(customer_id="acme", tier=0, provenance="unavailable").tier is None
    assert UsageIdentity(customer_id="acme", provenance="certain").provenance == "unverified"
    assert UsageIdentity(provenance=["verified"]).provenance == "unverified"  # type: ignore[arg-type]  # nonsense


class Kind(StrEnum):
    ANONYMOUS = "anon"
    TOKEN = "jwt"


def test_the_table_of_claims_has_every_kind_and_denies_only_anonymous_callers() -> None:
    assert set(CLAIMS) == set(AUTH_KINDS)
    assert [kind for kind in (*AUTH_KINDS, "registered", None) if beyond_claim(kind)] == ["anon"]
    assert beyond_claim("anon") == {"customer_id", "tier", "plan", "principal_id"}


@pytest.mark.parametrize("kind", ["anon", Kind.ANONYMOUS])
def test_an_anonymous_caller_claims_nothing_whoever_makes_the_identity(kind: str) -> None:
    found = UsageIdentity("acme", 7, "api_pro", kind, HASH(KEY), "verified")
    assert found == UsageIdentity(tier=0, auth_kind="anon", provenance="verified")


def test_a_kind_is_plain_text_or_not_known() -> None:
    assert type(UsageIdentity(auth_kind=Kind.TOKEN).auth_kind) is str
    assert UsageIdentity(auth_kind=["jwt"]).auth_kind is None  # type: ignore[arg-type]  # nonsense


@pytest.mark.parametrize(
    ("auth_kind", "provenance", "kind"),
    [
        ("jwt", "verified", "jwt"), ("jwt", "unavailable", "jwt"), ("registered", "verified", "registered"),
        ("jwt", "unverified", None), ("anon", "verified", None), (None, "verified", None),
    ],
)  # fmt: skip
def test_only_a_credential_that_was_verified_has_a_verified_kind(
    auth_kind: str | None, provenance: str, kind: str | None
) -> None:
    assert UsageIdentity("acme", auth_kind=auth_kind, provenance=provenance).verified_kind == kind


def test_what_is_not_known_is_no_attribute() -> None:
    assert UNKNOWN.attributes() == {"usage.identity.provenance": "unavailable"}
    found = UsageIdentity("acme", 2, "api_pro", "jwt", HASH("u1"), "verified").attributes()
    assert found == {
        "usage.customer.id": "acme",
        "usage.tier": 2,
        "usage.plan": "api_pro",
        "usage.auth.kind": "jwt",
        "usage.principal.id": HASH("u1"),
        "usage.identity.provenance": "verified",
    }
    assert found.keys() <= BY_KEY.keys()


def test_facts_merge_as_they_become_known() -> None:
    found = (
        UNKNOWN.merged(UsageIdentity(auth_kind="jwt", provenance="verified"))
        .merged(UsageIdentity(customer_id="acme", provenance="verified"))
        .merged(UsageIdentity(tier=2, plan="api_pro", provenance="verified"))
    )
    assert found == UsageIdentity("acme", 2, "api_pro", "jwt", None, "verified")


def test_surer_facts_replace_and_less_sure_ones_do_not() -> None:
    claimed = UsageIdentity(customer_id="claimed", tier=9, provenance="unverified")
    verified = UsageIdentity(customer_id="acme", tier=1, provenance="verified")
    assert claimed.merged(verified) == verified
    assert verified.merged(claimed) == verified


def test_a_tier_that_could_not_be_read_makes_an_identity_unavailable() -> None:
    who = UsageIdentity(customer_id="acme", provenance="verified")
    unread = UsageIdentity(provenance="unavailable")
    assert who.merged(unread) == UsageIdentity(customer_id="acme", provenance="unavailable")
    known = UsageIdentity(customer_id="acme", tier=2, provenance="verified")
    assert known.merged(unread) == known


def test_an_entitlement_that_is_read_late_makes_it_verified_again() -> None:
    unread = UsageIdentity(customer_id="acme", provenance="unavailable")
    found = unread.merged(UsageIdentity(tier=2, provenance="verified"))
    assert found == UsageIdentity(customer_id="acme", tier=2, provenance="verified")


def test_a_customer_that_comes_with_an_unread_entitlement_is_not_lost() -> None:
    found = UsageIdentity(auth_kind="jwt", provenance="verified").merged(
        UsageIdentity(customer_id="acme", provenance="unavailable")
    )
    assert found == UsageIdentity(customer_id="acme", auth_kind="jwt", provenance="unavailable")


def test_a_claim_does_not_replace_a_customer_whose_entitlement_could_not_be_read() -> None:
    unread = UsageIdentity(customer_id="acme", auth_kind="jwt", provenance="unavailable")
    assert unread.merged(UsageIdentity(customer_id="evil", tier=9, provenance="unverified")) == unread


def test_who_turns_out_to_be_anonymous_is_of_tier_0() -> None:
    found = UsageIdentity(tier=4, provenance="verified").merged(UsageIdentity(auth_kind="anon", provenance="verified"))
    assert found.tier == 0


ANON = UsageIdentity(auth_kind="anon", provenance="verified")
ACME = UsageIdentity("acme", 2, "api_pro", "jwt", HASH("u1"), "verified")


@pytest.mark.parametrize("provenance", ["verified", "unavailable"])
@pytest.mark.parametrize("kind", ["jwt", None])
def test_an_anonymous_caller_who_turns_out_to_be_somebody_is_that(kind: str | None, provenance: str) -> None:
    somebody = UsageIdentity("acme", None, None, kind, None, provenance)
    assert ANON.merged(somebody) == somebody


@pytest.mark.parametrize("provenance", PROVENANCES)
@pytest.mark.parametrize(
    "known",
    [
        ACME,
        UsageIdentity("acme", provenance="verified"),
        UsageIdentity("acme", auth_kind="jwt", provenance="unavailable"),
        UsageIdentity(auth_kind="jwt", provenance="verified"),
    ],
)
def test_an_anonymous_claim_takes_no_known_callers_usage_off_their_account(
    known: UsageIdentity, provenance: str
) -> None:
    assert known.merged(UsageIdentity(auth_kind="anon", provenance=provenance)) == known


def test_a_claim_goes_where_the_application_says_that_the_caller_is_anonymous() -> None:
    assert UsageIdentity("evil", provenance="unverified").merged(ANON) == ANON


def test_a_claim_does_not_pass_for_a_fact_beside_a_verified_tier() -> None:
    tier = UsageIdentity(tier=2, provenance="verified")
    assert tier.merged(UsageIdentity("evil", provenance="unverified")) == tier


def test_a_claim_does_not_pass_for_a_fact_beside_what_could_not_be_read() -> None:
    claim = UsageIdentity("evil", 9, "enterprise", "jwt", None, "unverified")
    assert claim.merged(UsageIdentity(provenance="unavailable")) == claim
    unread = UsageIdentity("acme", auth_kind="jwt", provenance="unavailable")
    assert claim.merged(unread) == unread


def test_what_could_not_be_read_of_another_customer_is_nothing_of_this_one() -> None:
    known = UsageIdentity("acme", auth_kind="jwt", provenance="verified")
    assert known.merged(UsageIdentity("globex", 3, "enterprise", provenance="unavailable")) == known


def test_to_say_nothing_changes_nothing() -> None:
    claim = UsageIdentity("evil", provenance="unverified")
    assert claim.merged(UsageIdentity(provenance="verified")) == claim
    assert UNKNOWN.merged(UsageIdentity(provenance="verified")) == UNKNOWN


identities = st.builds(
    UsageIdentity,
    customer_id=st.none() | st.sampled_from(["acme", "globex"]),
    tier=st.none() | st.integers(-1, 3),
    plan=st.none() | st.just("pro"),
    auth_kind=st.none() | st.sampled_from(AUTH_KINDS),
    principal_id=st.none() | st.just("k1:00"),
    provenance=st.sampled_from(PROVENANCES),
)

claims = st.builds(
    UsageIdentity,
    customer_id=st.none() | st.just("evil"),
    tier=st.none() | st.just(9),
    plan=st.none() | st.just("claimed"),
    auth_kind=st.none() | st.sampled_from(["claimed", "anon"]),
    principal_id=st.none() | st.just("k1:claimed"),
    provenance=st.just("unverified"),
)
facts = identities.filter(lambda identity: identity.provenance != "unverified")
CLAIMED = {"evil", 9, "claimed", "k1:claimed"}


def merged(parts: list[UsageIdentity]) -> UsageIdentity:
    found = UNKNOWN
    for part in parts:
        found = found.merged(part)
    return found


@given(st.lists(facts | claims, max_size=6))
def test_nothing_that_a_client_claimed_ever_passes_for_a_fact(parts: list[UsageIdentity]) -> None:
    found = merged(parts)
    assert found.provenance == "unverified" or not CLAIMED.intersection(found.attributes().values())


@given(st.lists(facts | claims, max_size=4), st.lists(claims, max_size=4))
def test_no_sequence_of_claims_changes_a_verified_customer(
    parts: list[UsageIdentity], later: list[UsageIdentity]
) -> None:
    known = merged([*parts, ACME])
    found = known
    for claim in later:
        found = found.merged(claim)
    assert found == known
    assert found.customer_id == "acme"


@given(st.lists(facts | claims, max_size=6))
def test_a_customer_who_is_vouched_for_gives_way_only_to_another_who_is(parts: list[UsageIdentity]) -> None:
    found = UNKNOWN
    for part in parts:
        before, found = found, found.merged(part)
        if before.customer_id is not None and before.provenance != "unverified":
            vouched = {part.customer_id} if part.provenance != "unverified" else set()
            assert found.customer_id in {before.customer_id} | (vouched - {None})


@given(st.lists(facts | claims, max_size=6))
def test_no_merge_lowers_the_provenance_silently(parts: list[UsageIdentity]) -> None:
    found = UNKNOWN
    for part in parts:
        before, found = found, found.merged(part)
        if PROVENANCES.index(found.provenance) < PROVENANCES.index(before.provenance):
            # Only to say that the tier could not be read, or of the somebody that an anonymous caller turned out to be,
            # or of facts in the place of a claim.
            tier_unread = before.tier is None and part.provenance == "unavailable"
            assert tier_unread or found == part
            assert found.provenance == "unavailable"


@given(st.lists(identities, max_size=6))
def test_an_anonymous_caller_never_carries_anything_however_it_came_about(parts: list[UsageIdentity]) -> None:
    found = merged(parts)
    if found.auth_kind == "anon":
        assert (found.customer_id, found.plan, found.principal_id, found.tier) == (None, None, None, 0)


@given(st.lists(identities, max_size=5))
def test_however_identities_merge_a_verified_customer_is_replaced_only_by_the_application(
    parts: list[UsageIdentity],
) -> None:
    found = UNKNOWN
    for part in parts:
        before, found = found, found.merged(part)
        claimed = part.provenance == "unverified" and before.known and before.provenance != "unverified"
        assert not claimed or found == before
        assert found.auth_kind != "anon" or found.tier == 0
        assert found.auth_kind == "anon" or (found.tier, found.provenance) != (0, "unavailable")


# -- hashes ------------------------------------------------------------------------------------------------------------


def test_a_hash_names_its_key() -> None:
    assert HASH.key_id == "k1"
    assert HASH(KEY).startswith("k1:")
    assert len(HASH(KEY)) == 3 + 32


def test_a_pepper_without_a_name_gets_one_that_does_not_tell_it() -> None:
    for pepper in ("0123456789abcdef", "NOT A NAME:0123456789abcdef", ":0123456789abcdef", f"{'x' * 17}:0123456789"):
        hashed = KeyedHash(pepper)
        assert len(hashed.key_id) == 4
        assert hashed(KEY).startswith(f"{hashed.key_id}:")
        assert hashed.key_id not in pepper


def test_a_rotated_pepper_makes_other_hashes_of_another_name() -> None:
    rotated = KeyedHash("k2:0123456789abcdef")
    assert HASH(KEY).partition(":")[0] != rotated(KEY).partition(":")[0]
    renewed = KeyedHash("k1:fedcba9876543210")
    assert HASH(KEY).partition(":")[2] != renewed(KEY).partition(":")[2]


def test_the_same_pepper_makes_the_same_hashes_in_every_process() -> None:
    assert KeyedHash(PEPPER)(KEY) == HASH(KEY)
    assert KeyedHash("k1:0123456789abcdef")("acme") == "k1:" + HASH("acme")[3:]


def test_a_long_pepper_counts_to_its_last_character() -> None:
    long = "k1:" + "p" * 500
    assert KeyedHash(long + "a")(KEY) != KeyedHash(long + "b")(KEY)


def test_a_value_that_is_too_long_to_be_remembered_is_hashed_all_the_same() -> None:
    long = "x" * (CACHE_LENGTH + 1)
    assert HASH(long) == KeyedHash(PEPPER)(long)
    assert HASH(long) != HASH(long[:-1])


@given(st.text(min_size=8))
def test_a_hash_never_holds_what_it_hashes_and_fits_the_schema(value: str) -> None:
    hashed = HASH(value)
    assert value not in hashed
    assert len(hashed) <= BY_KEY["usage.principal.id"].cap


@given(st.text(), st.text())
def test_different_values_have_different_hashes(one: str, other: str) -> None:
    assert (HASH(one) == HASH(other)) == (one == other)
