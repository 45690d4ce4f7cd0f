"""What a spool is: payloads in the order in which they came, bounded, oldest first out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Final

from ..payload import Payload

REPLAY_PAUSE: Final = 0.1
"""Seconds between two replayed payloads, of all processes together: up to ten batches a second."""


PATIENCE: Final = 5
"""Attempts at a payload after which others go first."""

LONGEST_PAUSE: Final = 64
"""Seconds at most until such a payload is tried again, while others are taken."""


class SpoolError(Exception):
    """The place where payloads are kept cannot be used now. The message says why in our own words."""


class SpoolReplaced(SpoolError):
    """The place could not be used and has been made anew: it can be used now."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What a spool holds now."""

    mine: int = 0
    """Spans that were put in by this process."""
    spans: int = 0
    """Spans of every process."""
    size: int = 0
    """Bytes of all payloads."""
    place: str | None = None
    """What tells this place from another of the same name: a file that was made anew holds nothing of the last one.
    None: there is no place yet, or it is memory."""


@dataclass(frozen=True, slots=True)
class Evicted:
    """What had to go to keep the bounds: spans by reason."""

    mine: Mapping[str, int] = field(default_factory=dict)
    others: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Entry:
    """A payload in the spool."""

    key: Any
    """What the spool knows it by."""
    payload: Payload
    mine: bool
    """Whether this process put it in."""
    tired: bool = False
    """Whether it has failed so often that others go before it."""


class Turn(Enum):
    """The turn to replay, which one process has at a time."""

    MINE = auto()
    """This process has it, for the length of the block."""
    OTHERS = auto()
    """Another process has it, and has had the sink take something a moment ago."""
    NOT_NOW = auto()
    """Another process has it, of which nothing is known; or it has been had a moment ago."""


class Spool(ABC):
    """Keeps payloads. Used by one thread at a time, which is never a request's."""

    @property
    @abstractmethod
    def perishable(self) -> int:
        """Spans that would be lost if the process ended now."""

    @property
    def trouble(self) -> str | None:
        """Why payloads are not kept where they should be, in a few words. None: they are."""
        return None

    @property
    def may_hold(self) -> bool:
        """Whether it is worth a look: something may have been left by another process."""
        return False

    def catch_up(self, *, hurry: bool = False) -> Evicted:
        """Put what could not be put in its place there now. ``hurry``: it is the last chance."""
        return Evicted()

    @abstractmethod
    def put(self, payload: Payload) -> Evicted:
        """Keep ``payload`` behind all others. What goes to make room for it, it may be itself.

        Raises:
            SpoolError: it was not kept.
        """

    @abstractmethod
    def kept(self) -> Kept:
        """What is there now, also of other processes.

        Raises:
            SpoolError: nobody knows.
        """

    @abstractmethod
    def turn(self) -> AbstractContextManager[Turn]:
        """Take the turn to replay, if it is to be had.

        Raises:
            SpoolError: turns cannot be had.
        """

    @abstractmethod
    def oldest(self, *, well: bool) -> Entry | None:
        """The payload whose turn it is: the oldest, but one that has failed :data:`PATIENCE` times lets others go
        before it, so that it does not block them. While the sink is ``well``, the fault is the payload's own, and it is
        tried after a pause that doubles from a second. Before a payload is handed out, its removal is known to be
        possible.

        Raises:
            SpoolError: it cannot be read, or could not be removed.
        """

    @abstractmethod
    def replace(self, entry: Entry, left: Payload | None) -> int:
        """Put ``left`` in the place of an entry, or nothing. The number of its spans that were still there: others have
        gone meanwhile, to make room.

        Raises:
            SpoolError: it is still there.
        """

    @abstractmethod
    def renewed(self) -> Spool:
        """The same spool for a forked child, where this one must not be used any more."""

    def before_fork(self) -> None:  # noqa: B027  # most have nothing to let go of
        """Let go of everything that must not be in two processes."""

    def after_fork_in_parent(self) -> None:  # noqa: B027  # as above
        """Go on."""

    def close(self) -> None:  # noqa: B027  # as above
        """Let go of files. What lasts stays."""
