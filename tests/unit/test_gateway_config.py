"""What the gateway's files say of themselves is what is in them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from otel_usage.collector.counting import COUNTED, DIMENSIONS, RESOURCE_DIMENSIONS
from otel_usage.schema import BY_KEY, RESOURCE, RecordKind, ValueType, allowed_on

FILES = Path(__file__).parents[2] / "collector-config"
README = (FILES / "README.md").read_text()


@pytest.mark.parametrize("name", ["gateway.yaml", "gateway-tls.yaml"])
def test_every_variable_is_named_at_the_top(name: str) -> None:
    text = (FILES / name).read_text()
    said = {line.split()[1] for line in text.splitlines() if re.match(r"#   [A-Z_]+  ", line)}
    assert set(re.findall(r"\$\{env:([A-Z_]+)", text)) - {"HOSTNAME"} == said


def test_every_variable_of_the_template_is_named_at_the_top() -> None:
    text = (FILES / "failover.conf.template").read_text()
    assert set(re.findall(r"\$\{([A-Z_]+)\}", text)) == set(re.findall(r"^#   ([A-Z_]+)  ", text, re.MULTILINE))


def test_every_metric_is_in_the_readme() -> None:
    assert not [counted.name for counted in COUNTED if f"`{counted.name}`" not in README]
    assert not [key for key in (*DIMENSIONS, *RESOURCE_DIMENSIONS) if f"`{key}`" not in README]


def test_what_is_added_up_stands_on_the_spans_that_it_is_taken_from() -> None:
    summed = [counted for counted in COUNTED if counted.attribute is not None]
    assert summed
    assert not [c for c in summed if c.attribute not in allowed_on(c.kind)]
    # A series that began with ints and met a double would end the whole Collector.
    assert {BY_KEY[c.attribute].type for c in summed if c.attribute} == {ValueType.INT}


def test_every_dimension_is_of_the_schema() -> None:
    assert set(DIMENSIONS) <= BY_KEY.keys()
    assert set(RESOURCE_DIMENSIONS) <= allowed_on(RESOURCE).keys()
    # The route of a request has another key, which takes its place.
    assert {"http.route", *DIMENSIONS} - {"usage.route"} <= allowed_on(RecordKind.REQUEST).keys()
