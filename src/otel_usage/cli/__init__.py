"""The command ``otel-usage``. Exit codes: 0 done, 2 cannot be done or was asked wrongly, 130 interrupted."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Final

from .._version import __version__
from ..errors import UsageError
from . import axiom, check, collector_config, demo, hash_key, ingest, query, report, schema, serve, spool
from .command import Command

COMMANDS: Final[tuple[Command, ...]] = (
    demo, serve, ingest, report, query, axiom, check, schema, collector_config, spool, hash_key,
)  # fmt: skip
"""Every command, in the order of the help. A new one is a module beside this and a place in this tuple."""

_FAILED: Final = 2
_INTERRUPTED: Final = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. ``argv`` without the program's name; None: the process's own.

    Raises:
        SystemExit: after ``--help`` and ``--version`` (0), and for arguments that no command takes (2).
    """
    arguments = _arguments(argv)
    command: Command = arguments.command
    try:
        code = command.run(arguments)
        sys.stdout.flush()
    except UsageError as error:
        print(f"otel-usage {command.NAME}: {error}", file=sys.stderr)
        return _FAILED
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # The reader has left, as `head` does. Python would complain once more when it flushes at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _FAILED
    return code


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = _parser()
    arguments, unknown = parser.parse_known_args(argv)
    if unknown:
        secretive = getattr(arguments, "secretive", False)  # a command that is given secrets says so
        shown = "they are not shown, because they may be secret" if secretive else " ".join(unknown)
        parser.error(f"unrecognized arguments: {shown}")
    return arguments


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="otel-usage", description="API usage telemetry on OpenTelemetry: who called what, and what it cost."
    )
    parser.add_argument("--version", action="version", version=f"otel-usage {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        subparser = subparsers.add_parser(command.NAME, help=command.SUMMARY, description=command.SUMMARY)
        subparser.set_defaults(command=command)
        command.add_arguments(subparser)
    return parser
