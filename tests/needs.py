"""What tests need and may be missing: parts of the system that pip cannot install, and libraries of a kind of test."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec

import pytest


def needed_program(name: str) -> str:
    """The path of a program. Where it is missing the test is skipped, and fails if ``TESTS_SKIP_NOTHING`` is set."""
    found = shutil.which(name)
    if found is None:
        _missing(f"the program {name} is not installed")
    assert found is not None
    return found


def needed_library(name: str) -> None:
    """The same for a library that can be imported."""
    if find_spec(name) is None:
        _missing(f"the library {name} is not installed")


def _missing(what: str) -> None:
    missing = pytest.fail if os.environ.get("TESTS_SKIP_NOTHING") else pytest.skip
    missing(what)
