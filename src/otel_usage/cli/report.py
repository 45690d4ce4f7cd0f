"""``otel-usage report``: who called what, what it cost, how it was served."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from .command import CommandError, age
from .served import add_place, answered

if TYPE_CHECKING:
    from ..local.report import UsageReport

NAME: Final = "report"
SUMMARY: Final = "show usage per customer, route, provider, model and cache"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    add_place(parser)
    parser.add_argument("--since", type=age, metavar="AGE", help="only the last 30s, 15m, 1h or 7d (default: all)")
    parser.add_argument("--customer", metavar="ID", help="only this customer")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="for programs, with every row")
    form.add_argument("--html", metavar="FILE", help="write a page with charts there, which needs nothing else")
    parser.epilog = "Each part is what a recipe answers: see `otel-usage query`."


def run(arguments: argparse.Namespace) -> int:
    """Print the report of a file, or of the server that holds it.

    Raises:
        UsageError: there is neither a readable file nor a server that answers, or the page cannot be written.
    """
    from ..local.render import print_report, to_json
    from ..local.report import OVER_TIME, PARTS, build_report

    names = PARTS if arguments.html is None else OVER_TIME
    report = answered(arguments, lambda ask: build_report(ask, arguments.since, arguments.customer, names))
    if arguments.html is not None:
        _write(report, Path(arguments.html))
    elif arguments.json:
        print(to_json(report))
    else:
        print_report(report)
    return 0


def _write(report: UsageReport, path: Path) -> None:
    from ..local.page import page

    os.umask(0o077)  # what is written is this user's alone
    try:
        path.write_text(page(report), "utf-8")
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}") from error
