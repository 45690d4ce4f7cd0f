"""``otel-usage serve``: the embedded sink."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from .command import DEFAULT_DB, CommandError, age
from .ingest import ingest_file
from .signals import stop_signals

if TYPE_CHECKING:
    from ..local.sink import LocalSink
    from ..local.store import UsageStore

NAME: Final = "serve"
SUMMARY: Final = "receive usage over OTLP/HTTP and keep it in a DuckDB file"

TOKEN_VARIABLE: Final = "USAGE_SINK_TOKEN"
"""The environment variable that holds the sink's token. Arguments can be read by every user of the machine."""

DEFAULT_HOST: Final = "127.0.0.1"
"""The address that only this machine reaches."""

DEFAULT_PORT: Final = 4318
"""The port of OTLP/HTTP."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("--host", default=DEFAULT_HOST, help="the address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=_port, default=DEFAULT_PORT, help="0 takes a free one (default: %(default)s)")
    parser.add_argument("--db", default=DEFAULT_DB, metavar="FILE", help="the DuckDB file (default: %(default)s)")
    parser.add_argument("--keep", type=age, metavar="AGE", help="remove spans that are older, such as 30d")
    parser.add_argument(
        "--ingest", action="append", default=[], metavar="FILE", help="first store a file, as `otel-usage ingest` does"
    )
    parser.epilog = f"A --host that other machines reach needs a token, which is read from {TOKEN_VARIABLE}."


def run(arguments: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM.

    Raises:
        UsageError: the address or the file is taken, or a token is needed and there is none.
    """
    from ..endpoints import is_loopback
    from ..local.sink import LocalSink
    from ..local.store import UsageStore

    os.umask(0o077)  # what is kept is this user's alone: the database, and the log that DuckDB writes beside it
    token = os.environ.get(TOKEN_VARIABLE) or None
    if token is None and not is_loopback(arguments.host):
        raise CommandError(f"{arguments.host} lets other machines in: set a token in {TOKEN_VARIABLE}")
    with stop_signals() as wait, UsageStore(arguments.db) as store:
        for file in arguments.ingest:
            ingest_file(store, file)
        sink = LocalSink(store, token)
        with _retention(store, arguments.keep):
            _serve(sink, store, arguments, wait)
        _say(f"stopped: {sink.stored:,} new spans of {sink.received:,} received, now {store.count():,} in {store.path}")
    return 0


def _retention(store: UsageStore, keep: timedelta | None) -> AbstractContextManager[object]:
    from ..local.retention import Retention

    if keep is None:
        return nullcontext()
    retention = Retention(store, keep)
    retention.start()
    return closing(retention)


def _serve(sink: LocalSink, store: UsageStore, arguments: argparse.Namespace, wait: Callable[[], object]) -> None:
    from ..local.http_server import HttpServer

    server = HttpServer(sink, host=arguments.host, port=arguments.port, admit=sink.admit)
    try:
        server.start()
    except OSError as error:
        raise CommandError(f"cannot listen on {server.url}: {error.strerror}; --port 0 takes a free port") from error
    with closing(server):
        _announce(server.url, store, needs_token=sink.needs_token)
        wait()


def _announce(url: str, store: UsageStore, *, needs_token: bool) -> None:
    _say(f"listening on {url}, {store.count():,} spans in {store.path}. Point a service here with")
    _say("")
    _say("  USAGE_TELEMETRY=1")
    _say(f"  USAGE_OTLP_ENDPOINT={url}")
    if needs_token:
        _say(f"  AXIOM_API_TOKEN=<the value of {TOKEN_VARIABLE}>")
    _say("")


def _say(line: str) -> None:
    # Flushed, because whoever started this process may be waiting for the address.
    print(line, flush=True)


def _port(text: str) -> int:
    port = int(text) if text.isascii() and text.isdigit() else -1
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: it takes 0 to 65535")
    return port
