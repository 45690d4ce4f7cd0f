"""Random ids, in the form in which they are sent: bytes.

From a generator of our own, seeded by the system: an application may seed ``random`` itself as it likes, and the ids
tell duplicates. Not from the system each time: such a call lets go of the interpreter lock, and in the middle of a
request the worker would take it, for 5 ms at worst.
"""

from __future__ import annotations

import os
import random
from typing import Final

Ids = tuple[bytes, bytes]
"""A trace's id (16 bytes) and a span's (8). That one is all zeros, which is no id, has a probability of 2 to the power
of -64."""

_RANDOM: Final = random.Random()  # noqa: S311  # ids are no secrets

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_RANDOM.seed)  # else it would draw what its parent draws


def new_ids() -> Ids:
    """For a new trace and its first span. One draw, of which there is but one at a time whatever the threads."""
    drawn = _RANDOM.getrandbits(192).to_bytes(24)
    return drawn[:16], drawn[16:]


def new_span_id() -> bytes:
    """For another span of a trace."""
    return _RANDOM.getrandbits(64).to_bytes(8)
