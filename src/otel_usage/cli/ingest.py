"""``otel-usage ingest``: what a Collector has written to files, into the store."""

from __future__ import annotations

import argparse
import gzip
import os
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, cast

from .command import DEFAULT_DB, CommandError

if TYPE_CHECKING:
    from ..local.otlp_files import Ingested
    from ..local.store import UsageStore

NAME: Final = "ingest"
SUMMARY: Final = "store the spans of OTLP/JSON files, as a Collector's file exporter writes them"

_STANDARD_INPUT: Final = "-"
_INCOMPLETE: Final = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("files", nargs="+", metavar="FILE", help="one export a line; .gz too; - for standard input")
    parser.add_argument("--db", default=DEFAULT_DB, metavar="FILE", help="the DuckDB file (default: %(default)s)")
    parser.epilog = "A span that is stored already is not stored again. The exit code is 1 if lines were left out."


def run(arguments: argparse.Namespace) -> int:
    """Store every file. The exit code is 0, or 1 if a line was no export of spans.

    Raises:
        UsageError: a file cannot be read, or the database not be used.
    """
    from ..local.store import UsageStore

    os.umask(0o077)  # as of `serve`: what is kept is this user's alone
    with UsageStore(arguments.db) as store:
        incomplete = [file for file in arguments.files if ingest_file(store, file)]
    return _INCOMPLETE if incomplete else 0


def ingest_file(store: UsageStore, file: str) -> bool:
    """Store one file, and say what was in it. Returns whether lines were left out.

    Raises:
        UsageError: it cannot be read, or the store not be used.
    """
    from ..local.otlp_files import ingest

    name = "standard input" if file == _STANDARD_INPUT else file
    try:
        with _opened(file) as stream:
            found: Ingested = ingest(stream, store.add)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or "it is no gzip file, is damaged, or ends too early"
        raise CommandError(f"{name} cannot be read: {reason}") from error
    print(f"{name}: {found.stored:,} new spans of {found.spans:,}", flush=True)
    if found.unreadable:
        lines = "1 line is" if found.unreadable == 1 else f"{found.unreadable:,} lines are"
        print(f"otel-usage {NAME}: {name}: {lines} no export of spans ({found.first})", file=sys.stderr)
    return bool(found.unreadable)


@contextmanager
def _opened(file: str) -> Iterator[BinaryIO]:
    if file == _STANDARD_INPUT:
        yield sys.stdin.buffer
        return
    with gzip.open(file) if file.endswith(".gz") else Path(file).open("rb") as stream:
        yield cast("BinaryIO", stream)
