"""Asking a database file, or the running `otel-usage serve` that holds it."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import urlsplit

from ..errors import UsageError
from .command import DEFAULT_DB, CommandError
from .serve import DEFAULT_HOST, DEFAULT_PORT, TOKEN_VARIABLE

if TYPE_CHECKING:
    from ..local.answers import Answer
    from ..local.store import UsageStore

DEFAULT_ENDPOINT: Final = f"http://{DEFAULT_HOST}:{DEFAULT_PORT}"
"""Where `otel-usage serve` listens if it is not told otherwise."""

_TIMEOUT_SECONDS: Final = 10.0
_T = TypeVar("_T")


def add_place(parser: argparse.ArgumentParser) -> None:
    """Declare the options that say where the usage is."""
    parser.add_argument("--db", default=DEFAULT_DB, metavar="FILE", help="the DuckDB file (default: %(default)s)")
    parser.add_argument(
        "--endpoint",
        metavar="URL",
        help=f"ask a running `otel-usage serve` (default: {DEFAULT_ENDPOINT}, if a process holds the file)",
    )


def answered(arguments: argparse.Namespace, use: Callable[[Callable[[str], Answer]], _T]) -> _T:
    """What ``use`` makes of the answers to queries in APL, which are those of the file or of the server that holds it.

    Raises:
        UsageError: there is neither a readable file nor a server that answers, or a query cannot be answered.
    """
    from ..local.apl import run_apl

    return of_file_or_server(
        arguments,
        lambda store: use(lambda apl: run_apl(store, apl)),
        lambda endpoint, token: use(lambda apl: _of_server(endpoint, apl, token)),
    )


def _of_server(endpoint: str, apl: str, token: str | None) -> Answer:
    from ..local.asking import RemoteError
    from ..local.query_api import ask

    try:
        return ask(endpoint, apl, token)
    except RemoteError as error:
        wanted = f"is it `otel-usage serve` of this version, and started with the token of {TOKEN_VARIABLE}?"
        raise CommandError(f"{error}. --endpoint names who is asked: {wanted}") from error


def of_file_or_server(
    arguments: argparse.Namespace,
    of_file: Callable[[UsageStore], _T],
    of_server: Callable[[str, str | None], _T],
) -> _T:
    """What the file says, or the server that holds it, which is given its URL and the token that it may be told.

    Raises:
        UsageError: there is neither a readable file nor a server that answers.
    """
    from ..local.errors import StoreLockedError
    from ..local.store import UsageStore

    if arguments.endpoint is not None:
        check_endpoint(arguments.endpoint, os.environ.get(TOKEN_VARIABLE), TOKEN_VARIABLE)
        return of_server(arguments.endpoint, os.environ.get(TOKEN_VARIABLE))
    try:
        with UsageStore(arguments.db, must_exist=True) as store:
            return of_file(store)
    except StoreLockedError as locked:
        if _keeps_another(DEFAULT_ENDPOINT, arguments.db):
            raise CommandError(
                f"{arguments.db} is held by another process, and {DEFAULT_ENDPOINT} keeps another file: "
                "name the server with --endpoint"
            ) from locked
        try:
            # Whoever may listen there has not been named, and is not told the token.
            return of_server(DEFAULT_ENDPOINT, None)
        except UsageError as error:
            raise CommandError(f"{locked}; {error}") from error


def _keeps_another(endpoint: str, db: str) -> bool:
    """Whether a server says that it keeps another file. One that does not say so is asked, and answers for itself."""
    import urllib3

    from ..local.sink import STORE_PATH
    from ..local.store import fingerprint

    try:
        with urllib3.PoolManager(timeout=_TIMEOUT_SECONDS, retries=False) as pool:
            answer = pool.request("GET", endpoint + STORE_PATH, redirect=False)
            said = answer.json() if answer.status == 200 else None
    except (urllib3.exceptions.HTTPError, ValueError):
        return False
    return isinstance(said, dict) and said.get("store") != fingerprint(db)


def check_endpoint(text: str, token: str | None, variable: str) -> None:
    """A server's URL. One with a user in it may hold a password, and one that would send the token in the clear to
    another machine is no place for it.

    Raises:
        CommandError: it is none, or no place for the token of ``variable``.
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
    if token and url.scheme == "http" and not is_loopback(url.hostname):
        raise CommandError(f"{text} would be sent the token of {variable} in the clear: use https://")
