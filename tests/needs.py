"""What tests need and what not every machine has: programs that pip cannot install, packages that are left out."""

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
    assert found is not None  # what is missing does not come back here
    return found


def needed_package(name: str) -> None:
    """As above, for a package that only some of those who run the tests have."""
    if find_spec(name) is None:
        _missing(f"the package {name} is not installed")


def _missing(what: str) -> None:
    (pytest.fail if os.environ.get("TESTS_SKIP_NOTHING") else pytest.skip)(what)
