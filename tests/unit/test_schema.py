"""The schema is whole: a key once, in known places, by the conventions' own names, with a fitting example."""

from __future__ import annotations

import importlib
import pkgutil
from enum import StrEnum

import pytest
from opentelemetry.semconv import _incubating, attributes
from opentelemetry.semconv.schemas import Schemas

from otel_usage.allowlist import filter_attributes
from otel_usage.ledger import DropCounter
from otel_usage.schema import (
    ATTRIBUTES,
    BY_KEY,
    CURRENT_KEY,
    PERSONAL_KEYS,
    RESOURCE,
    SCHEMA_URL,
    Attribute,
    RecordKind,
    Sensitivity,
    UsageEvent,
    ValueType,
    allowed_on,
)

PLACES = {*RecordKind, *UsageEvent, RESOURCE}
BY_NAME = pytest.mark.parametrize("attribute", ATTRIBUTES, ids=lambda attribute: attribute.key)

STRING, INT, DOUBLE, BOOLEAN = (
    Attribute("usage.test", kind, frozenset({"request"}), "A test.", "") for kind in ValueType
)


class Colour(StrEnum):
    RED = "red"


def conventions() -> dict[str, str]:
    """Every attribute key of the installed semantic conventions, with the name of its constant."""
    found = {}
    for package in (attributes, importlib.import_module(f"{_incubating.__name__}.attributes")):
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            constants = vars(importlib.import_module(module.name))
            found.update(
                {value: name for name, value in constants.items() if name.isupper() and isinstance(value, str)}
            )
    return found


def test_no_key_is_there_twice_not_even_as_a_former_one() -> None:
    keys = [key for attribute in ATTRIBUTES for key in (attribute.key, *attribute.former_keys)]
    assert len(keys) == len(set(keys)) == len(BY_KEY) + len(CURRENT_KEY)


@BY_NAME
def test_an_attribute_stands_in_known_places_and_is_found_there(attribute: Attribute) -> None:
    assert attribute.on
    assert attribute.on <= PLACES
    for place in PLACES:
        assert (attribute.key in allowed_on(place)) is (place in attribute.on)


@BY_NAME
def test_an_attribute_takes_its_own_example_and_its_known_values(attribute: Attribute) -> None:
    assert attribute.accept(attribute.example) == attribute.example
    assert not attribute.values or attribute.example in attribute.values
    assert all(attribute.accept(value) == value for value in attribute.values)


def test_only_what_applications_add_to_has_other_values_than_the_known_ones() -> None:
    assert {a.key for a in ATTRIBUTES if a.values and not a.closed} == {"usage.reason", "usage.auth.kind"}
    assert BY_KEY["usage.reason"].accept("quota_402") == "quota_402"
    assert not any(a.closed for a in ATTRIBUTES if not a.values)


@BY_NAME
def test_what_has_arrived_is_of_its_type_in_any_form(attribute: Attribute) -> None:
    assert attribute.of_type(attribute.example) == attribute.example
    assert attribute.of_type("[redacted] ?") == ("[redacted] ?" if attribute.type is ValueType.STRING else None)
    assert attribute.of_type(b"x") is None


@BY_NAME
def test_an_attribute_is_documented_in_a_sentence(attribute: Attribute) -> None:
    assert attribute.doc[0].isupper() or attribute.doc.startswith("`")
    assert attribute.doc.endswith(".")


@BY_NAME
def test_a_key_outside_of_usage_is_one_of_the_semantic_conventions(attribute: Attribute) -> None:
    known = conventions()
    assert attribute.conventional is (attribute.key in known)
    for former in attribute.former_keys:
        assert former in known


def test_the_schema_url_is_one_that_the_conventions_have() -> None:
    assert SCHEMA_URL in {schema.value for schema in Schemas}


def test_nothing_may_stand_on_a_place_that_is_not_known() -> None:
    assert allowed_on("nowhere") == {}
    drops = DropCounter()
    assert filter_attributes("nowhere", {"usage.kind": "request"}, drops) == {}
    assert drops.counts() == {"usage.kind": 1}


def test_every_span_says_its_kind_and_who_it_is_counted_for() -> None:
    for kind in RecordKind:
        assert {"usage.kind", "usage.customer.id", "usage.tier", "usage.request.id"} <= allowed_on(kind).keys()


def test_personal_attributes_are_those_that_need_a_setting() -> None:
    assert {key for key, attribute in BY_KEY.items() if attribute.sensitivity is Sensitivity.PERSONAL} == PERSONAL_KEYS
    assert {"client.address", "user_agent.original", "usage.referer", "usage.accept_language"} == PERSONAL_KEYS


@pytest.mark.parametrize("value", [True, False, 1, 1.0, b"x", None, ["x"], {"x": 1}, object()])
def test_a_string_attribute_takes_strings_only(value: object) -> None:
    assert STRING.accept(value) is None
    assert STRING.accept("") == ""


def test_a_string_is_taken_up_to_its_cap() -> None:
    assert STRING.accept("x" * STRING.cap) == "x" * STRING.cap
    assert STRING.accept("x" * (STRING.cap + 1)) is None


def test_a_string_enum_is_taken_for_its_value() -> None:
    taken = STRING.accept(Colour.RED)
    assert taken == "red"
    assert type(taken) is str


def test_a_string_enum_is_held_to_the_cap_too() -> None:
    assert BY_KEY["geo.country.iso_code"].accept(Colour.RED) is None


@pytest.mark.parametrize("value", [True, False, 1.0, "1", None, [1]])
def test_an_int_attribute_takes_ints_only_and_no_bool(value: object) -> None:
    assert INT.accept(value) is None
    assert INT.accept(0) == 0


def test_a_double_attribute_takes_an_int_as_a_double_and_no_bool() -> None:
    taken = DOUBLE.accept(3)
    assert taken == 3.0
    assert type(taken) is float
    assert DOUBLE.accept(True) is None
    assert DOUBLE.accept("3") is None


@pytest.mark.parametrize("value", [0, 1, "true", None])
def test_a_boolean_attribute_takes_bools_only(value: object) -> None:
    assert BOOLEAN.accept(value) is None
    assert BOOLEAN.accept(False) is False


@pytest.mark.parametrize("place", [RecordKind.REQUEST, RecordKind.CUSTOM])
@pytest.mark.parametrize("value", [1 << 63, -(1 << 63) - 1, 10**400, "\ud800"])
def test_what_otlp_cannot_carry_is_dropped_and_counted_by_key(place: RecordKind, value: object) -> None:
    drops = DropCounter()
    attributes = dict.fromkeys(allowed_on(place), value)
    assert filter_attributes(place, attributes, drops) == {}
    assert drops.counts() == dict.fromkeys(attributes, 1)
