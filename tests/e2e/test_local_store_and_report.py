"""Spans are stored once, in Axiom's layout, and the report says what the recipes answer."""

from __future__ import annotations

import json
import math
import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from io import StringIO
from pathlib import Path
from typing import Any

import duckdb
import pytest
from rich.console import Console

from otel_usage.local.apl import run_apl
from otel_usage.local.columns import COLUMNS, VISIBLE
from otel_usage.local.errors import MissingExtraError, RecipeError, StoreError, StoreLockedError, StoreMissingError
from otel_usage.local.layout import SPANS, TABLE, VIEW_COLUMNS
from otel_usage.local.otlp import ReceivedEvent, ReceivedLink, ReceivedSpan, Value
from otel_usage.local.recipes import recipe
from otel_usage.local.render import MAX_ROWS, print_report, shown, size, to_json
from otel_usage.local.report import OVER_TIME, PARTS, UsageReport, build_report
from otel_usage.local.store import IN_MEMORY, UsageStore
from otel_usage.schema import ATTRIBUTES, REASONS, RESOURCE

START = 1_780_000_000_000_000_000
MILLISECOND = 1_000_000


def span(number: int, kind: str = "request", *, ms: float = 10, error: bool = False, **facts: Any) -> ReceivedSpan:
    """A usage span. Facts are attribute keys with double underscores for dots; None leaves one out."""
    attributes = {"usage.kind": kind, **{key.replace("__", "."): value for key, value in facts.items()}}
    return ReceivedSpan(
        trace_id=f"{number + 1:032x}",
        span_id=f"{number + 1:016x}",
        parent_span_id=None,
        name=kind,
        kind="server" if kind == "request" else "client",
        start_time=START + number * MILLISECOND,
        end_time=START + number * MILLISECOND + int(ms * MILLISECOND),
        status_code="error" if error else "unset",
        attributes={key: value for key, value in attributes.items() if value is not None},
        resource_attributes={"service.name": "gateway"},
    )


def lately(*spans: ReceivedSpan) -> list[ReceivedSpan]:
    """The same spans, a minute ago."""
    now = time.time_ns() - 60_000_000_000
    return [replace(each, start_time=now, end_time=now + each.duration) for each in spans]


def reported(store: UsageStore, *names: Any, **settings: Any) -> UsageReport:
    return build_report(lambda apl: run_apl(store, apl), *names, **settings)


@pytest.fixture
def store() -> Iterator[UsageStore]:
    with UsageStore(IN_MEMORY) as opened:
        yield opened


# The store


def test_a_span_is_laid_out_in_the_columns_of_axiom(store: UsageStore) -> None:
    received = replace(
        span(0, ms=12.345678, error=True, usage__customer__id="acme", usage__tier=2, http__response__status_code=503),
        parent_span_id="00f067aa0ba902b7",
        events=(ReceivedEvent("usage.cache", 5, {"usage.provider": "x"}),),
        links=(ReceivedLink("ab" * 16, "cd" * 8),),
        resource_attributes={"service.name": "gateway", "service.version": "1.2"},
    )
    store.add([received])
    names = '_time, trace_id, parent_span_id, kind, duration, error, "status.code", "service.name", events, links'
    ((time, trace, parent, kind, duration, error, status, service, events, links),) = store.rows(
        f"SELECT {names} FROM {TABLE}"
    )
    assert time == datetime.fromtimestamp(START / 1e9, UTC).replace(tzinfo=None)
    assert duration == timedelta(microseconds=12_345)
    assert (trace, parent, kind) == (received.trace_id, "00f067aa0ba902b7", "server")
    assert (error, status, service) == (True, "error", "gateway")
    assert json.loads(events) == [{"name": "usage.cache", "timestamp": 5, "attributes": {"usage.provider": "x"}}]
    assert json.loads(links) == [{"trace_id": "ab" * 16, "span_id": "cd" * 8, "attributes": {}}]
    ((code, custom, resource),) = store.rows(
        f'SELECT "attributes.http.response.status_code", "attributes.custom", "resource.custom" FROM {TABLE}'
    )
    assert code == 503
    assert json.loads(custom) == {"usage.kind": "request", "usage.customer.id": "acme", "usage.tier": 2}
    assert json.loads(resource) == {"service.version": "1.2"}


