"""Strings of OTTL in strings of YAML, in which the Collector expands variables: each doubles characters of its own."""

from __future__ import annotations

from collections.abc import Iterable


def literal(text: str) -> str:
    """A string of OTTL."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def quoted(text: str) -> str:
    """A string of YAML, in which the Collector finds no variable to expand. It has no line breaks."""
    return "'" + text.replace("'", "''").replace("$", "$$") + "'"


def items(texts: Iterable[str], indent: int = 0) -> list[str]:
    """Lines of a list of such strings."""
    return [" " * indent + "- " + quoted(text) for text in texts]
