"""`otel-usage query` asks a file, a running sink or Axiom, and shows what came back without harm."""

from __future__ import annotations

import csv
import io
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import duckdb
import pytest
import urllib3

from otel_usage.cli import main
from otel_usage.local.errors import QueryError
from otel_usage.local.http_server import HttpServer
from otel_usage.local.messages import Request, Response, json_response
from otel_usage.local.query_api import QUERY_PATH, query_url
from otel_usage.local.recipes import recipes
from otel_usage.local.sink import LocalSink
from otel_usage.local.store import IN_MEMORY, UsageStore
from tests.e2e.test_local_store_and_report import lately, span
from tests.e2e.test_serve_command import one_line, run, send, serve

TOKEN: Final = "xaat-query-0000"
EVIL: Final = "\x1b[2J\x9b1mevil"


USAGE: Final = [
    span(0, usage__customer__id="acme", usage__reason="ok", http__response__body__size=1234),
    span(1, usage__customer__id="acme", usage__reason="not_found"),
    span(2, usage__customer__id="globex", usage__reason="ok"),
    span(3, "upstream", usage__customer__id="acme", usage__provider="yahoo-finance"),
]


@pytest.fixture
def db(tmp_path: Path) -> str:
    path = tmp_path / "usage.duckdb"
    with UsageStore(path) as store:
        store.add(lately(*USAGE))
    return str(path)


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AXIOM_QUERY_TOKEN", "AXIOM_API_TOKEN", "AXIOM_DATASET", "AXIOM_DOMAIN", "USAGE_SINK_TOKEN"):
        monkeypatch.delenv(name, raising=False)


Ask = Callable[..., tuple[int, str, str]]


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str]) -> Ask:
    def asked(*arguments: str) -> tuple[int, str, str]:
        code = main(["query", *arguments])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return asked


# A file


def test_without_a_recipe_all_of_them_are_shown(ask: Ask) -> None:
    code, out, err = ask()
    assert (code, err) == (0, "")
    for name, each in recipes().items():
        assert re.search(rf"^{name} +{re.escape(each.question)}$", out, re.MULTILINE)
    assert "costs        needs --param prices=" in out


def test_a_table_for_people(ask: Ask, db: str) -> None:
    code, out, err = ask("customers", "--db", db)
    assert (code, err) == (0, "")
    assert "Requests and errors per customer" in out
    assert re.search(r"acme\W+2\W+1\W+1,234\W+50\b", out)


def test_json_and_csv_for_programs(ask: Ask, db: str) -> None:
    _, out, _ = ask("customers", "--db", db, "--format", "json")
    assert json.loads(out) == [
        {"customer": "acme", "requests": 2, "errors": 1, "bytes_out": 1234, "error_percent": 50.0},
        {"customer": "globex", "requests": 1, "errors": 0, "bytes_out": 0, "error_percent": 0.0},
    ]
    _, out, _ = ask("customers", "--db", db, "--format", "csv", "--customer", "globex")
    assert out == "customer,requests,errors,bytes_out,error_percent\nglobex,1,0,0,0.0\n"


def test_parquet_has_types_and_is_the_users_alone(ask: Ask, db: str, tmp_path: Path) -> None:
    path = tmp_path / "it's.parquet"
    assert ask("health", "--db", db, "--format", "parquet", "--output", str(path)) == (0, "", "")
    with duckdb.connect() as connection:
        rows = connection.execute("SELECT minute, spans, requests FROM read_parquet(?)", [str(path)]).fetchall()
        types = dict(connection.execute("SELECT name, type FROM parquet_schema(?)", [str(path)]).fetchall())
    assert [row[1:] for row in rows] == [(4, 3)]
    assert isinstance(rows[0][0], datetime)
    assert types["spans"] == "INT64"
    assert path.stat().st_mode & 0o777 == 0o600


def test_an_answer_without_rows_is_one(ask: Ask, db: str, tmp_path: Path) -> None:
    for form in ("table", "json", "csv"):
        code, _, err = ask("customers", "--db", db, "--customer", "nobody", "--format", form)
        assert (code, err) == (0, "")
    path = tmp_path / "none.parquet"
    assert ask("customers", "--db", db, "--customer", "x", "--format", "parquet", "--output", str(path))[0] == 0
    with duckdb.connect() as connection:
        assert connection.execute("SELECT count(*) FROM read_parquet(?)", [str(path)]).fetchone() == (0,)