def test_every_attribute_of_the_schema_comes_back_as_it_was_sent(store: UsageStore) -> None:
    on_spans = [a for a in ATTRIBUTES if a.on - {RESOURCE}]
    store.add([replace(span(0), attributes={a.key: a.example for a in on_spans})])
    ((text,),) = store.rows(f'SELECT "attributes.custom" FROM {TABLE}')
    custom = json.loads(text)
    for attribute in on_spans:
        if attribute.conventional:
            ((value,),) = store.rows(f'SELECT "attributes.{attribute.key}" FROM {TABLE}')
            assert value == attribute.example
            assert attribute.key not in custom
        else:
            assert custom[attribute.key] == attribute.example
            assert type(custom[attribute.key]) is type(attribute.example)


def test_a_value_of_a_wrong_type_or_an_unknown_key_is_kept_in_the_map(store: UsageStore) -> None:
    odd: dict[str, Value] = {
        "http.response.status_code": "teapot",
        "usage.tier": "gold",
        "left'right\"": "\x00é\U0001f600\n",
        "nothing": None,
        "list": [1, b"\x01", {"a": True}],
        "nan": math.nan,
        "": "empty key",
    }
    store.add([replace(span(0), attributes=odd), span(1)])
    rows = store.rows(f'SELECT "attributes.http.response.status_code", "attributes.custom" FROM {TABLE} ORDER BY _time')
    assert [status for status, _ in rows] == [None, None]
    assert [json.loads(custom) for _, custom in rows] == [
        {
            "http.response.status_code": "teapot",
            "usage.tier": "gold",
            "left'right\"": "\x00é\U0001f600\n",
            "nothing": "null",
            "list": [1, "01", {"a": True}],
            "nan": "nan",
            "": "empty key",
        },
        {"usage.kind": "request"},
    ]


def test_a_span_that_arrives_again_is_stored_once(store: UsageStore) -> None:
    batch = [span(n) for n in range(10)]
    assert store.add([*batch, *batch[:3]]) == 10
    assert store.add([*batch[5:], span(10)]) == 1
    assert store.add([]) == 0
    assert store.count() == 11


def test_the_span_id_alone_is_not_the_key(store: UsageStore) -> None:
    store.add([span(0), replace(span(0), trace_id="ff" * 16)])
    assert store.count() == 2


