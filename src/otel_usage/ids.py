"""Random ids in the form in which they are sent: bytes, drawn from the system in batches.

From the system's randomness and not from ``random``, which an application may seed as it likes: the ids tell
duplicates. A batch costs one call to the system for a hundred ids (0.1 µs an id; one call for each took 0.5 µs).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import Final

_BATCH: Final = 128

Ids = tuple[bytes, bytes, bytes]
"""A trace's id (16 bytes), a span's (8) and a request's (16). That one is all zeros, which is no id, has a probability
of 2 to the power of -64."""


class _Supply:
    """Ids of a batch. Thread-safe: an iterator of C's gives an item to one thread alone, and two threads that find it
    empty each draw a batch.
    """

    def __init__(self) -> None:
        self._drawn: Iterator[Ids] = iter(())

    def __call__(self) -> Ids:
        for drawn in self._drawn:
            return drawn
        self._drawn = _FORM.iter_unpack(os.urandom(_FORM.size * _BATCH))
        return self()

    def forget(self) -> None:
        """Draw anew: what was drawn before a fork is the parent's."""
        self._drawn = iter(())


_FORM: Final = struct.Struct("16s8s16s")

new_ids: Final = _Supply()
"""For a new trace, its first span, and the request that both are of."""


def new_span_id() -> bytes:
    """For another span of a trace."""
    return new_ids()[1]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=new_ids.forget)
