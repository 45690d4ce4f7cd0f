"""The blocks that a template may name, each a function from choices to lines of YAML."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from . import allowlist, counting, sorting
from .choices import Choices

BLOCKS: Final[Mapping[str, Callable[[Choices], Iterable[str]]]] = {
    "allowlist": allowlist.processors,
    "allowlist_order": allowlist.order,
    "metrics": counting.metrics,
    "no_usage": sorting.no_usage,
    "other_reason": counting.other_reason,
    "redaction": allowlist.redaction,
    "usage": sorting.usage,
}
"""By the name that stands between two ``@`` on a line of its own. The block takes that line's indentation."""
