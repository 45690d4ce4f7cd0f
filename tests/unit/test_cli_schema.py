"""``otel-usage schema`` shows the schema, and the command line fails in one line."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from otel_usage.cli import COMMANDS, main
from otel_usage.schema import ATTRIBUTES, DEFAULT_CAP, SCHEMA_URL, Sensitivity, ValueType


def test_the_table_has_one_line_for_each_attribute(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["key", "type", "on", "sensitivity", "cap", "doc"]
    assert [line.split()[0] for line in lines[: len(ATTRIBUTES)]] == [attribute.key for attribute in ATTRIBUTES]
    assert lines[-1] == f"schema_url {SCHEMA_URL}"
    for line, attribute in zip(lines, ATTRIBUTES, strict=False):
        assert line.endswith(attribute.doc)
        assert attribute.type in line
        assert attribute.sensitivity in line


def test_the_json_has_everything_that_the_schema_says(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "--json"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema["schema_url"] == SCHEMA_URL
    assert [described["key"] for described in schema["attributes"]] == [attribute.key for attribute in ATTRIBUTES]
    for described, attribute in zip(schema["attributes"], ATTRIBUTES, strict=True):
        assert ValueType(described["type"]) is attribute.type
        assert Sensitivity(described["sensitivity"]) is attribute.sensitivity
        assert set(described["on"]) == attribute.on
        assert described["cap"] == (attribute.cap if attribute.type is ValueType.STRING else None)
        assert (described["doc"], described["example"]) == (attribute.doc, attribute.example)
        assert tuple(described["values"]) == attribute.values
        assert described["closed"] is attribute.closed
        assert described["form"] == (attribute.form.pattern if attribute.form is not None else None)
        assert tuple(described["former_keys"]) == attribute.former_keys
        assert described["conventional"] == (not attribute.key.startswith("usage."))
    caps = {described["key"]: described["cap"] for described in schema["attributes"]}
    assert (caps["usage.plan"], caps["usage.referer"], caps["usage.tier"]) == (DEFAULT_CAP, 512, None)
    assert {
        described["key"] for described in schema["attributes"] if described["values"] and not described["closed"]
    } == {
        "usage.auth.kind",
        "usage.reason",
    }


def test_every_command_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    for command in COMMANDS:
        with pytest.raises(SystemExit) as stop:
            main([command.NAME, "--help"])
        assert stop.value.code == 0
        assert command.SUMMARY.split()[0] in capsys.readouterr().out


@pytest.mark.parametrize("argv", [[], ["unheard-of"], ["report", "--since", "yesterday"], ["serve", "--port", "65536"]])
def test_wrong_arguments_end_with_2_and_no_traceback(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert stop.value.code == 2
    assert "usage: otel-usage" in capsys.readouterr().err


def test_the_schema_needs_no_extra_and_loads_nothing_heavy() -> None:
    code = (
        "import sys; from otel_usage.cli import main; main(['schema']);"
        "heavy = {'duckdb', 'duckdb_kql', 'rich', 'urllib3'} & set(sys.modules);"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_reader_that_leaves_early_causes_no_complaint() -> None:
    command = [
        sys.executable,
        "-c",
        "import sys; from otel_usage.cli import main; sys.exit(main(['schema', '--json']))",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
