"""What is made at Axiom: its name there, its content, and the mark by which it is known again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class ThingKind(StrEnum):
    """What it is to Axiom."""

    DASHBOARD = "dashboard"
    MONITOR = "monitor"


@dataclass(frozen=True, slots=True)
class Thing:
    """A dashboard or a monitor as it should be."""

    kind: ThingKind
    key: str
    """What it is called in file names: ``dashboard``, ``silence``, …"""
    content: Mapping[str, Any]
    """Axiom's JSON of it. Whatever is not named in it is left as it is there."""

    @property
    def name(self) -> str:
        """What people see."""
        return str(self.content["name"])


def mark(dataset: str, key: str) -> str:
    """The end of a description. What lacks it was not made here, and is not touched."""
    return f"[made by otel-usage: {dataset}/{key}]"
