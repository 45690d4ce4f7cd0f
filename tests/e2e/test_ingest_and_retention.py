"""Files of a Collector are stored once, however often they are read, and what is too old is removed."""

from __future__ import annotations

import gzip
import io
import json
import logging
import subprocess
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import urllib3

from otel_usage.cli import main
from otel_usage.local.otlp import MAX_BODY_BYTES
from otel_usage.local.otlp_files import BATCH, ingest
from otel_usage.local.retention import Retention
from otel_usage.local.store import IN_MEMORY, UsageStore
from tests.e2e.test_local_store_and_report import START, span
from tests.e2e.test_serve_command import CLI, environment, one_line, serve


def line(*numbers: int, start: int = START, customer: str = "acme") -> bytes:
    """One export as the Collector's file exporter writes it: ids in hex, enumerations as numbers."""
    spans: list[dict[str, Any]] = [
        {
            "traceId": f"{number + 1:032x}",
            "spanId": f"{number + 1:016x}",
            "parentSpanId": "",
            "name": "GET",
            "kind": 2,
            "startTimeUnixNano": str(start),
            "endTimeUnixNano": str(start + 5_000_000),
            "attributes": [
                {"key": "usage.kind", "value": {"stringValue": "request"}},
                {"key": "usage.customer.id", "value": {"stringValue": customer}},
                {"key": "usage.tier", "value": {"intValue": "2"}},
            ],
            "status": {},
        }
        for number in numbers
    ]
    scope = {"scope": {"name": "otel_usage"}, "spans": spans}
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "gateway"}}]}
    return json.dumps({"resourceSpans": [{"resource": resource, "scopeSpans": [scope]}]}).encode() + b"\n"


def test_a_file_is_stored_once_however_often_it_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, db = tmp_path / "spans.json", tmp_path / "usage.duckdb"
    file.write_bytes(line(0, 1) + b"\n" + line(2) + line(1) + b'{"resourceMetrics": []}\n')
    assert main(["ingest", str(file), "--db", str(db)]) == 0
    assert capsys.readouterr() == (f"{file}: 3 new spans of 4\n", "")
    assert main(["ingest", str(file), "--db", str(db)]) == 0
    assert capsys.readouterr().out == f"{file}: 0 new spans of 4\n"
    assert db.stat().st_mode & 0o777 == 0o600
    assert main(["query", "customers", "--db", str(db), "--since", "3650d", "--format", "csv"]) == 0
    assert "acme,3,0,0,0.0" in capsys.readouterr().out


