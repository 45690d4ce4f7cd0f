"""What tests need and not every machine has: programs that pip cannot install, packages, environments of their own.

Where it is missing the test is skipped, and fails if ``TESTS_SKIP_NOTHING`` is set.
"""

from __future__ import annotations

import importlib
import os
import shutil
import socket
import subprocess
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Final, NoReturn

import pytest

_BUILD: Final = Path(__file__).parents[1] / "collector-config" / "build.sh"


def needed_program(name: str) -> str:
    """The path of a program."""
    return shutil.which(name) or _missing(f"the program {name} is not installed")


def needed_package(name: str) -> None:
    """A package that only some of those who run the tests have."""
    if find_spec(name) is None:
        _missing(f"the package {name} is not installed")


def needed_module(name: str) -> ModuleType:
    """A module of a library, which has to fit what else is installed."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        _missing(f"{name} cannot be imported: {error}")


def needed_environment(python: Path) -> None:
    """The interpreter of an environment that ``make test`` sets up."""
    if not python.exists():
        _missing(f"there is no environment {python.parents[1].name}: make test sets it up")


def needed_collector(manifest: str = "builder.yaml") -> str:
    """The path of the Collector that ``make collector`` has built from a manifest in ``collector-config/``. ``OTELCOL``
    names another one, for all manifests.
    """
    if named := os.environ.get("OTELCOL"):
        return named
    command = [_BUILD, "--if-built", _BUILD.parent / manifest]
    built = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    return built.stdout.strip() if built.returncode == 0 else _missing(built.stderr.strip())


def needed_low_port(address: str, port: int) -> socket.socket:
    """A socket for datagrams at a port that only some may take."""
    sock = socket.socket(type=socket.SOCK_DGRAM)
    try:
        sock.bind((address, port))
    except OSError as error:
        sock.close()
        _missing(f"port {port} of {address} is not to be had: {error}")
    return sock


def _missing(what: str) -> NoReturn:
    if os.environ.get("TESTS_SKIP_NOTHING"):
        pytest.fail(what)
    pytest.skip(what)
