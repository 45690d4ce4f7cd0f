"""What may leave: attributes that the schema names, as it accepts them. All else is dropped and counted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from .forms import printable
from .ledger import Drops
from .schema import DEFAULT_CAP, allowed_on

NAME_CAP: Final = 2 * DEFAULT_CAP
"""Longest span name in characters: of a method and a route at the most."""


def filter_attributes(place: str, attributes: Mapping[str, Any], drops: Drops) -> dict[str, Any]:
    """The attributes that the schema allows on ``place``, in its types. The others are counted by key in ``drops``.

    None stands for a fact that is not known: it is left out, and not counted.
    """
    allowed = allowed_on(place)
    kept = {}
    for key, value in attributes.items():
        if value is None:
            continue
        attribute = allowed.get(key)
        accepted = attribute.accept(value) if attribute is not None else None
        if accepted is not None:
            kept[key] = accepted
        else:
            drops.add(key)
    return kept


def span_name(fallback: str, *parts: object) -> str:
    """A span's name made of those parts that could leave as an attribute; ``fallback`` where none could."""
    return " ".join(p for p in parts if isinstance(p, str) and p and len(p) <= DEFAULT_CAP and printable(p)) or fallback
