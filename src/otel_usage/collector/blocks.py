"""The blocks that a template may name, each a function from choices to lines of YAML."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from . import allowlist
from .choices import Choices

BLOCKS: Final[Mapping[str, Callable[[Choices], Iterable[str]]]] = {
    "allowlist": allowlist.processors,
    "allowlist_order": allowlist.order,
    "redaction": allowlist.redaction,
}
"""By the name that stands between two ``@`` on a line of its own. The block takes that line's indentation."""