def test_an_answer_is_written_to_a_file(ask: Ask, db: str, tmp_path: Path) -> None:
    path = tmp_path / "answer.csv"
    assert ask("customers", "--db", db, "--format", "csv", "--output", str(path)) == (0, "", "")
    assert path.read_text().startswith("customer,")


def test_parameters_come_from_the_command_line_or_a_file(ask: Ask, db: str, tmp_path: Path) -> None:
    prices = tmp_path / "prices.json"
    prices.write_text('{"providers": {"yahoo-finance": 0.25}}')
    _, out, _ = ask("costs", "--db", db, "--format", "json", "--param", f"prices=@{prices}", "--since", "2h")
    assert json.loads(out)[0]["cost"] == 0.25
    _, out, _ = ask("customers", "--db", db, "--format", "json", "--limit", "1")
    assert [row["customer"] for row in json.loads(out)] == ["acme"]
    _, out, _ = ask("customers", "--db", db, "--format", "json", "--since", "30s")
    assert json.loads(out) == []
    _, out, _ = ask("movers", "--db", db, "--format", "json", "--since", "1h")
    assert {row["customer"]: row["change"] for row in json.loads(out)} == {"acme": 2, "globex": 1}


def test_the_query_is_printed_for_axiom_and_nobody_is_asked(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AXIOM_DATASET", "usage-eu")
    code, out, _ = ask("customers", "--apl", "--db", "/nowhere", "--customer", 'o"brien', "--since", "90m")
    assert code == 0
    assert out.startswith("['usage-eu']\n| where _time >= ago(90m)\n")
    assert r'== "o\"brien"' in out
    assert "by trace_id, span_id" in out
    assert "['other']" in ask("customers", "--apl", "--dataset", "other")[1]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nope"], "there is no recipe 'nope': there are abuse, "),
        (["costs"], "costs needs --param prices="),
        (["health", "--customer", "acme"], "health has no parameter 'customer'"),
        (["customers", "--limit", "many"], "limit: 'many' is not a number of rows"),
        (["customers", "--param", "window"], "it takes NAME=VALUE"),
        (["costs", "--param", "prices=@/nowhere/x.json"], "/nowhere/x.json cannot be read: No such file"),
        (["costs", "--param", "prices=@/dev/zero"], "/dev/zero is no text of 1,048,576 bytes at most"),
        (["customers", "--format", "parquet"], "--format parquet needs --output FILE"),
        (["customers", "--db", "/nowhere/x.duckdb"], "there is no file /nowhere/x.duckdb"),
        (["customers", "--source", "axiom"], "Axiom wants a token that may query: set AXIOM_QUERY_TOKEN"),
        (["customers", "--apl", "--dataset", "a b"], "'a b' is not a dataset's name"),
        (["customers", "--endpoint", "ftp://x"], "--endpoint is 'ftp://x'"),
    ],
)
def test_what_cannot_be_asked_is_one_line(ask: Ask, arguments: list[str], says: str) -> None:
    code, out, err = ask(*arguments)
    assert (code, out) == (2, "")
    assert says in one_line(err)


def test_an_answer_that_cannot_be_written_is_one_line(ask: Ask, db: str) -> None:
    for form in ("csv", "json", "parquet"):
        code, _, err = ask("customers", "--db", db, "--format", form, "--output", "/nowhere/x")
        assert code == 2
        assert "/nowhere/x cannot be written" in one_line(err)
    assert "--output takes" in one_line(ask("customers", "--db", db, "--output", "x")[2])


# What senders may have named


@pytest.fixture
def evil_db(tmp_path: Path) -> str:
    path = tmp_path / "evil.duckdb"
    names = [EVIL, "=HYPERLINK(1)", "+1", "-1", "@x", "[red]x[/red]", "a,b\nc"]
    with UsageStore(path) as store:
        store.add(lately(*(span(n, usage__customer__id=name, usage__reason="ok") for n, name in enumerate(names))))
    return str(path)


