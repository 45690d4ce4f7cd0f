"""Which recorder is running in this process. Kept apart so that recording functions cost nothing to import."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .recorder import Recorder

running: Recorder | None = None
"""What :func:`active` returns, for who is asked with each request. To be read by way of the module, and never set."""


def active() -> Recorder | None:
    """The recorder of the running pipeline, or None when usage is off."""
    return running


def activate(recorder: Recorder | None) -> None:
    """Set the recorder of this process; None switches recording off."""
    global running
    running = recorder
