"""Parts of the system that tests need and that pip cannot install."""

from __future__ import annotations

import os
import shutil

import pytest


def needed_program(name: str) -> str:
    """The path of a program. Where it is missing the test is skipped, and fails if ``TESTS_SKIP_NOTHING`` is set."""
    found = shutil.which(name)
    if found is None:
        missing = pytest.fail if os.environ.get("TESTS_SKIP_NOTHING") else pytest.skip
        missing(f"the program {name} is not installed")
    return found
