"""An endless stream of different values stays bounded, and takes nobody's name away."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.sdk.resources import Resource

from otel_usage import distinct
from otel_usage.config import UsageConfig
from otel_usage.distinct import CLAIMED_LIMIT, NAMES_LIMIT, OTHER, SHARE, DistinctValues
from otel_usage.facts import WorkFacts
from otel_usage.identity import UNKNOWN, UsageIdentity
from otel_usage.ledger import DropCounter
from otel_usage.maker import SpanMaker
from otel_usage.readable import UsageReadableSpan
from otel_usage.schema import ATTRIBUTES, BY_KEY, NAMES, Sensitivity, ValueType

Fold = Callable[..., dict[str, Any]]


@pytest.fixture
def drops() -> DropCounter:
    return DropCounter()


@pytest.fixture
def folded(drops: DropCounter) -> Fold:
    values = DistinctValues()

    def fold(customer: str | None = None, place: str = "request", **attributes: Any) -> dict[str, Any]:
        values.fold(place, attributes, drops, customer)
        return attributes

    return fold


def test_the_first_values_keep_their_names_and_later_ones_share_one(folded: Fold, drops: DropCounter) -> None:
    for number in range(NAMES):
        assert folded(**{"server.address": f"h{number}"}) == {"server.address": f"h{number}"}
    assert folded(**{"server.address": "one.more"}) == {"server.address": OTHER}
    assert folded(**{"server.address": "h0"}) == {"server.address": "h0"}
    assert folded(**{"http.route": "/another"}) == {"http.route": "/another"}, "each attribute has its own room"
    assert drops.counts() == {"distinct:server.address": 1}


def test_strangers_do_not_use_up_the_room_of_verified_callers(folded: Fold) -> None:
    for number in range(2 * NAMES):
        folded(**{"server.address": f"h{number}"})
    assert folded("acme", **{"server.address": "api.shop.example"})["server.address"] == "api.shop.example"


def test_no_customer_uses_up_the_room_of_the_others(folded: Fold) -> None:
    sent = [folded("acme", **{"server.address": f"h{n}"})["server.address"] for n in range(2 * NAMES)]
    assert len(set(sent)) == SHARE + 1
    assert folded("globex", **{"server.address": "api.shop.example"})["server.address"] == "api.shop.example"
    assert folded("acme", **{"server.address": "api.shop.example"})["server.address"] == "api.shop.example"


def test_hosts_that_clients_name_take_no_room_from_hosts_that_are_called(folded: Fold) -> None:
    for number in range(2 * NAMES):
        folded(**{"server.address": f"h{number}"})
    assert folded(place="upstream", **{"server.address": "api.bank.example"}) == {"server.address": "api.bank.example"}


def test_customers_that_nobody_has_verified_are_bounded(drops: DropCounter) -> None:
    values = DistinctValues()
    for number in range(CLAIMED_LIMIT):
        values.fold_claims({"usage.customer.id": f"c{number}"}, drops)
    facts = {"usage.customer.id": "one more", "usage.plan": "pro"}
    assert values.fold_claims(facts, drops) == {"usage.customer.id"}
    assert facts == {"usage.customer.id": OTHER, "usage.plan": "pro"}
    assert drops.counts() == {"distinct:usage.customer.id": 1}


def test_verified_customers_are_never_folded(drops: DropCounter) -> None:
    maker = SpanMaker(UsageConfig(), Resource({}), drops)
    for number in range(CLAIMED_LIMIT + 10):
        claimed = maker.caller(UsageIdentity(customer_id=f"c{number}", provenance="unverified"), drops)
        verified = maker.caller(UsageIdentity(customer_id=f"c{number}", provenance="verified"), drops)
        assert verified["usage.customer.id"] == f"c{number}"
    assert claimed["usage.customer.id"] == OTHER


def test_names_of_spans_are_bounded() -> None:
    values = DistinctValues()
    assert [values.name(f"job {number}", "custom") for number in range(NAMES_LIMIT + 2)][-2:] == ["custom", "custom"]
    assert values.name("job 0", "custom") == "job 0"


def test_what_is_no_string_has_few_values_by_itself(folded: Fold) -> None:
    for status in range(2 * NAMES):
        assert folded(**{"http.response.status_code": status})["http.response.status_code"] == status


def test_every_attribute_of_free_text_is_bounded_or_says_why_not() -> None:
    unbounded = {
        a.key for a in ATTRIBUTES
        if a.type is ValueType.STRING and not a.distinct and not a.closed and "resource" not in a.on
    }  # fmt: skip
    customers = {"usage.customer.id", "usage.principal.id", "usage.plan"}  # verified ones are billed
    ids = {"usage.request.id", "usage.client.request_id", "usage.user_agent.hash", "usage.sentry.trace_id"}
    places = {"geo.country.iso_code", "geo.region.iso_code", "geo.locality.name", "usage.execution.plane"}
    personal = {a.key for a in ATTRIBUTES if a.sensitivity is Sensitivity.PERSONAL}
    assert unbounded == customers | ids | places | personal
    assert BY_KEY["http.route"].distinct == NAMES


@pytest.mark.parametrize("provenance", ["verified", "unverified"])
def test_claims_on_work_that_the_application_names_are_bounded_whoever_the_scope_says_it_is_for(
    drops: DropCounter, monkeypatch: pytest.MonkeyPatch, provenance: str
) -> None:
    monkeypatch.setattr(distinct, "CLAIMED_LIMIT", 3)
    maker = SpanMaker(UsageConfig(), Resource({}), drops)
    for number in range(5):
        own = {"usage.customer.id": f"c{number}", "usage.identity.provenance": provenance}
        span = UsageReadableSpan(maker, WorkFacts("work", False, None), UNKNOWN, own, b"t" * 16, b"s" * 8, b"", 1, 2)
        folded = provenance == "unverified" and number > 2
        assert dict(span.attributes or {})["usage.customer.id"] == (OTHER if folded else f"c{number}")
