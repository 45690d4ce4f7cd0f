"""``otel-usage report --html`` writes one page that needs nothing else, whatever the names in it are."""

from __future__ import annotations

import base64
import hashlib
import re
import stat
import subprocess
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Final

import pytest

from otel_usage.cli import main
from otel_usage.local.apl import run_apl
from otel_usage.local.charts import Bar, bars, lines, number
from otel_usage.local.page import page
from otel_usage.local.report import OVER_TIME, build_report
from otel_usage.local.store import IN_MEMORY, UsageStore
from tests.e2e.test_local_store_and_report import lately, span, traffic
from tests.e2e.test_serve_command import one_line, run, send, serve
from tests.needs import needed_program

EVIL: Final = "</title><script>alert(1)</script>\"'><img src=x onerror=alert(2)> & \x1b[2J\x9b \x00"
VOID: Final = {"meta", "img", "br", "hr", "input", "link"}
SVG_EMPTY: Final = {"rect", "line", "polyline"}


class Parsed(HTMLParser):
    """A page's elements with their attributes. It fails where one is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in SVG_EMPTY
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def made(store: UsageStore, since: timedelta | None = None) -> str:
    return page(build_report(lambda apl: run_apl(store, apl), since, names=OVER_TIME))


@pytest.fixture(scope="module")
def full() -> str:
    with UsageStore(IN_MEMORY) as store:
        store.add(lately(*traffic()))
        tokens = {"gen_ai__request__model": "gpt-5", "gen_ai__usage__input_tokens": 10, "usage__customer__id": "acme"}
        store.add(lately(span(5000, "llm", usage__reason="ok", **tokens)))
        return made(store)


def test_every_part_has_a_chart_its_numbers_and_how_they_are_counted(full: str) -> None:
    parsed = Parsed(full)
    count = Counter(tag for tag, _ in parsed.elements)
    assert count["section"] == count["details"] == len(OVER_TIME)
    assert len([each for each in parsed.all("svg") if each.get("role") == "img"]) == len(OVER_TIME)
    assert count["table"] == len(OVER_TIME) - 1, "a course over time is not read as rows"
    assert "600 requests" in full
    assert full.count("| summarize arg_max") >= len(OVER_TIME)
    with UsageStore(IN_MEMORY) as store:
        store.add(lately(*traffic()))
        (first, *_) = build_report(lambda apl: run_apl(store, apl)).rows("customers")
    row = f'<td>{first["customer"]}</td><td class="n">{first["requests"]}</td><td class="n">{first["errors"]}</td>'
    assert row in full


def test_nothing_is_loaded_and_nothing_runs(full: str) -> None:
    parsed = Parsed(full)
    tags = {tag for tag, _ in parsed.elements}
    assert not tags & {"script", "link", "img", "iframe", "object", "form", "a", "base"}
    for tag, attributes in parsed.elements:
        assert not [name for name in attributes if name.startswith("on") or name in {"style", "src", "href"}], tag
    assert "http://" not in full
    assert "https://" not in full
    assert "url(" not in full


def test_the_policy_lets_in_the_one_style_and_nothing_else(full: str) -> None:
    (policy,) = (each["content"] for each in Parsed(full).all("meta") if "http-equiv" in each)
    (style,) = re.findall("<style>(.*?)</style>", full, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def test_it_is_made_for_phones_for_the_dark_and_for_keyboards(full: str) -> None:
    parsed = Parsed(full)
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in parsed.all("meta")
    assert "prefers-color-scheme: dark" in full
    assert "color-scheme: light dark" in full
    assert all(each.get("tabindex") == "0" and each.get("aria-label") for each in parsed.all("div"))
    assert all(each.get("scope") == "col" for each in parsed.all("th"))
    assert parsed.all("html") == [{"lang": "en"}]


def test_no_name_is_more_than_text() -> None:
    with UsageStore(IN_MEMORY) as store:
        facts = {"usage__customer__id": EVIL, "http__route": EVIL, "usage__reason": EVIL, "usage__provider": EVIL}
        store.add(lately(span(0, **facts), span(1, "upstream", **facts)))
        text = made(store)
    parsed = Parsed(text)
    assert not {tag for tag, _ in parsed.elements} & {"script", "img"}
    assert [tag for tag, _ in parsed.elements].count("title") >= 2
    assert "alert(1)" in "".join(parsed.words)
    assert not set(text) & {"\x1b", "\x9b", "\x00"}


def test_an_empty_report_is_a_page_too() -> None:
    with UsageStore(IN_MEMORY) as store:
        text = made(store)
    assert "No spans yet." in "".join(Parsed(text).words)


# The charts


def test_bars_are_to_one_scale_and_long_names_are_cut() -> None:
    svg = bars("T", ("a", "b"), [Bar("x" * 60, (100, 50)), Bar("<y>", (25, 0))])
    widths = re.findall(r'width="([0-9.]+)" height="6" class="s([01])"', svg)
    assert widths == [("360.0", "0"), ("180.0", "1"), ("90.0", "0"), ("0.0", "1")]
    assert f">{'x' * 45}…<" in svg
    assert f"<title>{'x' * 60}: 100 / 50</title>" in svg
    assert "&lt;y&gt;" in svg
    assert Parsed(bars("T", ("a",), [Bar("zero", (0,))])).all("rect")


def test_a_minute_without_counts_is_zero() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    counts = [(start + timedelta(minutes=n), (10,)) for n in (3, 0, 1)]
    (line,) = Parsed(lines("T", ("a",), counts)).all("polyline")
    assert line["points"] == "0.0,14.0 120.0,14.0 240.0,134.0 360.0,14.0"


def test_more_minutes_than_can_be_told_apart_are_added_up() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    svg = lines("T", ("a",), [(start + timedelta(minutes=n), (1,)) for n in range(1440)])
    (line,) = Parsed(svg).all("polyline")
    assert len((line["points"] or "").split()) == 180
    assert ">8 in 8m<" in svg
    assert ">2026-01-01 00:00<" in svg
    assert ">2026-01-01 23:52 UTC<" in svg


def test_one_minute_is_a_line() -> None:
    (line,) = Parsed(lines("T", ("a",), [(datetime(2026, 1, 1, tzinfo=UTC), (3,))])).all("polyline")
    assert line["points"] == "0.0,14.0 360.0,14.0"


def test_numbers_read_well() -> None:
    assert [number(each) for each in (0, 12, 1234567, 0.12345, 83.97, 1234.5)] == [
        "0", "12", "1,234,567", "0.1235", "83.97", "1,234",
    ]  # fmt: skip


# The command


def test_the_page_is_written_and_is_the_users_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    db, path = tmp_path / "usage.duckdb", tmp_path / "report.html"
    with UsageStore(db) as store:
        store.add(lately(*traffic()))
    assert main(["report", "--db", str(db), "--html", str(path), "--since", "1h", "--customer", "acme"]) == 0
    text = path.read_text("utf-8")
    assert "requests of acme, " in text
    assert "globex" not in text
    assert "ago(1h)" in text
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert main(["report", "--db", str(db), "--html", "/nowhere/x.html"]) == 2
    assert "/nowhere/x.html cannot be written" in one_line(capsys.readouterr().err)


def test_a_running_sink_is_asked(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    with serve(tmp_path / "usage.duckdb") as served:
        send(served.url, ["acme"] * 3)
        done = run("report", "--endpoint", served.url, "--html", str(path))
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        shown = run("report", "--endpoint", served.url, "--customer", "acme", "--since", "1h")
        assert shown.stdout.startswith("3 requests of acme, 0 errors, in the last 1h\n")
        served.stop()
    assert "3 requests, 0 errors" in path.read_text("utf-8")


def test_a_browser_shows_it_and_has_no_complaint(tmp_path: Path) -> None:
    chromium = needed_program("chromium")
    path = tmp_path / "report.html"
    with UsageStore(IN_MEMORY) as store:
        store.add(lately(*(replace(each, name=EVIL) for each in traffic()), span(9000, usage__customer__id=EVIL)))
        path.write_text(made(store), "utf-8")
    command = [
        chromium, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0",
        f"--user-data-dir={tmp_path / 'profile'}", "--window-size=360,800", f"--screenshot={tmp_path / 'page.png'}",
        path.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "CONSOLE" not in done.stderr, "the style, which the policy lets in, is refused, or something else is"
    assert (tmp_path / "page.png").stat().st_size > 10_000
