"""Makes a pipeline of its template: everything but the marked lines stays as it is written there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.resources import files
from typing import Final

from .blocks import BLOCKS
from .choices import Choices

_SUFFIX: Final = ".yaml.in"
_MARK: Final = re.compile(r"( *)@([a-z_]+)@")

PIPELINES: Final = tuple(
    sorted(entry.name.removesuffix(_SUFFIX) for entry in files(__package__).iterdir() if entry.name.endswith(_SUFFIX))
)
"""The name of each pipeline: that of its template, and of its file in ``collector-config/``."""


def pipeline(name: str, choices: Choices | None = None) -> str:
    """The YAML of a pipeline out of :data:`PIPELINES`.

    Raises:
        KeyError: its template has a mark that no block is made for.
    """
    text = files(__package__).joinpath(name + _SUFFIX).read_text(encoding="utf-8")
    return "\n".join(_lines(text, choices or Choices())) + "\n"


def _lines(text: str, choices: Choices) -> Iterator[str]:
    for line in text.splitlines():
        mark = _MARK.fullmatch(line)
        if mark is None:
            yield line
        else:
            indent, block = mark.groups()
            yield from (indent + made if made else "" for made in BLOCKS[block](choices))
