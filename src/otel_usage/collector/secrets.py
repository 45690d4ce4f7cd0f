"""The patterns of :mod:`otel_usage.redaction` in RE2, which is Go's: it cannot look ahead or behind.

What looks behind eats the character before a secret here, and what looks ahead is said by what may follow. Where the
two must differ, more is masked rather than less, but never what is ordinary: a test holds both against the samples of
the package, in a Collector.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from ..redaction import ISSUED

_BEFORE: Final = r"(?:^|[^A-Za-z0-9])"
_AFTER: Final = r"(?:\b|_)"
_LOOKS: Final = re.compile(r"\(\?<?[=!]")
_POSSESSIVE: Final = re.compile(r"(?<=[+*}])\+")
_SPACE: Final = r"(?:[ +]|%20){1,4}"
_TOKEN: Final = r"[\w.~+/=-]"
_HUMPS: Final = r"[a-z][A-Z][A-Za-z]{0,32}[a-z][A-Z]"  # two at least: `MicroPython` has one

_TWINS: Final[Mapping[str, str]] = {
    r"[spr]k-(?:live": r"[spr]k-(?:live|test|proj|ant|or|svcacct|admin|lf)-"
    r"(?:[A-Za-z_-]{0,64}\d[\w-]{8,}|[A-Za-z_-]{8,64}\d[\w-]*|[A-Za-z0-9]{16,})",
    r"A(?:KIA|": r"A(?:KIA|SIA|BIA|CCA)[A-Z0-9]{16}" + _AFTER,
    r"SK[0-9a-f]": r"SK[0-9a-f]{32}" + _AFTER,
    r"key-(?<!": "",  # Mailgun's has a beginning of its own: _MAILGUN
}
"""What takes the place of a pattern that looks ahead or behind, by how that begins."""

_MAILGUN: Final = r"(?:^|[^A-Za-z0-9_-]|(?:^|[^A-Za-z0-9])[_-])key-[0-9a-f]{32}" + _AFTER

_BASE64: Final = r"[A-Za-z0-9+/]"
_WITH_COLON: Final = (  # base64 in which a colon is encoded, in the first, second or third byte of a group of three
    rf"(?:{_BASE64}{{4}}){{0,40}}(?:O[g-v]|{_BASE64}[DTjz][o-r]|{_BASE64}{{2}}[AEIMQUYcgkosw048]6)[A-Za-z+/]*[0-9=]"
)
_CREDENTIALS: Final = (
    rf"[Bb](?i:asic){_SPACE}(?:{_WITH_COLON}|[A-Za-z+/]{{0,19}}\d{_BASE64}{{7}}|{_BASE64}{{20}}){_TOKEN}*",
    # Words and numbers that hyphens join are a name, as in `Bearer bonds-2024-q1`, unless they are many.
    rf"[Bb](?i:earer){_SPACE}(?:[A-Za-z._~/+]{{0,64}}(?:[0-9=]|{_HUMPS}){_TOKEN}{{4,}}|{_TOKEN}{{24,}})",
)

_PRIVATE_KEY: Final = r"-----BEGIN[ +][A-Z +]{0,40}PRIVATE[ +]KEY[\s\S]*|PuTTY-User-Key-File-[\s\S]*"
_WITHIN: Final = r"[\w~.]{3}\dQ~[\w~.-]{31,}|[A-Za-z0-9]{14}\.atlasv1\.[\w-]{40,}"

_LOGINS: Final = (
    # A password is not a port: it has something else among its first characters, or is longer.
    r"://(?:[^/\s?#]*@|[^/\s:@?#]{1,64}:(?:[^\s@\d]|\d{1,5}[^\s@\d/?#]|\d{6})[^\s@]{0,128}@(?:[^\s@/]{1,128}@)?)",
    r"(?:^|[^\w.+-])[\w.+-]{1,64}:[^\s@/:]{1,128}@(?:localhost\b|[\w.-]{1,253}:\d{2,5}\b|(?:tcp|unix)\()",
)

_FIRST: Final = r"[^\s\"'&;,<>{\[.$*:]"  # `{token}` and `:token` are places for one, `[redacted]` was one
_VALUE: Final = r"[^\s\"'&;,<>]"
_LETTERED: Final = r"[^\s\"'&;,<>{\[.$*:\d]"
_DIGITLESS: Final = r"[^\s\"'&;,<>\d]"
_ASSIGNED: Final = (
    r"(?:(?i:authorization)[\"']?\s?[:=]|(?i:cookie)[\"']?\s?[:=][^\r\n=\d]{0,64}[=\d])\s{0,2}[\"']?[^\"'\r\n]{4,}",
    r"(?i:passw(?:or)?d|passphrase|pwd|client[_-]?secret|"
    r"(?:api|access|account|private|signing|secret|auth|encryption|master)[_-]?key(?:[_-]?id)?)"
    rf"[\"']?\s?(?:=|:[\s\"'])\s?[\"']?{_FIRST}{_VALUE}*",
    # Six characters: it is no count of five digits, and neither `true` nor `false`.
    r"(?i:secret|token|credentials?|sess(?:ion)?[_-]?id|connect\.sid|signature|\bsig"
    r"|(?:^|[^a-z0-9])(?:db|database|mysql|postgres|pg|redis|smtp|mail|ftp|user|admin|root)_pass|(?:^|[^a-z0-9_-])pass)"
    rf"(?:(?:[\"']?\s?=\s?[\"']?|[\"']\s?:\s?[\"']){_FIRST}{_VALUE}{{5,}}"
    # Behind a colon it has a digit, and is no count of five at most.
    rf"|:\s(?:{_LETTERED}(?:{_VALUE}{{2,64}}\d|{_VALUE}{{0,64}}\d{_VALUE}{{2}})|\d{{1,5}}{_DIGITLESS}{_VALUE}{{2}}|\d{{6}})"
    rf"{_VALUE}*)",
)  # fmt: skip

_LOCAL: Final = r"[^\s@<>()\[\]{}\",;:/\\|?=&#%]"
_LABEL: Final = r"[^\x00-,./:-@\[-^`{-\x7f\s]"
_LETTER: Final = r"[^\x00-@\[-`{-\x7f\s]"
_AT: Final = r"(?:@|%(?:25)?40|\\u0040|\\x40|&#0{0,4}64;|&#[xX]0{0,4}40;|&commat;|[\x{ff20}\x{fe6b}])"
_LAST: Final = rf"(?:{_LABEL}+\.)*{_LETTER}{{2}}{_LABEL}*"
_EMAIL: Final = (
    rf"{_LOCAL}+{_AT}(?:"
    # A version, an image or a year in the place of the domain's first label make it none: `pkg@1.2.3`, `icon@2x.png`.
    rf"(?:[^\x00-,./0-9:-@\[-^`{{-\x7f\sv]{_LABEL}*|v(?:[^\x00-,./0-9:-@\[-^`{{-\x7f\s]{_LABEL}*)?"
    rf"|v?\d+(?:[^\x00-,./0-9:-@\[-^`{{-\x7f\sx]{_LABEL}*|x{_LABEL}+))\.{_LAST}"
    rf"|(?:v\d+|\d{{1,3}}|\d{{5,}}|[013-9]\d{{3}}|2[1-9]\d\d)\.{_LETTER}(?:{_LABEL}*\.{_LAST}|{_LABEL}+)"
    rf"|20\d\d\.{_LETTER}{{2,3}}(?:\.{_LAST}|\b))"
)


def re2(pattern: str) -> str:
    """A pattern of the package's in RE2.

    Raises:
        LookupError: it looks ahead or behind, and has no twin here that does not.
    """
    if not _LOOKS.search(pattern):
        return _POSSESSIVE.sub("", pattern)
    for beginning, twin in _TWINS.items():
        if pattern.startswith(beginning):
            return twin
    raise LookupError(f"a pattern looks ahead or behind, which RE2 cannot: {pattern}")


def patterns(*, email_addresses: bool) -> list[str]:
    """What is masked in every value, an e-mail address too unless they are allowed."""
    issued = [twin for pattern in ISSUED if (twin := re2(pattern))]
    found = [
        f"{_BEFORE}(?:{'|'.join((*issued, *_CREDENTIALS))})", _MAILGUN, _PRIVATE_KEY, _WITHIN, *_LOGINS, *_ASSIGNED,
    ]  # fmt: skip
    return found if email_addresses else [*found, _EMAIL]


HARMLESS: Final = (
    r"^(?:[A-Za-z0-9_./{}-]{0,12}"  # too short for a secret, and without the marks that short ones have
    r"|[0-9a-f]{16}|[0-9a-f]{32}|[a-z0-9_-]{1,16}:[0-9a-f]{32}"  # ids and keyed hashes
    r"|[a-z]{1,16}(?:\.[a-z]{1,16}){1,5}|(?:/(?:[a-z]{1,16}|v[0-9]|\{[a-z_]{1,16}\})){1,8})$"  # hosts and routes
)
"""Values that hold none of it, as most do: they are not searched, which costs more than all else that is done here."""
