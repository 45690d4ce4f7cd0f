"""Parts of the system that tests need and that pip cannot install, or not beside what the other tests need."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest


def needed_program(name: str) -> str:
    """The path of a program. Where it is missing the test is skipped, and fails if ``TESTS_SKIP_NOTHING`` is set."""
    found = shutil.which(name)
    if found is None:
        _missing(f"the program {name} is not installed")
    return str(found)


def needed_environment(python: Path) -> None:
    """The interpreter of an environment that ``make test`` sets up. Where it is missing, as above."""
    if not python.exists():
        _missing(f"there is no environment {python.parents[1].name}: make test sets it up")


def _missing(what: str) -> None:
    missing = pytest.fail if os.environ.get("TESTS_SKIP_NOTHING") else pytest.skip
    missing(what)
