"""``otel-usage collector-config``: pipelines of the OpenTelemetry Collector, with the allowlist of the schema."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from ..collector import PIPELINES, Choices, pipeline
from .command import CommandError

NAME: Final = "collector-config"
SUMMARY: Final = "print a pipeline of the OpenTelemetry Collector, or write them all"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.description = f"{SUMMARY}. What a pipeline lets through is the schema, and nothing else."
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("pipeline", nargs="?", choices=PIPELINES, help="the pipeline to print")
    what.add_argument("--write", metavar="DIRECTORY", type=Path, help="write each as NAME.yaml into a directory")
    parser.add_argument(
        "--personal", metavar="KEY", action="append", default=[],
        help="a personal attribute that may leave, as in USAGE_PERSONAL; may be given again",
    )  # fmt: skip
    parser.add_argument(
        "--email-addresses", action="store_true", help="let values hold e-mail addresses, as USAGE_EMAIL_ADDRESSES does"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print one pipeline, or write them all.

    Raises:
        UsageError: there is no such personal attribute, or the directory cannot be written to.
    """
    choices = Choices(frozenset(arguments.personal), arguments.email_addresses)
    if arguments.write is None:
        print(pipeline(arguments.pipeline, choices), end="")
        return 0
    for name in PIPELINES:
        _write(arguments.write / f"{name}.yaml", pipeline(name, choices))
    return 0


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}") from None
    print(path)
