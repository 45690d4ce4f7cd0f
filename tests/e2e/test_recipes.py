"""Every recipe answers what plain Python counts, also where spans arrived twice, in words that Axiom knows."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_usage.local.answers import Answer
from otel_usage.local.apl import run_apl
from otel_usage.local.columns import VISIBLE
from otel_usage.local.errors import RecipeError
from otel_usage.local.layout import SPANS
from otel_usage.local.otlp import ReceivedSpan
from otel_usage.local.parameters import KINDS, literal
from otel_usage.local.recipes import ONCE, ChartKind, Recipe, read_recipe, recipe, recipes
from otel_usage.local.recipes_page import markdown
from otel_usage.local.store import IN_MEMORY, UsageStore
from otel_usage.schema import BY_KEY
from tests.usage_data import ANSWERS, CUSTOMERS, NOW, generated

DATA: Final = generated()
PRICES: Final = (
    '{"models": {"gpt-5": {"input": 1.25, "output": 10}, "un\\"used": {"input": 0, "output": 0.0000001}}, '
    '"providers": {"yahoo-finance": 0.002}}'
)
_TOLD: Final = next(span for span in DATA if span.attributes.get("usage.sentry.trace_id"))
NEEDED: Final[Mapping[str, str]] = {
    "prices": PRICES,
    "plans": '{"free": 40, "api_pro": 1000000}',
    "trace": _TOLD.trace_id,
}
BY_NAME = pytest.mark.parametrize("each", recipes().values(), ids=lambda each: each.name)


@pytest.fixture(scope="module")
def store() -> Iterator[UsageStore]:
    with UsageStore(IN_MEMORY) as opened:
        opened.add(DATA)
        yield opened


@pytest.fixture(scope="module")
def repeating() -> Iterator[UsageStore]:
    """What a destination may hold after at-least-once delivery: a third of the spans twice, some three times."""
    with UsageStore(IN_MEMORY) as opened:
        opened.add(DATA)
        for divisor in (3, 7):
            repeated = f"hash(span_id) % {divisor} = 0 OR trace_id = '{_TOLD.trace_id}'"
            opened.rows(f"INSERT INTO {SPANS} SELECT * FROM {SPANS} WHERE {repeated}")
        assert opened.count() > len(DATA) * 1.4
        yield opened


def variants(each: Recipe) -> Iterator[dict[str, str]]:
    """What the recipe is asked with: little, a customer whose name has to be quoted, other windows, few rows."""
    names = {parameter.name for parameter in each.parameters}
    needed = {name: value for name, value in NEEDED.items() if name in names}
    yield needed
    others = {"customer": str(CUSTOMERS[2]), "window": "40d", "week_window": "7d", "limit": "3"}
    others["service"] = "gateway"
    others["trace"] = str(_TOLD.attributes["usage.sentry.trace_id"])
    for name, value in others.items():
        if name in names:
            yield {**needed, "window": "30d", name: value} if "window" in names else {**needed, name: value}


ASKED: Final = [(each, asked) for each in recipes().values() for asked in variants(each)]
IDS: Final = [f"{each.name}-{'-'.join(asked) or 'plain'}-{number}" for number, (each, asked) in enumerate(ASKED)]


def as_expected(answer: Answer, expected: list[dict[str, Any]]) -> bool:
    """Texts and whole numbers are the same. Rounded ones are within their last digit; other fractions are computed in
    another order, and a duration is a number of microseconds divided by a thousand: a billionth is let pass.
    """
    found = [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]
    assert len(found) == len(expected), (found, expected)
    for row, wanted in zip(found, expected, strict=True):
        for name, value in wanted.items():
            digit = 0.00501 if name.endswith("percent") else 0.000501 if name == "amplification" else 0.0
            exact = not isinstance(row[name], float)
            same = row[name] == value if exact else math.isclose(row[name], float(value), rel_tol=1e-9, abs_tol=digit)
            assert same, (name, row, wanted)
        assert set(row) - set(wanted) <= {"_time"}
    return True


def test_there_is_an_independent_answer_to_every_recipe() -> None:
    assert set(ANSWERS) == set(recipes())


@pytest.mark.parametrize(("each", "asked"), ASKED, ids=IDS)
def test_the_answer_is_what_plain_python_counts(store: UsageStore, each: Recipe, asked: dict[str, str]) -> None:
    values = each.parse(asked)
    expected = ANSWERS[each.name](DATA, values)
    assert expected
    assert as_expected(run_apl(store, each.apl(values, repeated=False), now=NOW), expected[: values["limit"]])


@BY_NAME
def test_the_line_that_counts_each_span_once_changes_nothing_where_each_is_there_once(
    store: UsageStore, each: Recipe
) -> None:
    for asked in variants(each):
        values = each.parse(asked)
        whole, short = each.apl(values), each.apl(values, repeated=False)
        assert ONCE in whole
        assert ONCE not in short
        assert as_expected(run_apl(store, whole, now=NOW), ANSWERS[each.name](DATA, values)[: values["limit"]])


@BY_NAME
def test_spans_that_are_there_twice_count_once(repeating: UsageStore, each: Recipe) -> None:
    values = each.parse({**next(variants(each)), "limit": "1000"})
    expected = ANSWERS[each.name](DATA, values)
    for row in expected:
        row.pop("repeated", None)
    answer = run_apl(repeating, each.apl(values), now=NOW)
    if "repeated" in answer.columns:
        assert sum(row[answer.columns.index("repeated")] for row in answer.rows) > 0
        kept = [number for number, name in enumerate(answer.columns) if name != "repeated"]
        answer = Answer(
            tuple(answer.columns[n] for n in kept),
            tuple(answer.types[n] for n in kept),
            tuple(tuple(row[n] for n in kept) for row in answer.rows),
        )
    assert as_expected(answer, expected)
    with pytest.raises((AssertionError, KeyError)):  # and this is because of that line
        as_expected(run_apl(repeating, each.apl(values, repeated=False), now=NOW), expected)


# What it is written in

# Axiom's documentation of August 2026 has a page for each of them.
OPERATORS: Final = frozenset(
    {"where", "extend", "project", "summarize", "distinct", "order", "take", "union", "mv-expand"}
)
FUNCTIONS: Final = frozenset(
    {"abs", "ago", "bin", "case", "coalesce", "iff", "isempty", "isnotempty", "isnull", "not"}
) | {
    *("array_length", "round", "tolong", "tostring", "arg_max", "count", "countif", "percentile", "sum", "sumif"),
}
STRING: Final = re.compile(r'"(?:\\.|[^"\\])*"')


@BY_NAME
def test_a_recipe_uses_what_axiom_documents_and_nothing_else(each: Recipe) -> None:
    text = STRING.sub('""', each.template.replace(ONCE, ""))
    assert "//" not in text
    assert set(re.findall(r"\|\s*([a-z-]+)", text)) <= OPERATORS
    called = set(re.findall(r"\b(\w+)\(", text)) - {"in"}
    assert called <= FUNCTIONS, called - FUNCTIONS
    assert "let " not in text
    for member in re.findall(r"events\['attributes'\]\['([\w.]+)'\]", text):
        assert member in BY_KEY
    rest = re.sub(r"events(\['[\w.]+'\])+", "events", text)
    for column, key in re.findall(r"\['([\w.]+)'\](?:\['([\w.]+)'\])?", rest):
        assert column in VISIBLE
        assert (column == "attributes.custom") == bool(key)
        assert not key or key in BY_KEY


@BY_NAME
def test_values_of_the_map_are_converted_or_compared(each: Recipe) -> None:
    text = STRING.sub('""', each.template)
    uses = re.findall(r"(\w*\(?)\['attributes\.custom'\]\['[\w.]+'\](\)?\s?\S*)", text)
    assert uses
    for before, after in uses:
        assert before in ("tostring(", "tolong(") or after.strip() in ("==", "in"), (before, after)


@BY_NAME
def test_each_count_of_spans_is_of_different_ones(each: Recipe) -> None:
    counting = [line for line in each.template.splitlines() if "summarize" in line]
    sources = each.template.count("['{dataset}']")
    once = [line for line in counting if line.endswith(ONCE)]
    assert all("by trace_id, span_id" in line for line in once)
    assert 1 <= len(once) <= sources


@BY_NAME
def test_a_chart_is_of_columns_that_there_are(store: UsageStore, each: Recipe) -> None:
    answer = run_apl(store, each.apl(each.parse(next(variants(each)))), now=NOW)
    assert {*each.chart.x, *each.chart.y} <= set(answer.columns)
    assert bool(each.chart.x and each.chart.y) == (each.chart.kind is not ChartKind.TABLE)
    assert each.question.endswith("?")
    assert {parameter.name for parameter in each.parameters} <= set(KINDS)
    assert {"limit"} <= {parameter.name for parameter in each.parameters}


@pytest.mark.parametrize("name", ["customers", "plans", "movers"])
def test_what_services_ask_each_other_is_told_apart_from_what_customers_ask(store: UsageStore, name: str) -> None:
    asked = recipe(name)
    needed = {"plans": NEEDED["plans"]} if name == "plans" else {}

    def requests(**more: str) -> int:
        answer = run_apl(store, asked.apl(asked.parse({**needed, **more}), repeated=False), now=NOW)
        return sum(row[answer.columns.index("requests")] for row in answer.rows)

    assert requests() == requests(service="gateway") + requests(service="pricing")
    assert requests(service="pricing") > 0


def test_without_a_customer_the_line_about_customers_is_left_out() -> None:
    asked = recipe("customers")
    assert "==" not in asked.apl(asked.parse({})).splitlines()[3]
    assert '== "acme"' in asked.apl(asked.parse({"customer": "acme"})).splitlines()[3]
    assert asked.apl(asked.parse({}), dataset="my.usage").startswith("['my.usage']")


# Values are values


@given(st.text(max_size=40))
def test_no_text_is_more_than_a_literal(text: str) -> None:
    asked = recipe("customers")
    if not (0 < len(text) <= 256 and text.isprintable()):
        with pytest.raises(RecipeError, match="printable"):
            asked.parse({"customer": text})
        return
    apl = asked.apl(asked.parse({"customer": text}))
    plain = asked.apl(asked.parse({"customer": "x"}))
    head, _, tail = plain.partition('"x"')
    assert apl.startswith(head)
    assert apl.endswith(tail)
    assert STRING.fullmatch(apl[len(head) : len(apl) - len(tail)])


@pytest.mark.parametrize(
    "text",
    [
        'a" or true or "" == "',
        "a\\",
        'a\\" | take 1 //',
        "a' | union ['other'] //",
        "{limit}",
        "{dataset}",
        "// each span once",
        "['attributes.custom']['usage.tier']",
        "ü\U0001f600",
        "%_*",
    ],
)
def test_an_odd_customer_is_found_and_nobody_else(store: UsageStore, text: str) -> None:
    assert run_apl(store, f"print x = {literal(text)}").rows == ((text,),)
    asked = recipe("customers")
    assert run_apl(store, asked.apl(asked.parse({"customer": text, "window": "40d"})), now=NOW).rows == ()


@pytest.mark.parametrize(
    ("name", "given_", "says"),
    [
        ("customers", {"customer": "a\nb"}, "customer: it takes 1 to 256 characters, all of them printable"),
        ("customers", {"customer": ""}, "customer: "),
        ("customers", {"customer": "\ud800"}, "customer: "),
        ("customers", {"limit": "0"}, "limit: '0' is not a number of rows: it takes 1 to 10000"),
        ("customers", {"limit": "5 | take 9"}, "limit: "),
        ("customers", {"limit": "٣"}, "limit: "),
        ("customers", {"window": "yesterday"}, "window: 'yesterday' is not an age"),
        ("customers", {"window": "0h"}, "window: "),
        ("customers", {"window": "99999d"}, "window: "),
        ("customers", {"colour": "red"}, "has no parameter 'colour': it has window, customer, service, limit"),
        ("movers", {"week_window": "8d"}, "longer than the week"),
        ("story", {}, "story needs --param trace="),
        ("story", {"trace": "xyz"}, "trace: 'xyz' is not a trace id: it takes 32 hexadecimal digits"),
        ("costs", {"prices": "{"}, "prices: it takes JSON such as"),
        ("costs", {"prices": "[]"}, "prices: it takes JSON such as"),
        ("costs", {"prices": '{"model": {}}'}, "prices: it takes JSON such as"),
        ("costs", {"prices": '{"models": {"a": 1}}'}, "the price of 'a' is"),
        ("costs", {"prices": '{"providers": {"a": "1"}}'}, "what 'a' is given is not a number from 0"),
        ("costs", {"prices": '{"providers": {"a": -1}}'}, "what 'a' is given is not a number from 0"),
        ("costs", {"prices": '{"providers": {"a": NaN}}'}, "what 'a' is given is not a number from 0"),
        ("costs", {"prices": '{"providers": {"a": 1e999}}'}, "what 'a' is given is not a number from 0"),
        ("costs", {"prices": '{"providers": {"a\\n": 1}}'}, "printable"),
        ("costs", {"prices": '{"providers": {"a": 1, "b": 1, "a": 2}}'}, "prices: 'a' is there twice"),
        ("plans", {"plans": '{"free": 0}'}, "what 'free' is given is not a number of requests from 1"),
        ("plans", {"plans": '{"free": true}'}, "what 'free' is given is not a number of requests from 1"),
    ],
)
def test_a_value_that_is_none_is_one_line_that_says_what_is_accepted(
    name: str, given_: dict[str, str], says: str
) -> None:
    with pytest.raises(RecipeError) as refused:
        recipe(name).parse(given_)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_prices_of_nothing_are_prices(store: UsageStore) -> None:
    asked = recipe("costs")
    answer = run_apl(store, asked.apl(asked.parse({"prices": "{}"})), now=NOW)
    found = [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]
    assert found
    for row in found:
        assert (row["cost"], row["unpriced"]) == (0.0, row["calls"] + row["model_calls"])


def test_an_unknown_recipe_names_those_that_there_are() -> None:
    with pytest.raises(RecipeError, match=r"there is no recipe 'nope': there are abuse, cache-tiers, .*upstreams"):
        recipe("nope")


def test_a_dataset_is_a_name() -> None:
    asked = recipe("customers")
    for name in ("a'] | take 1 //", "", "a b", "ü"):
        with pytest.raises(RecipeError, match="is not a dataset's name"):
            asked.apl(asked.parse({}), dataset=name)


@pytest.mark.parametrize(
    "text",
    [
        "['x']",
        "// title: a\n// question: b?\n['x']",
        "// title: a\n// question: b?\n// chart: pie\n['x']",
        "// title: a\n// title: a\n// question: b?\n// chart: table\n['x']",
        "// title: a\n// question: b?\n// chart: table\n// parameter: colour\n['x']",
        "// title: a\n// question: b?\n// chart: table\n// parameter: window = soon\n['x']",
    ],
)
def test_a_file_without_a_good_head_is_no_recipe(text: str) -> None:
    with pytest.raises(RecipeError, match="the recipe mine has no good head"):
        read_recipe("mine", text)


def test_the_data_lacks_whatever_usage_may_lack() -> None:
    def lacking(key: str, record: str) -> set[bool]:
        found: list[ReceivedSpan] = [span for span in DATA if span.attributes["usage.kind"] == record]
        return {key in span.attributes for span in found}

    for record, keys in {
        "request": ("usage.customer.id", "usage.tier", "http.route", "usage.reason", "usage.cache.tier"),
        "upstream": ("usage.provider", "http.response.body.size", "usage.cache.status"),
        "llm": ("gen_ai.request.model", "gen_ai.usage.input_tokens"),
    }.items():
        for key in keys:
            assert lacking(key, record) == {True, False}, key


def test_the_page_of_the_documentation_is_made_of_them() -> None:
    page = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text()
    assert page == markdown()
    for each in recipes().values():
        assert f"\n## {each.name}\n" in page
        assert each.question in page
