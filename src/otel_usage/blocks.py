"""What the application says of the calls within a ``with``: carried with its context, whatever is said there.

A block is read where a call begins, so a task or thread that was started within may outlast it: such a block has ended,
and what is around it counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final, TypeVar

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Block:
    """One entering of a ``with`` statement."""

    says: object
    owner: object
    """The context manager. Tasks and threads may share one: each has a block of its own."""
    around: Block | None
    ended: bool = False


_HERE: Final[ContextVar[Block | None]] = ContextVar("otel_usage.blocks", default=None)


def here() -> Block | None:
    """The innermost block around the caller that goes on. None: there is none."""
    return _going_on(_HERE.get())


def _going_on(block: Block | None) -> Block | None:
    while block is not None and block.ended:
        block = block.around
    return block


def said(kind: type[T]) -> T | None:
    """What the nearest block says that says something of this kind. None: none does."""
    block = _HERE.get()
    while block is not None:
        if not block.ended and isinstance(block.says, kind):
            return block.says
        block = block.around
    return None


def last_said(kind: type[T]) -> T | None:
    """The same, also of a block that has ended: what was around a task or thread when it was started."""
    block = _HERE.get()
    while block is not None:
        if isinstance(block.says, kind):
            return block.says
        block = block.around
    return None


@contextmanager
def carried(block: Block | None) -> Iterator[None]:
    """Have the blocks of another thread around what is within. None: no block is around it."""
    token = _HERE.set(block)
    try:
        yield
    finally:
        _HERE.reset(token)


def begin(owner: object, says: object) -> Block:
    """A block of ``owner`` begins here.

    What has ended around it is let go: a generator that is given up ends its block in another context than the one that
    it has begun it in, and a worker may go on with that one for ever.
    """
    around = here()
    if around is not None:
        around.around = _going_on(around.around)
    block = Block(says, owner, around)
    _HERE.set(block)
    return block


def end(owner: object, latest: Block | None) -> Block | None:
    """The block of ``owner`` around the caller ends; where none is, as in a generator that is closed in another
    context, the ``latest`` that it has begun does. Returns the one that has ended.
    """
    block = _HERE.get()
    if block is not None and block.owner is owner:
        _HERE.set(block.around)
    else:
        block = latest
    if block is not None:
        block.ended = True
    return block
