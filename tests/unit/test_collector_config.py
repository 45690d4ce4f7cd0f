"""What is shipped in ``collector-config/`` is what the command makes, and lets out what the schema names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_usage.cli import main
from otel_usage.collector import PIPELINES, Choices, pipeline
from otel_usage.collector.forms import re2 as form_in_re2
from otel_usage.collector.secrets import HARMLESS, re2
from otel_usage.errors import ConfigError
from otel_usage.redaction import redact
from otel_usage.schema import ATTRIBUTES, PERSONAL_KEYS

SHIPPED = Path(__file__).parents[2] / "collector-config"


@pytest.mark.parametrize("name", PIPELINES)
def test_the_shipped_file_is_what_the_command_prints(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["collector-config", name]) == 0
    assert capsys.readouterr().out == (SHIPPED / f"{name}.yaml").read_text(), "make docs writes them anew"


def test_all_are_written_into_a_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["collector-config", "--write", str(tmp_path)]) == 0
    assert sorted(path.stem for path in tmp_path.iterdir()) == list(PIPELINES)
    assert capsys.readouterr().out.splitlines() == [str(tmp_path / f"{name}.yaml") for name in PIPELINES]
    assert main(["collector-config", "--write", str(tmp_path / "nowhere")]) == 2
    assert "cannot be written: No such file or directory" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["agent", "--write", "."], ["no-such"]])
def test_it_takes_one_pipeline_or_a_directory(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["collector-config", *arguments])


@pytest.mark.parametrize("name", PIPELINES)
def test_no_mark_is_left_and_no_personal_key_leaves_unless_it_is_chosen(name: str) -> None:
    text, chosen = pipeline(name), pipeline(name, Choices(personal=frozenset({"client.address"})))
    assert not re.search(r"@[a-z_]+@", text)
    assert not [key for key in PERSONAL_KEYS if f'"{key}"' in text]
    assert [key for key in PERSONAL_KEYS if f'"{key}"' in chosen] in (["client.address"], [])
    assert all(f"'{a.key}'" in text for a in ATTRIBUTES if a.key not in PERSONAL_KEYS) or "redaction/usage:" not in text


def test_what_is_not_personal_cannot_be_chosen_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match=r"--personal.*http\.route.*client\.address"):
        Choices(personal=frozenset({"http.route"}))
    assert main(["collector-config", "agent", "--personal", "nothing"]) == 2
    assert "nothing" in capsys.readouterr().err


def test_addresses_are_searched_for_unless_they_are_allowed() -> None:
    assert len(pipeline("agent", Choices(email_addresses=True))) < len(pipeline("agent"))


def test_a_pattern_that_has_no_twin_is_not_forgotten() -> None:
    with pytest.raises(LookupError, match="looks ahead"):
        re2(r"new(?=thing)")
    assert re2(r"x{3,}+[+]++") == "x{3,}[+]+"


def test_a_form_keeps_its_meaning() -> None:
    forms = [a.form for a in ATTRIBUTES if a.form is not None]
    assert not [form.pattern for form in forms if "(?=" in form_in_re2(form) and "://" not in form.pattern]
    assert form_in_re2(re.compile(r"[\w.-]{1,9}|[\u2028\ud800-\udfff]")) == r"[\pL\pN_.-]{1,9}|[\x{2028}\x{fffd}]"


@settings(max_examples=500, deadline=None)
@given(st.from_regex(re.compile(HARMLESS, re.ASCII), fullmatch=True))
def test_the_package_finds_nothing_in_what_a_collector_does_not_search(text: str) -> None:
    assert redact(text) == text
