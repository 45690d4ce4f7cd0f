"""The measured process on one core and the sink on another, where the system lets us say so."""

from __future__ import annotations

import os


def stay_on(*, first: bool) -> None:
    """Bind this process to the first, or else the last, of the cores that it may use."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[0] if first else cores[-1]})
