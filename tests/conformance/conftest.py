"""All cases of one library in one mode share a process, and their results are kept for the table of what is supported.

Where ``CONFORMANCE_RECORD`` names a file, results are appended to it: `make conformance` makes the table of them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from .table import Result

RECORD = os.environ.get("CONFORMANCE_RECORD")


class Subject(NamedTuple):
    """What a case is tried with."""

    label: str
    distribution: str
    beside: str
    mode: str


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What shares a process of the application's is done by one of the processes that share the work."""
    for item in items:
        subject = _subject(item)
        group = item.path.stem if subject is None else f"{item.path.stem} {subject}"
        item.add_marker(pytest.mark.xdist_group(group))


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
    case = item.callspec.params.get("case")
    return Result(
        suite=item.path.stem.removeprefix("test_").replace("_", " "),
        library=subject.label,
        distribution=subject.distribution,
        beside=subject.beside,
        mode=subject.mode,
        case=(case if isinstance(case, str) else item.originalname.removeprefix("test_")).replace("_", " "),
        passed=report.passed,
        reason=_reason(report) if report.skipped else "",
    )


def _reason(report: pytest.TestReport) -> str:
    """Why a case was not tried."""
    if hasattr(report, "wasxfail"):
        return str(report.wasxfail).removeprefix("[NOTRUN] ").removeprefix("reason: ")
    return str(report.longrepr[2]).removeprefix("Skipped: ")


def _subject(item: pytest.Item) -> Subject | None:
    """What a case is tried with. None: it is no case of a library in a mode."""
    params: dict[str, Any] = item.callspec.params if hasattr(item, "callspec") else {}
    for value in params.values():
        if isinstance(value, tuple) and len(value) == 2 and hasattr(value[0], "subject"):
            return Subject(*value[0].subject, value[1])
    for value in params.values():
        if hasattr(value, "subject") and "mode" in params:
            return Subject(*value.subject, params["mode"])
    return None
