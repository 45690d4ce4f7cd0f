"""``otel-usage hash-key``: the digest of an API key, for the map of enterprise customers."""

from __future__ import annotations

import argparse
import getpass
import os
import re
import sys
from typing import TYPE_CHECKING, Final

from .command import CommandError

if TYPE_CHECKING:
    from ..keyed_hash import KeyedHash

NAME: Final = "hash-key"
SUMMARY: Final = "make the digest of an API key, for the map of enterprise customers"

_PEPPER: Final = "USAGE_KEY_PEPPER"
_KEY: Final = re.compile(r"[!-~]+")
_KEY_FORM: Final = "one key a line: printable ASCII, not empty, without spaces"
_WHY_NOT_AN_ARGUMENT: Final = (
    "The key is read from standard input, one a line, or asked for on a terminal. It is never an argument: other users "
    f"of the machine see those in the list of processes, and the shell writes them down. {_PEPPER} is the pepper that "
    "the service has."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.description = f"{SUMMARY}. {_WHY_NOT_AN_ARGUMENT}"
    parser.add_argument(
        "--customer", metavar="NAME", help="print the finished line of the map's file, for this customer"
    )
    # Somebody who gives the key as an argument all the same must not find it in a log as well.
    parser.set_defaults(secretive=True)


def run(arguments: argparse.Namespace) -> int:
    """Print a line for each key: all of them, or none.

    Raises:
        UsageError: there is no pepper or a weak one, no key or one that is none, or a customer that no line can hold.
            Nothing of the pepper and of the keys is in the message.
    """
    hash_key = _hash()
    lines = [_line(hash_key(key), arguments.customer) for key in _keys()]
    print("\n".join(lines))
    return 0


def _hash() -> KeyedHash:
    from ..config import UsageConfig
    from ..keyed_hash import KeyedHash

    pepper = os.environ.get(_PEPPER)
    if not pepper:
        raise CommandError(f"{_PEPPER} is not set; it takes the pepper that the service has")
    UsageConfig(key_pepper=pepper)  # refuses a weak one, as the service would
    return KeyedHash(pepper)


def _keys() -> list[str]:
    keys = _given()
    if not keys:
        raise CommandError(f"there is no key on standard input; it takes {_KEY_FORM}")
    for number, key in enumerate(keys, 1):
        if not _KEY.fullmatch(key):
            raise CommandError(f"line {number} of the input is no key; it takes {_KEY_FORM}")
    return keys


def _given() -> list[str]:
    try:
        if sys.stdin.isatty():
            return [getpass.getpass("API key: ")]
        return [line.rstrip("\r\n") for line in sys.stdin]
    except (EOFError, UnicodeDecodeError):
        pass
    # Out here, because an error while decoding holds on to what was read.
    raise CommandError(f"what was given cannot be read; it takes {_KEY_FORM}")


def _line(digest: str, customer: str | None) -> str:
    from ..customer_map import CUSTOMER_FORM, customer_line

    line = digest if customer is None else customer_line(digest, customer)
    if line is None:
        raise CommandError(f"--customer takes {CUSTOMER_FORM}")
    return line
