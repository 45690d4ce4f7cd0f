"""APL runs on the local store as it is written for Axiom, reads what it needs, and reaches nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_usage.local.apl import MAX_APL, run_apl, translate, with_columns
from otel_usage.local.columns import VISIBLE
from otel_usage.local.errors import MissingExtraError, QueryError, QueryTimeoutError, StoreError
from otel_usage.local.layout import TABLE, VIEW_COLUMNS
from otel_usage.local.otlp import ReceivedEvent
from otel_usage.local.recipes import recipes
from otel_usage.local.store import IN_MEMORY, UsageStore
from tests.e2e.test_local_store_and_report import START, span

CUSTOMER = "['attributes.custom']['usage.customer.id']"


LETS = "".join(f"let a{n} = strcat(a{n - 1}, a{n - 1}); " for n in range(1, 28))


@pytest.fixture
def store() -> Iterator[UsageStore]:
    with UsageStore(IN_MEMORY) as opened:
        opened.add(
            [
                span(0, ms=10, usage__customer__id="acme", usage__tier=2, http__route="/a", own__key="x"),
                span(1, ms=30, usage__customer__id="acme", usage__tier=2, http__route="/b"),
                replace(
                    span(2, ms=50, error=True, usage__customer__id="globex"),
                    events=(ReceivedEvent("usage.cache", 1, {"usage.provider": "yahoo"}),),
                ),
            ]
        )
        yield opened


def rows(store: UsageStore, apl: str) -> list[tuple[object, ...]]:
    return sorted(run_apl(store, apl).rows, key=repr)


def test_a_query_that_is_written_for_axiom_runs_unchanged(store: UsageStore) -> None:
    apl = f"""['api_usage'] // each word as Axiom has it
| where {CUSTOMER} == "acme"
| summarize requests = count(), slowest = max(duration / 1ms), failed = countif(error)
    by customer = {CUSTOMER}, tier = tolong(['attributes.custom']['usage.tier']), route = ['attributes.http.route']
| order by requests desc"""
    answer = run_apl(store, apl)
    assert set(answer.columns) == {"customer", "tier", "route", "requests", "slowest", "failed"}
    found = {name: [row[answer.columns.index(name)] for row in answer.rows] for name in answer.columns}
    assert found["customer"] == ["acme", "acme"]
    assert found["tier"] == [2, 2]
    assert sorted(found["slowest"]) == [10.0, 30.0]
    assert dict(zip(answer.columns, answer.types, strict=True))["slowest"] == "float"


def test_a_key_that_the_schema_does_not_know_is_found_in_the_map(store: UsageStore) -> None:
    assert rows(store, "['api_usage'] | where ['attributes.custom']['own.key'] == 'x' | count") == [(1,)]
    assert rows(store, "['api_usage'] | summarize count() by k = tostring(['attributes.custom'][\"own.key\"])") == [
        ("", 2),
        ("x", 1),
    ]


def test_the_columns_that_stand_for_the_map_are_not_shown(store: UsageStore) -> None:
    answer = run_apl(store, "['api_usage'] | where error | take 1")
    assert answer.columns == (*VISIBLE,)
    row = dict(zip(answer.columns, answer.rows[0], strict=True))
    assert row["attributes.custom"] == {"usage.kind": "request", "usage.customer.id": "globex"}
    assert row["events"] == [{"name": "usage.cache", "timestamp": 1, "attributes": {"usage.provider": "yahoo"}}]
    assert row["_time"] == "2026-05-28T20:26:40.002000Z"
    assert row["duration"] == "50ms"


def test_one_key_of_the_map_is_one_column_to_read() -> None:
    sql = translate(f"['api_usage'] | summarize count() by c = {CUSTOMER}").sql
    assert '"attributes.custom.usage.customer.id"' in sql
    assert '"attributes.custom"' not in sql


def test_events_are_expanded(store: UsageStore) -> None:
    apl = """['api_usage'] | mv-expand events | where tostring(events['name']) == "usage.cache"
        | project provider = tostring(events['attributes']['usage.provider'])"""
    assert rows(store, apl) == [("yahoo",)]


@pytest.mark.parametrize(
    "text",
    [
        '''print x = "['attributes.custom']['usage.tier']"''',
        """print x = '["attributes.custom"]["usage.tier"]'""",
        r'''print x = "\"['attributes.custom']['usage.tier']"''',
        """print x = @'a\\' // ['attributes.custom']['usage.tier']""",
        "print 1 // ['attributes.custom']['usage.tier']",
        "print ['attributes.customs']['usage.tier']",
        "print ['attributes.custom']",
    ],
)
def test_what_only_looks_like_a_key_is_left_alone(text: str) -> None:
    assert with_columns(text) == text