@pytest.mark.parametrize("form", ["table", "csv", "json"])
def test_no_name_commands_a_terminal(ask: Ask, evil_db: str, form: str) -> None:
    code, out, _ = ask("customers", "--db", evil_db, "--format", form)
    assert code == 0
    assert "evil" in out
    assert not set(out) & {"\x1b", "\x9b"}
    assert "[red]" in out


def test_no_name_is_a_formula(ask: Ask, evil_db: str) -> None:
    _, out, _ = ask("customers", "--db", evil_db, "--format", "csv")
    named = {row["customer"] for row in csv.DictReader(io.StringIO(out))}
    assert {"'=HYPERLINK(1)", "'+1", "'-1", "'@x", "a,b�c"} <= named
    assert not [name for name in named if name.startswith(("=", "+", "-", "@"))]


# A running sink


def test_a_running_sink_answers_in_the_place_of_the_file(
    tmp_path: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = tmp_path / "usage.duckdb"
    with serve(db) as served:
        send(served.url, ["acme"] * 3 + ["globex"])
        done = run("query", "customers", "--endpoint", served.url, "--format", "json")
        assert (done.returncode, done.stderr) == (0, "")
        assert {row["customer"]: row["requests"] for row in json.loads(done.stdout)} == {"acme": 3, "globex": 1}
        monkeypatch.setattr("otel_usage.cli.served.DEFAULT_ENDPOINT", served.url)
        code, out, _ = ask("customers", "--db", str(db), "--format", "json")
        assert (code, json.loads(out)) == (0, json.loads(done.stdout))
        served.stop()
    assert json.loads(ask("customers", "--db", str(db), "--format", "json")[1]) == json.loads(done.stdout)


def test_a_sink_with_a_token_wants_it_for_queries(tmp_path: Path) -> None:
    with serve(tmp_path / "usage.duckdb", token="secret-token") as served:
        send(served.url, ["acme"], token="secret-token")
        refused = run("query", "customers", "--endpoint", served.url)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert "answered 401 (the token is missing or not known)" in one_line(refused.stderr)
        assert "USAGE_SINK_TOKEN" in refused.stderr
        assert "acme" in run("query", "customers", "--endpoint", served.url, token="secret-token").stdout
        served.stop()


def test_nobody_who_answers_is_one_line(ask: Ask) -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        code, out, err = ask("customers", "--endpoint", f"http://127.0.0.1:{port}")
    assert (code, out) == (2, "")
    assert f"no answer from 127.0.0.1:{port}: it cannot be reached" in one_line(err)


@pytest.fixture
def sink() -> Iterator[str]:
    with UsageStore(IN_MEMORY) as store:
        store.add(lately(*USAGE))
        handler = LocalSink(store)
        with HttpServer(handler, admit=handler.admit) as server:
            yield server.url


def post(url: str, body: bytes, **headers: str) -> tuple[int, Any]:
    sent = {"Content-Type": "application/json", **headers}
    with urllib3.PoolManager(retries=False, timeout=20) as pool:
        answer = pool.request("POST", f"{url}{QUERY_PATH}?format=tabular", body=body, headers=sent)
    return answer.status, json.loads(answer.data)


def query(apl: str) -> bytes:
    return json.dumps({"apl": apl}).encode()


def test_the_sink_answers_axioms_query_api(sink: str) -> None:
    status, body = post(sink, query("['api_usage'] | summarize n = count() by ['kind'] | order by n desc"))
    assert status == 200
    (table,) = body["tables"]
    assert table["fields"] == [{"name": "kind", "type": "string"}, {"name": "n", "type": "integer"}]
    assert table["columns"] == [["server", "client"], [3, 1]]
    assert body["status"]["isPartial"] is False


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (query("['api_usage'] | evaluate x()"), 400, "EvaluateOperator is not run locally"),
        (query("['spans'] | where nothing == 1"), 400, "nothing"),
        (query(".set x <| ['api_usage']"), 400, "is not run locally"),
        (b"not json", 400, "the body is not JSON"),
        (b"[" * 100_000, 400, "the body is not JSON"),
        (b'{"apl": 1}', 400, "the body is not JSON such as"),
        (b'{"apl": "x", "startTime": "now-1h"}', 400, "startTime and endTime are not read here"),
    ],
)
def test_what_the_sink_cannot_answer_it_says(sink: str, body: bytes, status: int, says: str) -> None:
    answered, said = post(sink, body)
    assert answered == status
    assert says in said["message"]


