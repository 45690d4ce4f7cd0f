"""``otel-usage report``: who called what, what it cost, how it was served."""

from __future__ import annotations

import argparse
import json
import os
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from .command import CommandError
from .serve import DEFAULT_DB, DEFAULT_HOST, DEFAULT_PORT, TOKEN_VARIABLE

if TYPE_CHECKING:
    from ..local.report import UsageReport

NAME: Final = "report"
SUMMARY: Final = "show usage per customer, route, provider and cache"

DEFAULT_ENDPOINT: Final = f"http://{DEFAULT_HOST}:{DEFAULT_PORT}"
"""Where `otel-usage serve` listens if it is not told otherwise."""

_TIMEOUT_SECONDS: Final = 30.0
_AGE: Final = re.compile("([0-9]{1,5})([smhd])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("--db", default=DEFAULT_DB, metavar="FILE", help="the DuckDB file (default: %(default)s)")
    parser.add_argument(
        "--endpoint",
        metavar="URL",
        help=f"ask a running `otel-usage serve` (default: {DEFAULT_ENDPOINT}, if a process holds the file)",
    )
    parser.add_argument("--since", type=_age, metavar="AGE", help="only the last 30s, 15m, 1h or 7d")
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
    from ..local.errors import StoreLockedError

    if arguments.endpoint is not None:
        _check_endpoint(arguments.endpoint)
        return _of_server(arguments.endpoint, arguments.since, os.environ.get(TOKEN_VARIABLE))
    try:
        return _of_file(arguments.db, arguments.since)
    except StoreLockedError as locked:
        try:
            # Whoever may listen there has not been named, and is not told the token.
            return _of_server(DEFAULT_ENDPOINT, arguments.since, None)
        except CommandError as error:
            raise CommandError(f"{locked}; {error}") from error


def _of_file(path: str, age: timedelta | None) -> UsageReport:
    from ..local.report import build_report
    from ..local.store import UsageStore

    with UsageStore(path, must_exist=True) as store:
        return build_report(store, None if age is None else datetime.now(UTC) - age)


def _of_server(endpoint: str, age: timedelta | None, token: str | None) -> UsageReport:
    from ..local.report import UsageReport

    status, body = _get(endpoint, age, token)
    if status == 401:
        wanted = f"{TOKEN_VARIABLE} has to be the one that it was started with, and --endpoint has to name it"
        raise CommandError(f"{endpoint} wants a token: {wanted}")
    try:
        if status == 200:
            return UsageReport.from_dict(json.loads(body))
    except (ValueError, KeyError, TypeError):
        pass
    raise CommandError(f"{endpoint} answered {status} and no report: is it `otel-usage serve` of this version?")


def _get(endpoint: str, age: timedelta | None, token: str | None) -> tuple[int, bytes]:
    import urllib3

    from ..local.sink import REPORT_PATH

    query = "" if age is None else f"?since={age.total_seconds():.0f}"
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


def _check_endpoint(text: str) -> None:
    """A server's URL. One with a user in it may hold a password, and one that would send the token in the clear to
    another machine is no place for it.
    """
    from ..endpoints import is_loopback

    if "@" in text:
        raise CommandError("--endpoint takes no URL with a user in it, and does not show it")
    try:
        url = urlsplit(text)
    except ValueError:
        url = urlsplit("")
    if url.scheme not in ("http", "https") or not url.hostname:
        raise CommandError(f"--endpoint is {text!r}; it takes an http:// or https:// URL, such as {DEFAULT_ENDPOINT}")
    if os.environ.get(TOKEN_VARIABLE) and url.scheme == "http" and not is_loopback(url.hostname):
        raise CommandError(f"{text} would be sent the token of {TOKEN_VARIABLE} in the clear: use https://")


def _age(text: str) -> timedelta:
    match = _AGE.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not an age: it takes a number and s, m, h or d, such as 1h")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})
