"""The map of enterprise customers as a file, so that it can be reviewed like code: one ``digest customer`` a line.

It holds digests and no keys: who reads it can use none of them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from .errors import CustomerMapError
from .keys import KEY_ID
from .schema import BY_KEY

_LONGEST_CUSTOMER: Final = BY_KEY["usage.customer.id"].cap

CUSTOMER_FORM: Final = f"one printable word that does not begin with #, of at most {_LONGEST_CUSTOMER} characters"
"""What a customer's name has to be to stand in such a file."""

_DIGEST: Final = re.compile(rf"(?:{KEY_ID.pattern}):[0-9a-f]{{32}}")
_DIGEST_FORM: Final = "key-id:32 hex digits, as `otel-usage hash-key` makes it"
_LINE_FORM: Final = f"`digest customer`, a comment after #, or nothing; the digest is {_DIGEST_FORM}"


def read_customer_map(path: str | os.PathLike[str]) -> dict[str, str]:
    """Read a file of enterprise customers, for :attr:`IdentityResolver.enterprise_customers`.

    A line is ``digest customer``, with a comment after it or alone (from a ``#`` that begins a word), or nothing. A
    digest may stand there twice for the same customer, and several digests may have one customer.

    Args:
        path: The file, in UTF-8.

    Raises:
        CustomerMapError: the file cannot be read, or a line is none of these. The message names the file, the line's
            number and what is accepted. It never shows the line: somebody may have put a raw key there.
    """
    found: dict[str, tuple[str, int]] = {}
    for number, text in enumerate(_lines(path), 1):
        entry = _entry(path, number, text)
        if entry is None:
            continue
        digest, customer = entry
        before, line = found.setdefault(digest, (customer, number))
        if before != customer:
            raise CustomerMapError(path, number, f"the digest of line {line} with the same customer as there")
    return {digest: customer for digest, (customer, _) in found.items()}


def customer_line(digest: str, customer: str) -> str | None:
    """The line of such a file for one digest, or None where a customer of this name cannot be written in one."""
    return f"{digest} {customer}" if _is_customer(customer) else None


def _lines(path: str | os.PathLike[str]) -> list[str]:
    try:
        # With or without the mark that some editors put before UTF-8.
        return Path(path).read_text("utf-8-sig").split("\n")
    except OSError as error:
        why = error.strerror
    except UnicodeDecodeError:
        why = None
    # Out here, because an error while decoding holds on to the whole file, and so would one that is raised from it.
    raise CustomerMapError(path, None, f"a text file in UTF-8 that can be read{f' ({why})' if why else ''}")


def _entry(path: str | os.PathLike[str], number: int, text: str) -> tuple[str, str] | None:
    words = list(_words(text))
    if not words:
        return None
    if not _DIGEST.fullmatch(words[0]):
        raise CustomerMapError(path, number, _LINE_FORM)
    if len(words) != 2 or not _is_customer(words[1]):
        raise CustomerMapError(path, number, f"{_LINE_FORM}; the customer is {CUSTOMER_FORM}")
    return words[0], words[1]


def _words(text: str) -> Iterator[str]:
    for word in text.split():
        if word.startswith("#"):
            return
        yield word


def _is_customer(word: str) -> bool:
    # One that is longer than its attribute may be would not leave the process: the usage would be nobody's.
    short = 0 < len(word) <= _LONGEST_CUSTOMER
    return short and word.isprintable() and not word.startswith("#") and " " not in word
