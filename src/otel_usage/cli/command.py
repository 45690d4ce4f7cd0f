"""What a command of ``otel-usage`` is."""

from __future__ import annotations

import argparse
from datetime import timedelta
from typing import Final, Protocol

from ..errors import UsageError

DEFAULT_DB: Final = "usage.duckdb"
"""The database file, in the working directory."""


class CommandError(UsageError):
    """A command cannot do what it was asked. The message is one line that names what to do."""


class Command(Protocol):
    """A module of this package. It is imported for every command, so it imports heavy things inside ``run`` only."""

    NAME: str
    """The word on the command line."""

    SUMMARY: str
    """One line for the list of commands."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the command's options."""
        ...

    def run(self, arguments: argparse.Namespace) -> int:
        """Do it, and return the exit code.

        Raises:
            UsageError: it cannot be done. Shown as one line on standard error; the exit code is 2.
        """
        ...


def age(text: str) -> timedelta:
    """The type of an option that takes `30s`, `15m`, `1h` or `7d`."""
    from ..local.parameters import age as parse

    try:
        return parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
