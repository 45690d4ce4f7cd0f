"""What a value has to look like, as conditions of OTTL: the forms of :mod:`otel_usage.forms` in RE2."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from ..forms import OTHER, SEGMENT, TEMPLATE
from ..redaction import REDACTED
from ..schema import Attribute, ValueType
from .text import literal

# A byte that is no UTF-8 is read as U+FFFD. Let through, it would have readers of protobuf refuse a whole export, with
# what others sent in it.
_NO_TEXT: Final = r"\x{fffd}"
_SURROGATES: Final = r"\ud800-\udfff"
CONTROL: Final = rf"[\x00-\x1f\x7f-\x{{9f}}\x{{2028}}\x{{2029}}{_NO_TEXT}]"
_WORDS: Final = r"[\w"

# What a template holds nothing of: a URL, a fragment, white space but after the comma of a converter, and a query, that
# is a question mark that no `(` stands before and that a `key=` follows, or a word up to the end.
_NO_TEMPLATE: Final = (
    r"://|#|(?:^|[^,]) "
    r"|[\x00-\x1f\x7f-\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}\x{fffd}]"
    r"|(?:^|[^(])\?(?:[^/()?]*=|[\pL\pN_%.~+&;:,@-]+$)"
)
_FORBIDDEN: Final[Mapping[re.Pattern[str], str]] = {TEMPLATE: _NO_TEMPLATE, SEGMENT: "/|" + _NO_TEMPLATE}
"""Forms that look ahead and behind, by what none of their values has anywhere."""

_MASKED: Final = rf"(?:{re.escape(REDACTED)}|\*{{4}})"
_PART_REDACTED: Final = r"^[\w.:/+=%$<>*-]*" + _MASKED + r"[\w.:/+=%$<>\[\]*-]*$"
"""What the service, or a Collector before this one, has made of a value of another form."""

_IS: Final[Mapping[ValueType, str]] = {
    ValueType.STRING: "IsString", ValueType.INT: "IsInt", ValueType.DOUBLE: "IsDouble", ValueType.BOOLEAN: "IsBool",
}  # fmt: skip


def condition(attribute: Attribute, value: str) -> str:
    """When a value, which is a path of OTTL, is one of the attribute's."""
    typed = f"{_IS[attribute.type]}({value})"
    if attribute.type is not ValueType.STRING:
        return typed
    if attribute.closed:
        return f"{typed} and {matches(value, _one_of(attribute.values))}"
    return f"{typed} and {short(attribute.cap, value)} and {_formed(attribute, value)}"


def searched(attribute: Attribute) -> bool:
    """Whether a value in its form can hold a secret: it is a string, and not one of a list."""
    return attribute.type is ValueType.STRING and not attribute.closed


def _one_of(values: tuple[str, ...]) -> str:
    return "^(?:" + "|".join(value.replace(".", r"\.") for value in values) + ")$"


def short(cap: int, value: str) -> str:
    """When a value has so many characters at most."""
    # Bytes are counted at once, and characters only where there are more bytes than characters may be.
    return f"(Len({value}) <= {cap} or IsMatch({value}, {literal(f'^(?s:.){{0,{cap}}}$')}))"


def _formed(attribute: Attribute, value: str) -> str:
    if attribute.form is None:
        return f"not {matches(value, CONTROL)}"
    if attribute.form in _FORBIDDEN:
        return f"not {matches(value, _FORBIDDEN[attribute.form])}"
    other = "|" + OTHER if attribute.distinct else ""
    whole = f"^(?:{re2(attribute.form)}{other})$"
    return f"({matches(value, whole)} or {matches(value, _PART_REDACTED)})"


def re2(form: re.Pattern[str]) -> str:
    """A form in RE2, in which a letter is one of ASCII unless said otherwise, and a text has no halves of pairs, but
    may have bytes that are none.
    """
    made = form.pattern.replace(_SURROGATES, _NO_TEXT).replace(_WORDS, r"[\pL\pN_")
    return re.sub(r"\\u([0-9a-f]{4})", r"\\x{\1}", made)


def matches(value: str, pattern: str) -> str:
    """When a value matches."""
    return f"IsMatch({value}, {literal(pattern)})"
