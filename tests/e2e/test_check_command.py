"""``otel-usage check`` tells what would be observed by trying it, and why the rest would not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import otel_usage
from otel_usage.cli import main
from otel_usage.instrumentation.integrations import INTEGRATIONS, Integration, Role
from otel_usage.instrumentation.survey import survey
from otel_usage.instrumentation.unobserved import UNOBSERVED

SOURCE = Path(otel_usage.__file__).parents[1]
FUNCTIONS = "__call__", "full_dispatch_request", "handle_exception"
WHOLE = """
class Flask:
    def __call__(self, environ, start_response): ...
    def full_dispatch_request(self): ...
    def handle_exception(self, e): ...
"""


def a_flask(folder: Path, source: str, version: str = "99.1") -> Path:
    """An installation of a Flask that never was, which goes before the real one."""
    package, about = folder / "flask", folder / f"flask-{version}.dist-info"
    package.mkdir(parents=True)
    about.mkdir()
    (package / "__init__.py").touch()
    (package / "app.py").write_text(source)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: flask\nVersion: {version}\n")
    return folder


def checked(first: Path | None = None, **environment: str) -> dict[str, Any]:
    """What the command finds, by library, in a process whose imports look into ``first`` first."""
    paths = [*([str(first)] if first else []), str(SOURCE)]
    found = json.loads(printed(*paths, arguments=("--json",), **environment))
    return {"switches": found["switches"], **{each["library"]: each for each in found["libraries"]}}


def surveyed(library: str, first: Path) -> dict[str, Any]:
    """What the command would find of one library, without the seconds that importing all others takes."""
    program = (
        "import json, dataclasses; from otel_usage.instrumentation import integrations, survey;"
        f"(found,) = survey.survey([each for each in integrations.INTEGRATIONS if each.library == {library!r}])[:1];"
        "print(json.dumps(dataclasses.asdict(found)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": f"{first}:{SOURCE}"}, capture_output=True, timeout=60, text=True, check=True,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def printed(*paths: str, arguments: tuple[str, ...] = (), **environment: str) -> str:
    """What the command prints, which is nothing on standard error."""
    done = subprocess.run(
        [sys.executable, "-c", f"from otel_usage.cli import main; main({['check', *arguments]})"],
        env={"PYTHONPATH": ":".join(paths), **environment},
        capture_output=True,
        timeout=60,
        text=True,
        check=True,
    )
    assert not done.stderr
    return done.stdout


def test_every_integration_is_found_and_all_that_is_installed_is_observed_whole() -> None:
    found = checked()
    assert set(found) == {"switches", *(each.library for each in INTEGRATIONS), *(set(found) & set(UNOBSERVED))}
    for each in INTEGRATIONS:
        assert found[each.library]["state"] in ("observed", "not installed"), found[each.library]
    assert found["FastAPI"]["state"] == found["threads"]["state"] == "observed"


@pytest.mark.parametrize(
    ("source", "state", "reasons"),
    [
        (WHOLE, "observed", []),
        (
            WHOLE.replace("def handle_exception(self, e)", "def handle_errors(self, e)"),
            "observed in part",
            ["flask.app.Flask.handle_exception is not there"],
        ),
        (
            WHOLE.replace("environ, start_response", "environ, start_response, more"),
            "observed in part",
            ["flask.app.Flask.__call__ takes other arguments than are known here"],
        ),
        ("raise RuntimeError('what it says')", "not observed", ["flask.app cannot be imported (RuntimeError)"]),
        ("raise SystemExit('what it says')", "not observed", ["flask.app cannot be imported (SystemExit)"]),
        (
            "",
            "not observed",
            [f"flask.app.Flask.{name} is not there" for name in FUNCTIONS],
        ),
    ],
    ids=[
        "whole",
        "without a function",
        "with other arguments",
        "cannot be imported",
        "ends the process",
        "another library",
    ],
)
def test_a_library_that_is_not_as_it_is_known(tmp_path: Path, source: str, state: str, reasons: list[str]) -> None:
    found = surveyed("Flask", a_flask(tmp_path, source))
    assert (found["state"], found["installed"], found["reasons"]) == (state, "99.1", reasons)


def test_what_a_library_prints_is_no_part_of_the_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "talkative.py").write_text("print('hello')")
    monkeypatch.syspath_prepend(tmp_path)
    survey([Integration("Talkative", Role.CLIENT, "", "threads", ("talkative",))])
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "hello\n")


@pytest.mark.parametrize(
    ("absent", "library", "state"),
    [
        ("pika", "Dramatiq", "observed"),
        ("httpx2", "hishel", "observed"),
        ("gevent", "Gunicorn's applications", "observed"),
        ("starlette", "Strawberry GraphQL", "observed"),
        ("websockets", "Sanic", "observed in part"),
    ],
)
def test_what_a_library_can_do_without_is_not_missed(tmp_path: Path, absent: str, library: str, state: str) -> None:
    (tmp_path / f"{absent}.py").write_text("raise ImportError")
    source = (
        "from otel_usage.instrumentation.integrations import INTEGRATIONS\n"
        "from otel_usage.instrumentation.survey import survey\n"
        f"print(survey([each for each in INTEGRATIONS if each.library == {library!r}])[0].state)"
    )
    environment = {"PYTHONPATH": f"{tmp_path}:{SOURCE}"}
    done = subprocess.run([sys.executable, "-c", source], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == state


def test_what_is_installed_and_nothing_here_observes(tmp_path: Path) -> None:
    about = tmp_path / "pycurl-7.45.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: pycurl\nVersion: 7.45\n")
    found = checked(tmp_path)["pycurl"]
    assert (found["state"], found["installed"], found["reasons"]) == ("not observed", "7.45", [UNOBSERVED["pycurl"]])


def test_a_version_that_is_too_old_to_be_observed(tmp_path: Path) -> None:
    about = tmp_path / "aiohttp-3.9.5.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: aiohttp\nVersion: 3.9.5\n")
    found = surveyed("aiohttp's client", tmp_path)
    assert (found["state"], found["installed"]) == ("not observed", "3.9.5")
    assert found["reasons"] == ["it is observed from version 3.12 on"]


def test_no_library_is_both() -> None:
    assert not {each.distribution for each in INTEGRATIONS} & set(UNOBSERVED)


def test_what_is_switched_on_is_said(tmp_path: Path) -> None:
    assert checked()["switches"] == ["USAGE_TELEMETRY is not 1: usage is off"]
    assert checked(USAGE_TELEMETRY="1", OTEL_PYTHON_DISABLED_INSTRUMENTATIONS="redis, usage")["switches"] == [
        "USAGE_TELEMETRY=1: usage is on",
        "AXIOM_API_TOKEN is not set: nothing is sent",
        "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS names it: opentelemetry-instrument does not switch it on",
    ]


def test_a_setting_that_is_wrong_is_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("USAGE_TELEMETRY", "1")
    monkeypatch.setenv("USAGE_FLUSH", "sometimes")
    assert main(["check"]) == 2
    assert capsys.readouterr().err.startswith("otel-usage check: USAGE_FLUSH")


def test_the_text_says_the_same(tmp_path: Path) -> None:
    source = WHOLE.replace("full_dispatch_request", "another")
    first, _, *lines = printed(str(a_flask(tmp_path, source)), str(SOURCE)).splitlines()
    assert first == "USAGE_TELEMETRY is not 1: usage is off"
    assert lines[0] == "observed:"
    at = lines.index("observed in part:")
    assert lines[at + 1].split() == ["Flask", "server", "99.1", "tested", "with", "3.1"]
    assert lines[at + 2] == "    flask.app.Flask.full_dispatch_request is not there"