def test_a_web_page_cannot_make_the_sink_work(sink: str) -> None:
    body = query("['api_usage'] | count")
    assert post(sink, body, **{"Content-Type": "text/plain"})[0] == 415
    assert post(sink, body, Host="evil.example")[0] == 403
    with urllib3.PoolManager(retries=False) as pool:
        assert pool.request("OPTIONS", f"{sink}{QUERY_PATH}").status == 405
        assert pool.request("GET", f"{sink}{QUERY_PATH}").status == 405


def test_spans_are_taken_while_a_query_runs() -> None:
    slow = query(
        """['api_usage'] | extend k = 1 | join kind=inner (['api_usage'] | extend k = 1) on k
        | join kind=inner (['api_usage'] | extend k = 1) on k | summarize sum(strlen(strcat(name, name1, name2)))"""
    )
    answered: list[int] = []
    with UsageStore(IN_MEMORY) as store:
        store.add(span(n) for n in range(3000))
        with HttpServer(LocalSink(store)) as server:
            asking = threading.Thread(target=lambda: answered.append(post(server.url, slow)[0]))
            asking.start()
            while not (running := [each for each in threading.enumerate() if isinstance(each, threading.Timer)]):
                time.sleep(0.005)
            assert store.add([span(5000)]) == 1
            assert not answered, "the query was over before the span came"
            while asking.is_alive():  # an interruption is lost on a query that has not quite begun
                running[0].function(*running[0].args)
                asking.join(0.02)
    assert answered == [504]


def test_a_store_is_closed_also_while_it_is_asked() -> None:
    failures: list[Exception] = []

    def endless(store: UsageStore) -> None:
        try:
            store.read(
                "SELECT sum(a.i * b.i) FROM range(10000000) a(i), range(10000000) b(i)", {}, max_rows=1, seconds=60
            )
        except QueryError as error:
            failures.append(error)

    with UsageStore(IN_MEMORY) as store:
        asking = threading.Thread(target=endless, args=(store,))
        asking.start()
        while not store._reading:
            time.sleep(0.005)
    asking.join(10)
    assert len(failures) == 1


# Axiom