def test_what_was_added_survives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "usage.duckdb"
    code = (
        "import os, sys; from otel_usage.local.store import UsageStore; from otel_usage.local.otlp import ReceivedSpan;"
        "store = UsageStore(sys.argv[1]);"
        "store.add([ReceivedSpan('01' * 16, '02' * 8, None, 'a', 'server', 1, 2)]);"
        "os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == -9
    with UsageStore(path) as store:
        assert store.count() == 1


def test_threads_may_add_and_read_at_once(store: UsageStore) -> None:
    def add(start: int) -> None:
        for number in range(start, start + 50, 5):
            store.add([span(n) for n in range(number, number + 5)])
            reported(store)

    # Each range overlaps half of the next one.
    threads = [threading.Thread(target=add, args=(start,)) for start in range(0, 100, 25)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.count() == 125


def test_a_file_that_another_process_holds_is_one_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "usage.duckdb"
    code = (
        "import sys; from otel_usage.local.store import UsageStore;"
        "store = UsageStore(sys.argv[1]); print('open', flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(StoreLockedError, match=r"usage\.duckdb is held by another process: stop that one"):
            UsageStore(path)
        holder.communicate("\n")


@pytest.mark.parametrize("content", [b"not a database at all", bytes(5000)])
def test_a_file_that_is_no_database_is_one_clear_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "usage.duckdb"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"usage\.duckdb cannot be opened as a usage database: .*Move it away"):
        UsageStore(path)
    assert path.read_bytes() == content


def test_a_file_that_must_exist_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(StoreMissingError, match="otel-usage serve"):
        UsageStore(tmp_path / "usage.duckdb", must_exist=True)
    assert list(tmp_path.iterdir()) == []


def test_an_older_file_gets_the_columns_that_it_lacks(tmp_path: Path) -> None:
    path, kept = tmp_path / "usage.duckdb", COLUMNS[:6]
    with duckdb.connect(str(path)) as connection:
        columns = ", ".join(f"{column.quoted} {column.sql_type}" for column in kept)
        connection.execute(f"CREATE TABLE {SPANS} ({columns})")
        connection.execute(f"INSERT INTO {SPANS} (_time, trace_id, span_id) VALUES (now(), 'old', 'old')")
    for _ in range(2):
        with UsageStore(path) as store:
            store.add([span(1, usage__customer__id="acme")])
            assert {row[0] for row in store.rows(f"DESCRIBE {SPANS}")} == {column.name for column in COLUMNS}
            assert store.count() == 2
            assert reported(store).totals["requests"] == 1


def test_a_file_of_the_first_layout_is_taken_over_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "usage.duckdb"
    custom = {
        "usage.kind": "request",
        "usage.customer.id": "acme",
        "usage.tier": "2",
        "usage.aborted": "true",
        "own": "x",
    }
    odd = {"usage.kind": "request", "usage.tier": "gold"}
    with duckdb.connect(str(path)) as connection:
        connection.execute(
            f"CREATE TABLE {TABLE} (_time TIMESTAMP, trace_id VARCHAR, span_id VARCHAR, duration INTERVAL, "
            'error BOOLEAN, "attributes.http.route" VARCHAR, "attributes.custom" MAP(VARCHAR, VARCHAR), '
            '"resource.custom" MAP(VARCHAR, VARCHAR), PRIMARY KEY (trace_id, span_id))'
        )
        for number, attributes in enumerate((custom, odd)):
            connection.execute(
                f"INSERT INTO {TABLE} VALUES (make_timestamp(?), ?, 's', to_milliseconds(5), false, '/v1/items', ?, ?)",
                [number, f"t{number}", attributes, {"service.version": "1.2"}],
            )
    for _ in range(2):
        with UsageStore(path) as store:
            rows = store.rows(f'SELECT trace_id, "attributes.custom", "resource.custom" FROM {TABLE} ORDER BY _time')
            assert [(trace, json.loads(custom), json.loads(resource)) for trace, custom, resource in rows] == [
                ("t0", custom | {"usage.tier": 2, "usage.aborted": True}, {"service.version": "1.2"}),
                ("t1", odd, {"service.version": "1.2"}),
            ]
            report = reported(store)
            assert {row["customer"]: row["requests"] for row in report.rows("customers")} == {
                "acme": 1,
                "(unidentified)": 1,
            }
            assert [(row["route"], row["p50_ms"]) for row in report.rows("latency")] == [("/v1/items", 5.0)]


def test_the_view_has_axioms_columns_and_those_that_stand_for_its_map(store: UsageStore) -> None:
    names = [row[0] for row in store.rows(f"DESCRIBE {TABLE}")]
    assert tuple(names) == VIEW_COLUMNS
    assert {"_time", "trace_id", "span_id", "duration", "attributes.http.route", "attributes.custom"} <= set(VISIBLE)
    assert not [name for name in VISIBLE if name.startswith("attributes.usage.")]


def test_what_began_before_a_moment_is_removed_and_nothing_else(store: UsageStore) -> None:
    spans = [span(n) for n in range(10)]
    store.add(spans)
    moment = datetime.fromtimestamp(0, UTC) + timedelta(microseconds=spans[4].start_time // 1000)
    assert store.remove_before(moment.astimezone(timezone(timedelta(hours=-3)))) == 4
    assert [row[0] for row in store.rows(f"SELECT trace_id FROM {TABLE} ORDER BY _time")] == [
        s.trace_id for s in spans[4:]
    ]
    assert store.add(spans[:1]) == 1, "what was removed is not remembered"


def test_no_query_reads_or_writes_another_file(store: UsageStore, tmp_path: Path) -> None:
    (tmp_path / "secret.csv").write_text("secret\n")
    for statement in (
        f'SELECT * FROM "{tmp_path}/secret.csv"',
        f"SELECT * FROM read_text('{tmp_path}/secret.csv')",
        f"COPY (SELECT 1) TO '{tmp_path}/out.parquet'",
        f"ATTACH '{tmp_path}/other.db'",
        "SET enable_external_access = true",
    ):
        with pytest.raises(StoreError):
            store.rows(statement)
    assert [path.name for path in tmp_path.iterdir()] == ["secret.csv"]


def test_a_closed_store_says_so(store: UsageStore) -> None:
    store.close()
    store.close()
    with pytest.raises(StoreError):
        store.add([span(0)])


def test_without_duckdb_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'otel-usage\[local\]'"):
        UsageStore(IN_MEMORY)


# The report


def traffic(seed: int = 7) -> list[ReceivedSpan]:
    """Requests, upstream calls and cache lookups, some of each without an identity or a reason."""
    chance = random.Random(seed)
    spans = []
    for number in range(600):
        common: dict[str, Any] = {
            "usage__customer__id": chance.choice(["acme", "globex", "initech", None]),
            "usage__tier": chance.choice([0, 1, 2, None]),
            "http__response__status_code": chance.choice([200, 200, 200, 304, 404, 503, None]),
            "http__response__body__size": chance.choice([0, 10, 2_500, None]),
        }
        cache: dict[str, Value] = {
            "usage.provider": chance.choice(["yahoo-finance", "openai"]),
            "usage.cache.status": chance.choice(["fresh", "stale-while-revalidate"]),
        }
        request = span(
            3 * number,
            ms=chance.randrange(1, 500),
            error=chance.random() < 0.1,
            usage__reason=chance.choice([*REASONS, None]),
            http__route=chance.choice(["/v1/items/{id}", "/v1/report", None]),
            **common,
        )
        spans.append(replace(request, events=(ReceivedEvent("usage.cache", 1, cache), ReceivedEvent("usage.limit", 1))))
        spans.append(
            span(
                3 * number + 1,
                "upstream",
                ms=chance.randrange(1, 500),
                error__type=chance.choice([None, None, "httpx.ConnectTimeout"]),
                usage__provider=chance.choice(["yahoo-finance", "openai", None]),
                usage__cache__status=chance.choice(["miss", "fresh", None]),
                **common,
            )
        )
    return spans


def test_each_part_is_what_the_recipe_answers(store: UsageStore) -> None:
    store.add(lately(*traffic()))
    report = reported(store, timedelta(hours=2), names=OVER_TIME)
    assert [part.recipe.name for part in report.parts] == list(OVER_TIME)
    for part in report.parts:
        asked = recipe(part.recipe.name)
        values = asked.parse({"window": "2h", "limit": "10000"})
        assert part.answer == run_apl(store, asked.apl(values, repeated=False))
        assert part.answer.rows or part.recipe.name == "tokens"
        assert "by trace_id, span_id" in part.apl, "it is shown to be pasted into Axiom"


def test_a_stale_answer_is_one_hit_and_the_call_for_a_better_one_no_second(store: UsageStore) -> None:
    stale: dict[str, Value] = {"usage.provider": "yahoo-finance", "usage.cache.status": "stale-while-revalidate"}
    request = replace(span(0, usage__reason="ok"), events=(ReceivedEvent("usage.cache", 1, stale),))
    behind = {"usage__provider": "yahoo-finance", "usage__cache__status": "stale-while-revalidate"}
    store.add([request, span(1, "upstream", **behind)])
    (row,) = reported(store).rows("caches")
    assert (row["hits"], row["misses"], row["refreshed"]) == (1, 0, 1)


def test_the_totals_are_those_of_all_customers(store: UsageStore) -> None:
    store.add(traffic())
    report = reported(store)
    assert report.totals["requests"] == 600
    assert report.totals["errors"] == sum(row["requests"] for row in report.rows("rejections")) + sum(
        "usage.reason" not in each.attributes
        and (each.status_code == "error" or each.attributes.get("http.response.status_code", 0) in (404, 503))
        for each in traffic()
        if each.name == "request"
    )


def test_of_one_customer_it_has_what_tells_customers_apart(store: UsageStore) -> None:
    store.add(traffic())
    report = reported(store, None, "acme")
    assert [part.recipe.name for part in report.parts] == [name for name in PARTS if name != "caches"]
    everybody = {row["customer"]: row for row in reported(store).rows("customers")}
    assert report.rows("customers") == [everybody["acme"]]
    assert {row["customer"] for row in report.rows("upstreams")} == {"acme"}
    with pytest.raises(RecipeError, match="customer: it takes"):
        reported(store, None, "a\nb")


def test_since_leaves_out_what_began_earlier_in_every_part(store: UsageStore) -> None:
    old = [replace(each, trace_id=f"a{each.trace_id[1:]}") for each in traffic()]
    store.add([*old, *lately(*traffic(8))])
    with UsageStore(IN_MEMORY) as rest:
        rest.add(lately(*traffic(8)))
        whole, recent, alone = reported(store), reported(store, timedelta(hours=1)), reported(rest)
    assert [part.answer for part in recent.parts] == [part.answer for part in alone.parts]
    assert whole.totals["requests"] == 2 * recent.totals["requests"]


def test_an_empty_store_gives_an_empty_report(store: UsageStore) -> None:
    report = reported(store)
    assert (report.is_empty, report.totals) == (True, {"requests": 0, "errors": 0})


def test_programs_get_every_row_by_its_recipes_name(store: UsageStore) -> None:
    store.add(traffic())
    report = reported(store, timedelta(days=3650), "acme")
    said = json.loads(to_json(report))
    assert list(said) == ["since", "customer", "totals", *(name for name in PARTS if name != "caches")]
    assert (said["since"], said["customer"], said["totals"]) == ("3650d", "acme", dict(report.totals))
    assert said["latency"] == report.rows("latency")


# The tables


def printed(report: UsageReport, width: int = 80) -> str:
    console = Console(file=StringIO(), width=width)
    print_report(report, console)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [80, 60, 120, 200])
def test_no_line_is_wider_than_the_console_and_numbers_stay_whole(store: UsageStore, width: int) -> None:
    long = "a-customer-with-a-very-long-name-" * 5
    store.add([span(n, usage__customer__id=long, usage__tier=2, http__route="/v1/" + "x" * 200) for n in range(12_345)])
    store.add([span(20_000, "upstream", usage__customer__id=long, usage__provider=long, ms=1234)])
    output = printed(reported(store), width)
    assert max(map(len, output.splitlines())) <= width
    assert "12,345" in output
    assert ("1,234.0" in output) == (width > 60), "what is in no chart is left out where there is no room for it"


def test_on_a_wide_console_tables_stand_side_by_side_and_all_fit_on_a_screen(store: UsageStore) -> None:
    store.add(traffic())
    output = printed(reported(store), 180)
    assert re.search("Requests and errors per customer +Rejections by reason", output)
    assert len(output.splitlines()) <= 50


def test_the_tables_say_how_many_rows_they_leave_out(store: UsageStore) -> None:
    store.add([span(n, usage__customer__id=f"customer-{n}") for n in range(MAX_ROWS + 7)])
    assert "and 7 more: see --json" in printed(reported(store))


def test_the_first_line_says_how_much_whose_and_when(store: UsageStore) -> None:
    assert printed(reported(store)) == "No spans yet.\n"
    assert printed(reported(store, timedelta(hours=1))) == "No usage in this time.\n"
    store.add(
        lately(span(0, usage__customer__id="acme"), span(1, usage__customer__id="acme", usage__reason="not_found"))
    )
    assert printed(reported(store)).startswith("2 requests, 1 errors (50.0 %), in all time\n")
    assert printed(reported(store, timedelta(hours=1), "acme")).startswith(
        "2 requests of acme, 1 errors (50.0 %), in the last 1h\n"
    )


def test_a_name_cannot_command_the_terminal_or_the_markup(store: UsageStore) -> None:
    store.add([span(0, usage__customer__id="\x1b[2J[red]evil[/red]\x9b1m\nnext")])
    output = printed(reported(store))
    assert "\x1b" not in output
    assert "\x9b" not in output
    assert "�[2J[red]evil[/red]�1m�next" in output


def test_cells_and_sizes_read_well() -> None:
    assert [shown(cell) for cell in (1234567, 0.25, "a b")] == ["1,234,567", "0.2", "a b"]
    assert [size(n) for n in (0, 999, 1_500, 2_000_000, 10**16)] == ["0 B", "999 B", "1.5 kB", "2.0 MB", "10,000.0 TB"]
