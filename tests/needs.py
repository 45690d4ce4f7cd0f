"""Parts of the system that tests need and that pip cannot install, or not everywhere."""

from __future__ import annotations

import importlib
import os
import shutil
from types import ModuleType
from typing import NoReturn

import pytest


def needed_program(name: str) -> str:
    """The path of a program. Where it is missing the test is skipped, and fails if ``TESTS_SKIP_NOTHING`` is set."""
    return shutil.which(name) or _missing(f"the program {name} is not installed")


def needed_module(name: str) -> ModuleType:
    """A module of a library. Where it is not installed, or does not fit what is, it is as with a program."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        _missing(f"{name} cannot be imported: {error}")


def _missing(reason: str) -> NoReturn:
    if os.environ.get("TESTS_SKIP_NOTHING"):
        pytest.fail(reason)
    pytest.skip(reason)
