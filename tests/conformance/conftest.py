"""Keeps the result of every case where ``CONFORMANCE_RECORD`` names a file: `make conformance` makes a table of it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from .table import Result

RECORD = os.environ.get("CONFORMANCE_RECORD")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report: pytest.TestReport = yield
    result = _result(item, report) if RECORD is not None else None
    if result is not None:
        with Path(RECORD).open("a") as record:
            record.write(json.dumps(asdict(result)) + "\n")
    return report


def _result(item: pytest.Item, report: pytest.TestReport) -> Result | None:
    """The result of a case, where this is the report that tells it. None: it is another."""
    subject = _subject(item)
    told = report.when == "call" or (report.when == "setup" and not report.passed)
    if subject is None or not told:
        return None
    tried, mode = subject
    reason = getattr(report, "wasxfail", "").removeprefix("[NOTRUN] ") if report.skipped else ""
    return Result(
        suite=item.module.__name__.rpartition(".")[2].removeprefix("test_").replace("_", " "),
        library=tried.library,
        beside=", ".join(filter(None, (getattr(tried, "server", ""), getattr(tried, "variant", "")))),
        mode=mode,
        case=item.name.partition("[")[0].removeprefix("test_").replace("_", " "),
        passed=report.passed,
        reason=reason or ("skipped" if report.skipped else ""),
    )


def _subject(item: pytest.Item) -> tuple[object, str] | None:
    """What a case is tried with, and the mode: the parameter that is such a pair."""
    for value in getattr(item, "callspec", None).params.values() if hasattr(item, "callspec") else ():
        if isinstance(value, tuple) and len(value) == 2 and hasattr(value[0], "library"):
            return value
    return None
