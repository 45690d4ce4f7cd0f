"""`otel-usage axiom` makes a dashboard and monitors of the recipes, twice the same, and nothing of anybody else's."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from otel_usage.cli import main
from otel_usage.local.apl import run_apl
from otel_usage.local.axiom.dashboard import dashboard
from otel_usage.local.axiom.monitors import Limits, monitors
from otel_usage.local.messages import Response, json_response
from otel_usage.local.recipes import ONCE, recipes
from otel_usage.local.store import IN_MEMORY, UsageStore
from tests.axiom_management import EVERYTHING, TOKEN, ManagementStub
from tests.e2e.test_local_store_and_report import lately, span
from tests.e2e.test_serve_command import one_line

PLANS: Final = '{"free": 2, "api_pro": 1000}'
PRICES: Final = '{"providers": {"yahoo-finance": 0.5}}'
UID: Final = "otel-usage-api_usage"

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def axiom() -> ManagementStub:
    return ManagementStub()


@pytest.fixture
def url(axiom: ManagementStub, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("AXIOM_MANAGEMENT_TOKEN", TOKEN)
    monkeypatch.delenv("AXIOM_DATASET", raising=False)
    with axiom.served() as served:
        yield served


@pytest.fixture
def apply(url: str, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(["axiom", "apply", "--endpoint", url, *arguments])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


def monitor(axiom: ManagementStub, key: str) -> dict[str, Any]:
    (found,) = (each for each in axiom.monitors.values() if each["description"].endswith(f"/{key}]"))
    return found


def verdicts(out: str) -> list[str]:
    return [line.split()[0] for line in out.splitlines() if re.match("[a-z]", line)]


def test_a_dry_run_writes_nothing_and_says_what_it_would_do(apply: Run, axiom: ManagementStub) -> None:
    code, out, err = apply("--dry-run", "--plans", PLANS)
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "would create dashboard  API usage (api_usage)",
        "would create monitor    API usage (api_usage): requests are not served",
        "would create monitor    API usage (api_usage): no usage arrives",
        "would create monitor    API usage (api_usage): anonymous hot spot",
        "would create monitor    API usage (api_usage): customers near their plan's limit",
        "4 of the monitors tell nobody: --notifier names who is told",
    ]
    assert axiom.writes == []


def test_applied_twice_it_changes_nothing_the_second_time(apply: Run, axiom: ManagementStub) -> None:
    code, out, err = apply("--plans", PLANS, "--prices", PRICES)
    assert (code, err) == (0, "")
    assert verdicts(out) == ["created"] * 5
    assert axiom.writes == [("POST", "/v2/dashboards"), *[("POST", "/v2/monitors")] * 4]
    before = json.dumps([axiom.dashboards, axiom.monitors])
    axiom.requests.clear()
    code, out, err = apply("--plans", PLANS, "--prices", PRICES)
    assert (code, err) == (0, "")
    assert verdicts(out) == ["unchanged"] * 5
    assert axiom.writes == []
    assert json.dumps([axiom.dashboards, axiom.monitors]) == before


def test_what_differs_is_shown_and_changed_and_nothing_else(apply: Run, axiom: ManagementStub) -> None:
    apply()
    axiom.requests.clear()
    mine = monitor(axiom, "errors")
    mine |= {"notifierIds": ["not_1"], "disabled": True, "secondDelay": 60}
    code, out, _ = apply("--error-percent", "10", "--dry-run")
    assert code == 0
    assert "would change monitor    API usage (api_usage): requests are not served\n" in out
    assert "             threshold: 5.0 → 10.0\n" in out
    assert axiom.writes == []
    code, out, _ = apply("--error-percent", "10")
    assert verdicts(out).count("unchanged") == 3
    assert "2 of the monitors tell nobody" in out, "one of them has somebody"
    assert axiom.writes == [("PUT", f"/v2/monitors/{mine['id']}")]
    changed = monitor(axiom, "errors")
    assert changed["threshold"] == 10
    assert (changed["notifierIds"], changed["disabled"], changed["secondDelay"]) == (["not_1"], True, 60)


def test_who_is_told_is_set_where_it_is_said(apply: Run, axiom: ManagementStub) -> None:
    assert "tell nobody" not in apply("--notifier", "not_1", "--notifier", "not_2")[1]
    assert {tuple(each["notifierIds"]) for each in axiom.monitors.values()} == {("not_1", "not_2")}
    assert "notifierIds: ['not_1', 'not_2'] → ['not_3']" in apply("--notifier", "not_3")[1]


def test_a_dashboard_is_put_back_to_what_the_recipes_say(apply: Run, axiom: ManagementStub) -> None:
    apply()
    charts = axiom.dashboards[UID]["dashboard"]["charts"]
    (health,) = (chart for chart in charts if chart["id"] == "health")
    health["query"] = {"apl": "['api_usage'] | count"}
    del charts[-1]
    charts.append({"id": "mine", "type": "Note", "text": "x"})
    _, out, _ = apply("--dry-run")
    assert "charts: +upstreams, -mine, ~health" in out
    apply()
    assert axiom.writes[-1] == ("PUT", f"/v2/dashboards/uid/{UID}")
    assert axiom.dashboards[UID]["version"] == 2
    assert "mine" not in [chart["id"] for chart in axiom.dashboards[UID]["dashboard"]["charts"]]


def test_another_dataset_has_a_dashboard_and_monitors_of_its_own(apply: Run, axiom: ManagementStub) -> None:
    apply()
    first = json.dumps(axiom.monitors)
    code, out, _ = apply("--dataset", "usage.eu")
    assert code == 0
    assert "unchanged" not in out
    assert set(axiom.dashboards) == {UID, "otel-usage-usage-eu"}
    assert len(axiom.monitors) == 6
    assert json.dumps(dict(list(axiom.monitors.items())[:3])) == first


# What somebody else has made


def test_a_dashboard_of_somebody_else_is_left_and_nothing_is_done(apply: Run, axiom: ManagementStub) -> None:
    apply()
    axiom.dashboards[UID]["dashboard"]["description"] = "mine"
    axiom.monitors.clear()
    axiom.requests.clear()
    code, out, err = apply()
    assert code == 2
    assert "nothing was changed" in one_line(err)
    assert "in the way   dashboard  API usage (api_usage)\n" in out
    assert f"the dashboard {UID} was not made by otel-usage" in out
    assert axiom.writes == []


def test_a_monitor_of_somebody_else_with_the_name_is_left(apply: Run, axiom: ManagementStub) -> None:
    apply()
    monitor(axiom, "silence")["description"] = "mine \x1b[2J"
    axiom.requests.clear()
    code, out, _ = apply()
    assert code == 2
    assert "a monitor of that name was not made by otel-usage: rename it" in out
    assert axiom.writes == []


def test_a_clone_is_not_taken_for_the_original(apply: Run, axiom: ManagementStub) -> None:
    apply()
    axiom.monitors["mon_clone"] = {**monitor(axiom, "abuse"), "id": "mon_clone", "name": "copy"}
    axiom.requests.clear()
    code, out, _ = apply()
    assert code == 2
    assert "2 monitors end their description in [made by otel-usage: api_usage/abuse]" in out
    assert axiom.writes == []


# What goes wrong


@pytest.mark.parametrize("lacks", sorted(EVERYTHING - {"dashboards|update", "monitors|update"}))
def test_a_permission_that_is_lacking_is_said(apply: Run, axiom: ManagementStub, lacks: str) -> None:
    axiom.allowed = EVERYTHING - {lacks}
    code, _, err = apply()
    assert code == 2
    assert "answered 403 (the token lacks a permission: it needs create, read and update" in one_line(err)
    assert f"forbidden: {lacks}" in err
    axiom.allowed = EVERYTHING
    assert apply()[0] == 0
    assert len(axiom.monitors) == 3, "what was made before the refusal is made once"


def test_an_unknown_token_is_said_and_not_shown(apply: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AXIOM_MANAGEMENT_TOKEN", "xaat-other-secret")
    code, out, err = apply()
    assert (code, out) == (2, "")
    assert "answered 401 (the token is missing, expired or not known: set AXIOM_MANAGEMENT_TOKEN" in one_line(err)
    assert "secret" not in err


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (json_response(429, {"message": "rate limit exceeded"}), "too many requests: run this again in a minute"),
        (json_response(429, {}, {"X-RateLimit-Reset": "soon"}), "too many requests: run this again in a minute"),
        (json_response(503, {}), "answered 503 (Axiom has a problem: run this again later)"),
        (Response(502, {}, b"<html>"), "answered 502 (Axiom has a problem"),
        (json_response(400, {"message": f"bad \x1b[2J {TOKEN}"}), "400 (it does not take this): bad  [2J [token]"),
        (json_response(302, {}, {"Location": "http://127.0.0.1:1/"}), "answered 302"),
        (Response(200, {}, b"<html>"), "answered, but not as Axiom does"),
        (json_response(200, {"message": "hello"}), "answered, but not as Axiom does"),
        (json_response(200, ["x"]), "answered, but not as Axiom does"),
        (json_response(200, [{"name": "without an id"}]), "answered, but not as Axiom does"),
    ],
)  # fmt: skip
def test_what_axiom_refuses_is_one_line(apply: Run, axiom: ManagementStub, answer: Response, says: str) -> None:
    if b"html" in answer.body and answer.status == 200:
        axiom.next = [json_response(200, []), answer]  # for the dashboard
    else:
        axiom.next = [answer]
    code, out, err = apply()
    assert (code, out) == (2, "")
    assert says in one_line(err)
    assert "\x1b" not in err


def test_a_dashboard_without_a_version_is_not_axioms(apply: Run, axiom: ManagementStub) -> None:
    axiom.next = [json_response(200, []), json_response(200, {"uid": UID, "dashboard": {}})]
    code, _, err = apply()
    assert code == 2
    assert "answered, but not as Axiom does" in one_line(err)


def test_how_long_a_limit_lasts_is_said(apply: Run, axiom: ManagementStub) -> None:
    axiom.next = [json_response(429, {}, {"X-RateLimit-Reset": str(int(time.time()) + 40)})]
    err = apply()[2]
    assert any(f"run this again in {seconds} s" in err for seconds in range(1, 41))


@pytest.mark.parametrize(("status", "says"), [(409, "made it meanwhile"), (412, "changed it meanwhile")])
def test_a_race_is_said_and_ends_well_when_run_again(apply: Run, axiom: ManagementStub, status: int, says: str) -> None:
    empty = [json_response(200, []), json_response(404, {"code": "x", "message": "x"})]
    axiom.next = [*empty, json_response(status, {"code": "x", "message": "x"})]
    code, _, err = apply()
    assert code == 2
    assert f"somebody has {says}: run this again" in one_line(err)
    assert apply()[0] == 0


def test_a_dashboard_that_was_changed_meanwhile_is_not_overwritten(apply: Run, axiom: ManagementStub) -> None:
    apply()
    stale = json.loads(json.dumps(axiom.dashboards[UID]))
    stale["dashboard"]["refreshTime"] = 60
    axiom.dashboards[UID]["version"] = 7
    axiom.next = [json_response(200, list(axiom.monitors.values())), json_response(200, stale)]
    code, _, err = apply()
    assert (code, axiom.dashboards[UID]["version"]) == (2, 7)
    assert "answered 412" in one_line(err)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--dataset", "a b"], "'a b' is not a dataset's name"),
        (["--plans", "{"], "plans: it takes JSON such as"),
        (["--prices", "@/nowhere/x"], "/nowhere/x cannot be read"),
        (["--endpoint", "http://axiom.example"], "in the clear: use https://"),
        (["--endpoint", "http://127.0.0.1:1"], "no answer from 127.0.0.1:1: it cannot be reached"),
    ],
)
def test_what_cannot_be_done_is_one_line(apply: Run, arguments: list[str], says: str) -> None:
    code, out, err = apply(*arguments)
    assert (code, out) == (2, "")
    assert says in one_line(err)


@pytest.mark.parametrize(
    ("token", "says"),
    [
        ("", "set AXIOM_MANAGEMENT_TOKEN"),
        ("xapt-secret", "it begins with xaat-, and is not shown here"),
        ("xaat-se\ncret", "is no API token"),
    ],
)
def test_a_token_that_is_none_is_not_sent(
    apply: Run, axiom: ManagementStub, monkeypatch: pytest.MonkeyPatch, token: str, says: str
) -> None:
    monkeypatch.setenv("AXIOM_MANAGEMENT_TOKEN", token)
    code, out, err = apply()
    assert (code, out, axiom.requests) == (2, "", [])
    assert says in one_line(err)
    assert "cret" not in err


@pytest.mark.parametrize(
    "arguments", [["--error-percent", "0"], ["--silent-minutes", "1.5"], ["--plan-percent", "nan"]]
)
def test_a_limit_that_is_none_is_refused(apply: Run, capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        apply(*arguments)
    assert ended.value.code == 2
    assert "it takes a" in capsys.readouterr().err


# What is made


def test_files_have_the_same_content(apply: Run, axiom: ManagementStub, tmp_path: Path) -> None:
    assert main(["axiom", "export", str(tmp_path / "to"), "--plans", PLANS]) == 0
    apply("--plans", PLANS)
    files = {path.name: json.loads(path.read_text()) for path in (tmp_path / "to").iterdir()}
    assert set(files) == {"dashboard.json", *(f"monitor-{key}.json" for key in ("errors", "silence", "abuse", "plans"))}
    assert files["dashboard.json"]["charts"] == axiom.dashboards[UID]["dashboard"]["charts"]
    assert files["monitor-plans.json"].items() <= monitor(axiom, "plans").items()


def test_files_that_cannot_be_written_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert main(["axiom", "export", str(tmp_path / "file")]) == 2
    assert "cannot be written" in one_line(capsys.readouterr().err)


def test_every_recipe_is_a_chart_unless_it_lacks_what_it_needs() -> None:
    plain = [chart["id"] for chart in dashboard("api_usage", {}).content["charts"]]
    assert set(plain) == {"note", *recipes()} - {"costs", "plans", "story"}
    full = dashboard("api_usage", {"plans": PLANS, "prices": PRICES}).content["charts"]
    assert {chart["id"] for chart in full} == {"note", *recipes()} - {"story"}
    for chart in full[1:]:
        lines = recipes()[chart["id"]].template.splitlines()
        assert chart["query"]["apl"].startswith("['api_usage']\n")
        assert ONCE in chart["query"]["apl"], "Axiom may hold a span twice"
        kept = [line for line in lines if "{" not in line]
        assert [line for line in chart["query"]["apl"].splitlines() if line in kept] == kept
        assert (chart["id"] in ("plans", "movers")) == ("ago(" in chart["query"]["apl"]), "the dashboard has a time"


def test_the_queries_run_and_the_monitors_compare_one_number_of_what_they_should() -> None:
    acme = {"usage__customer__id": "acme", "usage__reason": "ok", "usage__plan": "free"}
    globex = {"usage__customer__id": "globex", "usage__reason": "rate_limit", "usage__plan": "api_pro"}
    nobody = {"usage__auth__kind": "anon", "usage__tier": 0, "http__route": "/x", "usage__reason": "ok"}
    whose: list[dict[str, Any]] = [acme] * 15 + [globex] * 5 + [nobody] * 10
    spans = [span(number, **attributes) for number, attributes in enumerate(whose)]
    made = monitors("api_usage", limits=Limits(), plans=PLANS)
    with UsageStore(IN_MEMORY) as store, UsageStore(IN_MEMORY) as empty:
        store.add(lately(*spans))
        answers = {each.key: run_apl(store, each.content["aplQuery"]) for each in made}
        for chart in dashboard("api_usage", {"plans": PLANS, "prices": PRICES}).content["charts"][1:]:
            assert run_apl(store, chart["query"]["apl"]).columns
        silent = {each.key: run_apl(empty, each.content["aplQuery"]).rows for each in made}
    assert answers["errors"].rows == ((100.0 * 5 / 30,),)
    assert answers["silence"].rows == ((30,),)
    assert answers["abuse"].rows == (("/x", "(unknown)", 10),)
    assert set(answers["plans"].rows) == {("acme", 750.0), ("globex", 0.5)}
    for each in made:
        last = each.content["aplQuery"].splitlines()[-1]
        assert last.startswith("| summarize "), "Axiom's threshold monitors want it"
        numbers = [kind for kind in answers[each.key].types if kind in ("integer", "float")]
        assert len(numbers) == 1, "Axiom compares every number of an answer"
    assert [row for row in silent["silence"] if row[0]] == []
    assert silent["errors"] in ((), ((None,),))
