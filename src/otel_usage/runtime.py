"""Which recorder is running in this process. Kept apart so that recording functions cost nothing to import."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .recorder import Recorder

_active: Recorder | None = None


def active() -> Recorder | None:
    """The recorder of the running pipeline, or None when usage is off."""
    return _active


def activate(recorder: Recorder | None) -> None:
    """Set the recorder of this process; None switches recording off."""
    global _active
    _active = recorder
