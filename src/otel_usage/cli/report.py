"""``otel-usage report``: who called what, what it cost, how it was served."""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from .command import CommandError, age
from .serve import TOKEN_VARIABLE
from .served import add_place, of_file_or_server

if TYPE_CHECKING:
    from ..local.report import UsageReport

NAME: Final = "report"
SUMMARY: Final = "show usage per customer, route, provider and cache"

_TIMEOUT_SECONDS: Final = 30.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    add_place(parser)
    parser.add_argument("--since", type=age, metavar="AGE", help="only the last 30s, 15m, 1h or 7d")
    parser.add_argument("--json", action="store_true", help="for programs; times in milliseconds, sizes in bytes")


def run(arguments: argparse.Namespace) -> int:
    """Print the report of a file, or of the server that holds it.

    Raises:
        UsageError: there is neither a readable file nor a server that answers.
    """
    from ..local.render import print_report, to_json

    report = _report(arguments)
    if arguments.json:
        print(to_json(report))
    else:
        print_report(report)
    return 0


def _report(arguments: argparse.Namespace) -> UsageReport:
    from ..local.report import build_report

    since: timedelta | None = arguments.since
    return of_file_or_server(
        arguments,
        lambda store: build_report(store, None if since is None else datetime.now(UTC) - since),
        lambda endpoint, token: _of_server(endpoint, since, token),
    )


def _of_server(endpoint: str, since: timedelta | None, token: str | None) -> UsageReport:
    from ..local.report import UsageReport

    status, body = _get(endpoint, since, token)
    if status == 401:
        wanted = f"{TOKEN_VARIABLE} has to be the one that it was started with, and --endpoint has to name it"
        raise CommandError(f"{endpoint} wants a token: {wanted}")
    try:
        if status == 200:
            return UsageReport.from_dict(json.loads(body))
    except (ValueError, KeyError, TypeError):
        pass
    raise CommandError(f"{endpoint} answered {status} and no report: is it `otel-usage serve` of this version?")


def _get(endpoint: str, since: timedelta | None, token: str | None) -> tuple[int, bytes]:
    import urllib3

    from ..local.sink import REPORT_PATH

    query = "" if since is None else f"?since={since.total_seconds():.0f}"
    try:
        with urllib3.PoolManager(timeout=_TIMEOUT_SECONDS, retries=False) as pool:
            # No redirects: the token is for this server.
            answer = pool.request(
                "GET",
                endpoint.rstrip("/") + REPORT_PATH + query,
                headers={"Authorization": f"Bearer {token}"} if token else {},
                redirect=False,
            )
            return answer.status, answer.data
    except (urllib3.exceptions.HTTPError, ValueError) as error:
        raise CommandError(f"no answer from {endpoint}: name a running `otel-usage serve` with --endpoint") from error