class Axiom:
    """A server that answers as Axiom's documentation says, and keeps what it was asked."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.answer = json_response(
            200,
            {
                "format": "tabular",
                "status": {"isPartial": False, "rowsMatched": 2},
                "tables": [
                    {
                        "name": "0",
                        "sources": [{"name": "api_usage"}],
                        "fields": [
                            {"name": "customer", "type": "string"},
                            {"name": "requests", "type": "integer", "agg": {"name": "count"}},
                        ],
                        "columns": [["acme", EVIL], [3, 1]],
                    }
                ],
                "datasetNames": ["api_usage"],
            },
        )

    def __call__(self, request: Request) -> Response:
        self.requests.append(request)
        if request.header("Authorization") != f"Bearer {TOKEN}":
            return json_response(403, {"code": 403, "message": "forbidden"})
        return self.answer


@pytest.fixture
def axiom() -> Axiom:
    return Axiom()


@pytest.fixture
def axiom_url(axiom: Axiom, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("AXIOM_QUERY_TOKEN", TOKEN)
    with HttpServer(axiom) as server:
        yield server.url


def test_axiom_is_asked_as_its_documentation_says(
    ask: Ask, axiom: Axiom, axiom_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AXIOM_DATASET", "usage-eu")
    before = datetime.now(UTC)
    code, out, err = ask("customers", "--source", "axiom", "--endpoint", axiom_url, "--since", "2h", "--format", "json")
    assert (code, err) == (0, "")
    assert json.loads(out) == [{"customer": "acme", "requests": 3}, {"customer": EVIL, "requests": 1}]
    assert "\x1b" not in out
    (request,) = axiom.requests
    assert (request.method, request.path, request.query) == ("POST", "/v1/query/_apl", "format=tabular")
    assert request.header("Content-Type") == "application/json"
    body = json.loads(request.body or b"")
    assert set(body) == {"apl", "startTime", "endTime"}
    assert body["apl"].startswith("['usage-eu']\n| where _time >= ago(2h)")
    assert "by trace_id, span_id" in body["apl"], "Axiom may hold a span twice"
    start, end = (datetime.fromisoformat(body[name]) for name in ("startTime", "endTime"))
    assert start <= before - timedelta(hours=2)
    assert end >= before


def test_the_path_is_that_of_the_place() -> None:
    assert query_url("https://eu-central-1.aws.edge.axiom.co") == (
        "https://eu-central-1.aws.edge.axiom.co/v1/query/_apl?format=tabular"
    )
    assert query_url("https://api.axiom.co/") == "https://api.axiom.co/v1/datasets/_apl?format=tabular"


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (json_response(404, {"code": 404, "message": "dataset not found"}), "no such dataset.*: dataset not found"),
        (json_response(400, {"message": "unknown\x1b[2J function"}), r"answered 400: unknown \[2J function"),
        (json_response(429, {"message": "rate limit exceeded"}), "too many queries.*: rate limit exceeded"),
        (json_response(400, {"message": f"bad token {TOKEN}"}), r"bad token \[token\]"),
        (Response(302, {"Location": "http://127.0.0.1:1/"}), "answered 302"),
        (Response(502, {}, b"<html>"), "answered 502"),
        (Response(200, {}, b"not json"), "answered 200 and no table"),
        (json_response(200, {"tables": []}), "answered 200 and no table"),
        (json_response(200, {"tables": [{"fields": [{"name": "a"}], "columns": [[1], [2]]}]}), "no table"),
    ],
)
def test_what_axiom_refuses_is_one_line(ask: Ask, axiom: Axiom, axiom_url: str, answer: Response, says: str) -> None:
    axiom.answer = answer
    code, _, err = ask("customers", "--source", "axiom", "--endpoint", axiom_url)
    assert code == 2
    assert re.search(says, one_line(err))
    assert TOKEN not in err


def test_no_rows_are_an_answer_of_axioms_too(ask: Ask, axiom: Axiom, axiom_url: str) -> None:
    for columns in ([], None, [[], []]):
        axiom.answer = json_response(
            200, {"tables": [{"fields": [{"name": "a"}, {"name": "b", "type": "string"}], "columns": columns}]}
        )
        code, out, err = ask("customers", "--source", "axiom", "--endpoint", axiom_url, "--format", "csv")
        assert (code, out, err) == (0, "a,b\n", "")


def test_a_token_that_axiom_does_not_know_is_said_and_not_shown(
    ask: Ask, axiom_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AXIOM_QUERY_TOKEN")
    monkeypatch.setenv("AXIOM_API_TOKEN", "xaat-ingest-only")
    code, _, err = ask("customers", "--source", "axiom", "--endpoint", axiom_url)
    assert code == 2
    assert "answered 403 (the token may not query this dataset): forbidden" in one_line(err)
    assert "ingest-only" not in err


def test_a_token_goes_over_no_open_line_and_a_personal_one_to_no_edge(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AXIOM_QUERY_TOKEN", TOKEN)
    _, _, err = ask("customers", "--source", "axiom", "--endpoint", "http://axiom.example")
    assert "the token of AXIOM_QUERY_TOKEN in the clear" in one_line(err)
    monkeypatch.setenv("AXIOM_QUERY_TOKEN", "xapt-mine")
    _, _, err = ask("customers", "--source", "axiom")
    assert "takes no personal tokens" in one_line(err)
    assert "xapt-mine" not in err


def test_more_rows_than_one_answer_holds_are_said(ask: Ask, axiom: Axiom, axiom_url: str) -> None:
    body = json.loads(axiom.answer.body)
    body["status"]["isPartial"] = True
    axiom.answer = json_response(200, body)
    code, _, err = ask("customers", "--source", "axiom", "--endpoint", axiom_url)
    assert code == 0
    assert "these are the first 2 rows only" in one_line(err)