@pytest.mark.parametrize("text", [CUSTOMER, """[ "attributes.custom" ] [ 'usage.customer.id' ]"""])
def test_a_key_is_seen_however_it_is_written(text: str) -> None:
    assert with_columns(f"x | where {text} == 'a'") == "x | where ['attributes.custom.usage.customer.id'] == 'a'"


@pytest.mark.parametrize(
    ("text", "becomes"),
    [
        ("tolong(['attributes.custom']['usage.tier'])", "['attributes.custom.usage.tier']"),
        ("tolong( ['attributes.custom']['usage.quantity'] )", "tolong( ['attributes.custom.usage.quantity'] )"),
        ("tolong(['attributes.custom']['own'])", "tolong(['attributes.custom.others']['own'])"),
        ("tolong(['attributes.custom']['usage.tier'] + 1)", "tolong(['attributes.custom.usage.tier'] + 1)"),
        ("tostring(['attributes.custom']['usage.tier'])", "tostring(['attributes.custom.usage.tier'])"),
    ],
)
def test_a_column_of_whole_numbers_is_not_converted_to_them(text: str, becomes: str) -> None:
    assert with_columns(f"x | extend y = {text}") == f"x | extend y = {becomes}"


def test_the_time_is_the_callers_or_the_clocks(store: UsageStore) -> None:
    moment = datetime.fromtimestamp(START / 1e9 + 60, UTC)
    assert run_apl(store, "['api_usage'] | where _time > ago(1h) | count", now=moment).rows == ((3,),)
    assert run_apl(store, "['api_usage'] | where _time > ago(30s) | count", now=moment).rows == ((0,),)


def test_times_are_utc_whatever_the_machine_thinks(tmp_path: Path) -> None:
    code = (
        "from otel_usage.local.store import UsageStore; from otel_usage.local.apl import run_apl;"
        "from otel_usage.local.otlp import ReceivedSpan; import time;"
        "store = UsageStore(':memory:'); now = time.time_ns();"
        "store.add([ReceivedSpan('01' * 16, '02' * 8, None, 'a', 'server', now, now)]);"
        "print(run_apl(store, \"['api_usage'] | where _time between (ago(1h) .. now()) | count\").rows[0][0])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TZ": "America/New_York"},
    )
    assert (done.stdout, done.stderr) == ("1\n", "")


@pytest.mark.parametrize(
    ("apl", "says"),
    [
        ("['api_usage'] | evaluate pivot(name)", r"EvaluateOperator is not run locally \(line 1, column 17\)"),
        ("['api_usage'] | summarize topk(name, 3)", "topk is not run locally"),
        ("['api_usage'] | where colour == 1", "colour"),
        ("['other']", "other"),
        ("['api_usage'] | where", "could not parse"),
        ("", "no query"),
        (".set other <| ['api_usage']", "ingestion command .set is not run locally"),
        (".create table other (a: string)", "control command"),
        ("print x = 1 " + " " * MAX_APL, "longer than"),
        ("print " + "(" * 5000 + "1" + ")" * 5000, "nested too deeply"),
    ],
)
def test_what_cannot_be_run_is_one_line_that_names_it(store: UsageStore, apl: str, says: str) -> None:
    with pytest.raises(QueryError, match=says) as refused:
        run_apl(store, apl)
    assert "\n" not in str(refused.value)
    assert store.count() == 3