def test_compressed_files_and_standard_input_are_read_too(tmp_path: Path) -> None:
    file, db = tmp_path / "spans.json.gz", tmp_path / "usage.duckdb"
    file.write_bytes(gzip.compress(line(0)))
    done = subprocess.run(
        [*CLI, "ingest", str(file), "-", "--db", str(db)],
        input=line(1, 2),
        capture_output=True,
        timeout=60,
        check=False,
        env=environment(),
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode() == f"{file}: 1 new spans of 1\nstandard input: 2 new spans of 2\n"


def test_a_line_that_is_no_export_is_counted_and_the_rest_is_stored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, db = tmp_path / "spans.json", tmp_path / "usage.duckdb"
    endless = line(3).replace(b'"kind": 2', b'"kind": 1e999')  # a number that is none of a kind, and none at all
    file.write_bytes(line(0) + b"half a li\n" + line(1) + endless + line(2)[:50])
    assert main(["ingest", str(file), "--db", str(db)]) == 1
    printed = capsys.readouterr()
    assert printed.out == f"{file}: 2 new spans of 2\n"
    assert "3 lines are no export of spans (line 2: the body is not OTLP/JSON" in one_line(printed.err)


def test_a_line_without_an_end_takes_no_memory_and_hides_no_other() -> None:
    class Endless(io.RawIOBase):
        """A line of twice what is read, then one that is good."""

        left = 2 * MAX_BODY_BYTES

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            if self.left > 0:
                count = min(len(buffer), self.left)
                buffer[:count] = b" " * count
                self.left -= count
                return count
            good = b"" if self.left < 0 else b"\n" + line(0)
            self.left = -1
            buffer[: len(good)] = good
            return len(good)

    with UsageStore(IN_MEMORY) as store:
        found = ingest(io.BufferedReader(Endless(), buffer_size=65536), store.add)
        assert (found.stored, found.unreadable) == (1, 1)
        assert found.first == f"line 1: longer than {MAX_BODY_BYTES} bytes"


def test_a_large_file_is_stored_in_parts() -> None:
    sizes: list[int] = []

    def add(spans: list[Any]) -> int:
        sizes.append(len(spans))
        return len(spans)

    found = ingest(io.BytesIO(b"".join(line(*range(n, n + 500)) for n in range(0, 6000, 500))), add)
    assert (found.spans, found.stored) == (6000, 6000)
    assert max(sizes) == BATCH
    assert len(sizes) >= 3


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("missing.json", None, "missing.json cannot be read: No such file"),
        ("broken.json.gz", b"not gzip", "broken.json.gz cannot be read: it is no gzip file, is damaged, or"),
        ("short.json.gz", gzip.compress(line(0))[:-20], "short.json.gz cannot be read: it is no gzip file"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes | None, says: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert main(["ingest", str(tmp_path / name), "--db", str(tmp_path / "usage.duckdb")]) == 2
    assert says in one_line(capsys.readouterr().err)


def test_what_a_cut_file_holds_before_its_end_is_stored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, db = tmp_path / "short.json.gz", tmp_path / "usage.duckdb"
    file.write_bytes(gzip.compress(b"".join(line(n) for n in range(1000)))[:-40])
    assert main(["ingest", str(file), "--db", str(db)]) == 2
    assert "short.json.gz cannot be read" in one_line(capsys.readouterr().err)
    with UsageStore(db) as store:
        assert 500 < store.count() < 1000


def test_a_damaged_file_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "damaged.json.gz"
    packed = bytearray(gzip.compress(line(0)))
    packed[10] = 0xFF  # a block of a kind that there is not
    file.write_bytes(packed)
    assert main(["ingest", str(file), "--db", str(tmp_path / "usage.duckdb")]) == 2
    assert "is damaged" in one_line(capsys.readouterr().err)


def test_serve_stores_files_first_and_removes_what_is_too_old(tmp_path: Path) -> None:
    file, db = tmp_path / "spans.json", tmp_path / "usage.duckdb"
    now = time.time_ns()
    file.write_bytes(line(0, start=now) + line(1, start=now - 40 * 86_400 * 10**9, customer="old"))
    with serve(db, "--ingest", str(file), "--keep", "30d") as served:
        assert f"{file}: 2 new spans of 2" in served.banner
        code, out, err = served.stop()
    assert (code, err) == (0, "")
    assert "now 1 in" in out
    with UsageStore(db) as store:
        assert store.rows('SELECT "attributes.custom.usage.customer.id" FROM spans') == [("acme",)]


def test_serve_does_not_start_with_a_file_that_is_not_there(tmp_path: Path) -> None:
    done = subprocess.run(
        [*CLI, "serve", "--port", "0", "--db", str(tmp_path / "x.duckdb"), "--ingest", "/nowhere.json"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment(),
    )
    assert done.returncode == 2
    assert "/nowhere.json cannot be read" in one_line(done.stderr)


def test_nothing_that_was_acknowledged_is_lost_by_a_kill(tmp_path: Path) -> None:
    db = tmp_path / "usage.duckdb"
    acknowledged: list[int] = []
    with serve(db) as served:

        def send() -> None:
            with urllib3.PoolManager(retries=False, timeout=20) as pool, suppress(urllib3.exceptions.HTTPError):
                for number in range(100_000):
                    sent = pool.request(
                        "POST",
                        f"{served.url}/v1/traces",
                        body=line(number),
                        headers={"Content-Type": "application/json"},
                    )
                    assert sent.status == 200
                    acknowledged.append(number)

        sending = threading.Thread(target=send)
        sending.start()
        deadline = time.monotonic() + 60
        while len(acknowledged) < 50 and time.monotonic() < deadline:
            time.sleep(0.005)
        served.process.kill()
        sending.join(30)
    assert len(acknowledged) >= 50
    with UsageStore(db) as store:
        kept = {row[0] for row in store.rows("SELECT trace_id FROM api_usage")}
    assert {f"{number + 1:032x}" for number in acknowledged} <= kept


# Retention


def test_spans_grow_old_while_it_runs() -> None:
    moment = datetime.fromtimestamp(START / 1e9, UTC)
    looked = threading.Semaphore(0)

    def now() -> datetime:
        looked.release()
        return moment

    with UsageStore(IN_MEMORY) as store:
        store.add(span(n) for n in range(10))  # a millisecond apart
        retention = Retention(store, timedelta(hours=1), now=now, every=timedelta(milliseconds=1))
        retention.start()
        assert looked.acquire(timeout=10)
        moment += timedelta(hours=1, milliseconds=4)
        for _ in range(looked._value + 2):
            assert looked.acquire(timeout=10)
        retention.close()
        assert (retention.removed, store.count()) == (4, 6)


def test_it_goes_on_after_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    store = UsageStore(IN_MEMORY)
    store.close()
    looked = threading.Semaphore(0)

    def now() -> datetime:
        looked.release()
        return datetime.now(UTC)

    retention = Retention(store, timedelta(hours=1), now=now, every=timedelta(milliseconds=1))
    retention.start()
    for _ in range(3):
        assert looked.acquire(timeout=10)
    retention.close()
    assert "spans that are too old are still there" in caplog.text


def test_it_ends_at_once_and_may_never_have_begun() -> None:
    with UsageStore(IN_MEMORY) as store:
        Retention(store, timedelta(days=1)).close()
        retention = Retention(store, timedelta(days=1))
        retention.start()
        retention.close()
        assert not [thread for thread in threading.enumerate() if thread.name == "otel-usage-retention"]
