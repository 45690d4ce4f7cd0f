"""What may leave: attributes that the schema names, in its types and lengths, and that OTLP has a form for.

All else is dropped and counted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from .ledger import DropCounter
from .schema import allowed_on


def filter_attributes(place: str, attributes: Mapping[str, Any], drops: DropCounter) -> dict[str, Any]:
    """The attributes that the schema allows on ``place``, in its types. The others are counted by key in ``drops``."""
    allowed = allowed_on(place)
    kept = {}
    for key, value in attributes.items():
        attribute = allowed.get(key)
        accepted = attribute.accept(value) if attribute is not None and encodable(value) else None
        if accepted is not None:
            kept[key] = accepted
        elif value is not None:
            drops.add(key)
    return kept


def encodable(value: object) -> bool:
    """Whether OTLP can carry it, as far as strings and numbers go: text that is Unicode, integers of 64 bits.

    Any other would fail the encoding of the whole batch, or be lost in it without being counted.
    """
    if isinstance(value, str):
        return value.isascii() or not _SURROGATE.search(value)
    return not isinstance(value, int) or -(1 << 63) <= value < 1 << 63


_SURROGATE: Final = re.compile("[\ud800-\udfff]")
