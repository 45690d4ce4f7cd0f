"""``otel-usage demo`` is the promise of the README: usage equals what an independent count says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import duckdb

OTEL_USAGE = str(Path(sys.executable).parent / "otel-usage")


def test_the_demo_ends_with_usage_that_equals_the_drivers_own_count(tmp_path: Path) -> None:
    database = tmp_path / "usage.duckdb"
    demo = subprocess.run(
        [OTEL_USAGE, "demo", "--seconds", "2", "--db", str(database)],
        capture_output=True,
        text=True,
        timeout=110,
        cwd=tmp_path,
        check=False,
    )
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert demo.stdout.count("\n  equal ") == 7
    assert "DIFFERENT" not in demo.stdout

    (ledger,) = re.findall(r"ledger: (\d+) spans produced = (\d+) accepted \+ 0 rejected \+ 0 dropped", demo.stdout)
    with duckdb.connect(str(database), read_only=True) as kept:
        ((stored,),) = kept.execute("SELECT count(*) FROM api_usage").fetchall()
        kinds = dict(kept.execute("SELECT kind, count(*) FROM api_usage GROUP BY kind").fetchall())
    assert [int(number) for number in ledger] == [stored, stored]
    assert kinds["server"] > 20  # in two seconds, on however busy a machine
    assert kinds["client"] > 5
    assert kinds["internal"] > 0


def test_the_demo_says_what_a_wrong_duration_takes() -> None:
    demo = subprocess.run([OTEL_USAGE, "demo", "--seconds", "0"], capture_output=True, text=True, check=False)
    assert demo.returncode == 2
    assert "'0' is not a duration" in demo.stderr
