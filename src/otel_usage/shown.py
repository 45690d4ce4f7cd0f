"""What an error may show of a setting: not a secret that stands in the wrong variable, or in a wrong form. Pure.

Errors are logged, and a setting's neighbours are tokens, keys and peppers. So a value is shown as a whole, where it can
be an ordinary mistake, or not at all: what is left of one that was half understood may be the secret.
"""

from __future__ import annotations

import re
from typing import Final

from .redaction import forms, redact

_LONGEST: Final = 256
"""Characters of a value that is shown at most. What is longer was pasted, and not written."""

_WORDS: Final = re.compile(r"[^\s,]+")
_PARTS: Final = re.compile(r"[A-Za-z0-9]+")

# A port may be misspelt, and a path may be OTLP's. Whatever else comes after the host may be a password or a key.
_URL: Final = re.compile(
    r"[A-Za-z][\w+.-]{0,15}://(?:\[[0-9A-Fa-f:.]*\]?|[\w.*-]*)(?::\w{0,5})?"
    r"(?:/(?:[a-z_-]{0,12}|v\d))*(?:#[a-z]{0,12})?(?:=[a-z_-]{1,20})?"  # `=` and a name: in USAGE_PROVIDERS
)
# `id:secret` (keys.py); no port and path.
_NAMED_KEY: Final = re.compile(r"(?<![\w.-])[\w-]{1,16}:(?!//|\d{1,5}(?:/|$))\S{16}")
_UUID: Final = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")

_TURN: Final = re.compile(r"[A-Za-z](?=[0-9])|[0-9](?=[A-Za-z])|[a-z](?=[A-Z])")
_DIGIT_TURN: Final = re.compile(r"[A-Za-z](?=[0-9])|[0-9](?=[A-Za-z])")


def shown(text: str) -> str | None:
    """``text`` itself, if an error may show it. None: it may be a secret, or hold one."""
    ordinary = len(text) <= _LONGEST and all(map(_ordinary, forms(text))) and redact(text) == text
    return text if ordinary else None


def _ordinary(text: str) -> bool:
    """Whether it can be a mistake that somebody made while writing a name, a host, a path or a list of them."""
    return not ("@" in text or "?" in text) and not any(map(_secretive, _WORDS.findall(text)))


def _secretive(word: str) -> bool:
    if _NAMED_KEY.search(word) or _UUID.search(word) or ("://" in word and not _URL.fullmatch(word)):
        return True
    parts = _PARTS.findall(word)
    turns = sum(len(_TURN.findall(part)) for part in parts)
    return any(map(_random, parts)) or (len(word) >= 16 and 5 * turns >= len(word))


def _random(part: str) -> bool:
    """Whether letters and digits are mixed as in no word (`hunter2pw99`), or it is longer than one is.

    `MyIdentityHook`, `us-east-1`, `2024` and a letter that got stuck are none.
    """
    if part.isdigit():
        return len(part) >= 12
    turns = len(_TURN.findall(part))
    return (
        (len(part) >= 8 and len(_DIGIT_TURN.findall(part)) >= 2)
        or (len(part) >= 12 and turns >= 4 and 5 * turns >= len(part))
        or (len(part) >= 24 and len(set(part)) >= 8)
    )
