"""Which spans are usage: what this package made, or what says so, and is treated as such."""

from __future__ import annotations

from typing import Final

from ..readable import SCOPE
from ..schema import RecordKind
from .choices import Choices
from .text import items

_KINDS: Final = "|".join(RecordKind)
_KIND: Final = 'span.attributes["usage.kind"]'
# A map that holds no number (NaN) cannot be matched: it would be an error, and everything that came with it refused.
_USAGE: Final = f'scope.name == "{SCOPE.name}" and IsString({_KIND}) and IsMatch({_KIND}, "^(?:{_KINDS})$")'


def usage(_choices: Choices) -> list[str]:
    """The condition that a span is usage."""
    return items([_USAGE])


def no_usage(_choices: Choices) -> list[str]:
    """The condition that it is not."""
    return items([f"not ({_USAGE})"])
