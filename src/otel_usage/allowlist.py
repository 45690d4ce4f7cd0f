"""What may leave: attributes that the schema names, in its types and lengths. All else is dropped and counted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .ledger import DropCounter
from .schema import allowed_on


def filter_attributes(place: str, attributes: Mapping[str, Any], drops: DropCounter) -> dict[str, Any]:
    """The attributes that the schema allows on ``place``, in its types. The others are counted by key in ``drops``."""
    allowed = allowed_on(place)
    kept = {}
    for key, value in attributes.items():
        attribute = allowed.get(key)
        accepted = attribute.accept(value) if attribute is not None else None
        if accepted is not None:
            kept[key] = accepted
        elif value is not None:
            drops.add(key)
    return kept
