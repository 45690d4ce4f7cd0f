"""``otel-usage spool``: what is kept, seen and sent from outside of the service that has kept it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import otel_usage as usage
from otel_usage.testing import AxiomStub, RateLimited, Status
from tests.conftest import TOKEN


def spool(stub: AxiomStub, directory: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    settings = {
        "USAGE_SPOOL": str(directory),
        "USAGE_OTLP_ENDPOINT": stub.url,
        "AXIOM_API_TOKEN": TOKEN,
        **environment,
    }
    return subprocess.run(
        [str(Path(sys.executable).with_name("otel-usage")), "spool", *arguments],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def left(stub: AxiomStub, tmp_path: Path) -> Path:
    """A directory in which a service has left ten spans in five batches."""
    stub.fail_with(Status(503))
    usage.instrument(
        usage.UsageConfig(otlp_endpoint=stub.url, axiom_token=TOKEN, spool=tmp_path, schedule_delay=3600.0)
    )
    for _ in range(5):
        for _ in range(2):
            with usage.usage_span("work"):
                pass
        usage.flush(2.0)
    usage.uninstrument()
    stub.heal()
    stub.clear()
    return tmp_path


def test_a_service_whose_name_must_not_leave_finds_what_it_has_kept(
    stub: AxiomStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "billing-ann@example.com")
    stub.fail_with(Status(503))
    usage.instrument(usage.UsageConfig(otlp_endpoint=stub.url, axiom_token=TOKEN, spool=tmp_path))
    with usage.usage_span("work"):
        pass
    usage.uninstrument()
    stub.heal()
    ended = spool(stub, tmp_path, "replay")
    assert ended.returncode == 0, ended.stderr
    assert "1 spans accepted" in ended.stdout
    assert "ann@example.com" not in ended.stdout + ended.stderr


def test_status_says_what_is_kept_for_whom(stub: AxiomStub, left: Path) -> None:
    ended = spool(stub, left, "status")
    assert ended.returncode == 0
    assert f"to {stub.endpoint} (api_usage): 10 spans, 5 batches, 1 process, the oldest" in ended.stdout
    (file,) = json.loads(spool(stub, left, "status", "--json").stdout)
    assert (file["spans"], file["payloads"], file["origin"]["endpoint"]) == (10, 5, stub.endpoint)
    assert not stub.requests


def test_replay_sends_it_and_leaves_nothing(stub: AxiomStub, left: Path) -> None:
    ended = spool(stub, left, "replay")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "10 spans accepted, 0 rejected, 0 dropped" in ended.stdout
    assert len(stub.spans) == len(stub.unique_spans) == 10
    assert "0 spans" in spool(stub, left, "status").stdout
    assert "nothing is kept for" in spool(stub, left, "replay").stdout


def test_replay_that_fails_says_why_and_what_is_left(stub: AxiomStub, left: Path) -> None:
    stub.fail_with(Status(503))
    ended = spool(stub, left, "replay")
    assert ended.returncode == 2
    assert "10 are left (http_503)" in ended.stderr
    assert "10 spans" in spool(stub, left, "status").stdout


def test_replay_with_a_wrong_token_says_what_to_fix_and_never_the_token(stub: AxiomStub, left: Path) -> None:
    ended = spool(stub, left, "replay", AXIOM_API_TOKEN="xaat-wrong-secret")
    assert ended.returncode == 2
    assert "AXIOM_API_TOKEN" in ended.stderr
    assert "xaat-wrong-secret" not in ended.stderr + ended.stdout
    assert not stub.spans


def test_what_is_for_another_sink_is_not_sent_to_this_one(stub: AxiomStub, left: Path) -> None:
    with AxiomStub(TOKEN) as other:
        ended = spool(other, left, "replay")
        assert ended.returncode == 0
        assert "nothing is kept for" in ended.stdout
        assert not other.requests


def test_what_another_service_has_kept_is_left_alone_and_said(stub: AxiomStub, left: Path) -> None:
    ended = spool(stub, left, "replay", OTEL_SERVICE_NAME="another")
    assert ended.returncode == 0
    assert "left alone: what is kept for unknown_service:python to" in ended.stdout
    assert not stub.requests
    assert "10 spans accepted" in spool(stub, left, "replay", "--service", "unknown_service:python").stdout


def test_a_file_that_cannot_be_read_is_an_error(stub: AxiomStub, tmp_path: Path) -> None:
    (tmp_path / "0123456789abcdee.v1.sqlite3").write_bytes(b"no database")
    ended = spool(stub, tmp_path, "replay")
    assert ended.returncode == 2
    assert "SQLITE_NOTADB" in ended.stderr


def test_replay_waits_as_long_as_the_sink_asks(stub: AxiomStub, left: Path) -> None:
    stub.fail_with(RateLimited(reset_seconds=1), times=1)
    ended = spool(stub, left, "replay")
    assert (ended.returncode, len(stub.unique_spans)) == (0, 10)


def test_an_empty_place_is_said_to_be_empty(stub: AxiomStub, tmp_path: Path) -> None:
    ended = spool(stub, tmp_path, "status")
    assert (ended.returncode, ended.stdout) == (0, f"nothing is kept in {tmp_path}\n")


def test_where_nothing_is_on_disk_it_says_so(stub: AxiomStub, tmp_path: Path) -> None:
    for mode in ("memory", "off"):
        ended = spool(stub, tmp_path, "status", USAGE_SPOOL=mode)
        assert ended.returncode == 2
        assert f"USAGE_SPOOL is {mode}" in ended.stderr


def test_files_that_were_set_aside_are_shown(stub: AxiomStub, tmp_path: Path) -> None:
    (tmp_path / "0123456789abcdef.v1.sqlite3.20260101T000000.1.aside").write_bytes(b"damaged")
    (tmp_path / "0123456789abcdef.v9.sqlite3").write_bytes(b"of the future")
    (tmp_path / "0123456789abcdee.v1.sqlite3").write_bytes(b"no database")
    shown = spool(stub, tmp_path, "status").stdout
    assert "7 bytes, set aside" in shown
    assert "of another version" in shown
    assert "SQLITE_NOTADB" in shown
