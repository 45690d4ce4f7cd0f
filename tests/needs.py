"""What tests need and may be missing: what pip cannot install, or not beside the rest, or not with every library."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest


def needed_program(name: str) -> str:
    """The path of a program. Where it is missing the test is skipped, and fails if ``TESTS_SKIP_NOTHING`` is set."""
    found = shutil.which(name)
    if found is None:
        _missing(f"the program {name} is not installed")
    return str(found)


def needed_library(name: str) -> None:
    """A library that can be imported. Where it is missing, as above."""
    if find_spec(name) is None:
        _missing(f"the library {name} is not installed")


def needed_environment(python: Path) -> None:
    """The interpreter of an environment that ``make test`` sets up. Where it is missing, as above."""
    if not python.exists():
        _missing(f"there is no environment {python.parents[1].name}: make test sets it up")


def _missing(what: str) -> None:
    missing = pytest.fail if os.environ.get("TESTS_SKIP_NOTHING") else pytest.skip
    missing(what)