def test_no_other_file_is_a_table(store: UsageStore, tmp_path: Path) -> None:
    (tmp_path / "secret.csv").write_text("secret\nhunter2\n")
    for name in (f"{tmp_path}/secret.csv", f"file://{tmp_path}/secret.csv", "https://example.com/x.parquet"):
        with pytest.raises(QueryError):
            run_apl(store, f"['{name}'] | take 1")
    with pytest.raises(QueryError):
        run_apl(store, f"externaldata (a: string) ['{tmp_path}/secret.csv']")


def test_a_short_query_does_not_become_an_endless_one(store: UsageStore) -> None:
    with pytest.raises(QueryError, match="becomes longer than 1,048,576 characters of SQL"):
        run_apl(store, f"print x = {'tostring(' * 12}1{')' * 12}")
    assert len(run_apl(store, "['api_usage'] | take 1").rows) == 1


def test_a_translation_that_takes_too_long_is_stopped(store: UsageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otel_usage.local.apl._MAX_TRANSLATION_SECONDS", 0.2)
    before = sys.getprofile()
    with pytest.raises(QueryTimeoutError, match=r"its translation may take 0\.2 s"):
        run_apl(store, f"let a0 = 'a'; {LETS}print a27")
    assert sys.getprofile() is before


def test_an_answer_that_is_too_long_is_refused(store: UsageStore) -> None:
    with pytest.raises(QueryError, match="the answer is longer than 67,108,864 characters"):
        run_apl(store, "range x from 1 to 800 step 1 | extend text = strrep('0123456789', 10000)")


def test_a_query_that_takes_too_long_is_stopped_and_the_next_one_runs(store: UsageStore) -> None:
    store.add([span(n) for n in range(10, 3000)])
    slow = """['api_usage'] | extend k = 1 | join kind=inner (['api_usage'] | extend k = 1) on k
        | join kind=inner (['api_usage'] | extend k = 1) on k | summarize sum(strlen(strcat(name, name1, name2)))"""
    with pytest.raises(QueryTimeoutError, match=r"was stopped: it may take 0\.3 s"):
        run_apl(store, slow, seconds=0.3)
    assert run_apl(store, "['api_usage'] | count").rows == ((2993,),)


@pytest.mark.parametrize(
    "statement", ["SELECT 1; DROP TABLE spans", "DROP TABLE spans", "DELETE FROM spans", "ATTACH ':memory:' AS x", ""]
)
def test_whatever_a_query_is_translated_to_it_only_reads(store: UsageStore, statement: str) -> None:
    with pytest.raises(QueryError, match="only reads"):
        store.read(statement, {}, max_rows=1, seconds=10)
    assert store.count() == 3


RECIPE_TEXTS = [each.template.replace("{dataset}", TABLE) for each in recipes().values()]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(RECIPE_TEXTS), st.integers(0, 600), st.integers(0, 40), st.text(max_size=12))
def test_a_mangled_query_is_answered_or_refused_and_nothing_else(text: str, at: int, cut: int, put: str) -> None:
    mangled = text[:at] + put + text[at + cut :]
    with UsageStore(IN_MEMORY) as store, suppress(QueryError):
        run_apl(store, mangled)


def test_an_answer_says_that_it_is_not_the_whole(store: UsageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otel_usage.local.apl.MAX_ROWS", 2)
    answer = run_apl(store, "['api_usage'] | project name")
    assert (len(answer.rows), answer.partial) == (2, True)
    assert not run_apl(store, "['api_usage'] | project name | take 2").partial


def test_a_closed_store_cannot_be_asked(store: UsageStore) -> None:
    store.close()
    with pytest.raises(StoreError):
        run_apl(store, "['api_usage']")


def test_without_duckdb_kql_the_error_names_the_extra(store: UsageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "duckdb_kql", None)
    translate.cache_clear()
    with pytest.raises(MissingExtraError, match=r"duckdb-kql is not installed: pip install 'otel-usage\[local\]'"):
        run_apl(store, "['api_usage']")


def test_every_column_of_the_view_can_be_named(store: UsageStore) -> None:
    for name in VIEW_COLUMNS:
        assert len(run_apl(store, f"['api_usage'] | project x = ['{name}']").rows) == 3
