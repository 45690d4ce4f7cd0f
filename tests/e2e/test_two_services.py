"""The example of two services shows one customer's usage across both, joined by trace id."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_one_customers_usage_across_two_services_is_one_trace() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "two_services"],
        cwd=EXAMPLES,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    answers, *traces = run.stdout.split("\ntrace ")
    assert answers.count("told: nothing") == 2
    assert len(traces) == 2
    for trace, who in zip(traces, ("acme, tier 2", "globex, tier 1"), strict=True):
        assert [line.endswith(who) for line in trace.splitlines()[1:] if line] == [True] * 4, trace
        assert re.search(r"\n  shop +request .*\n    shop +upstream .*\n      pricing +request ", trace), trace
