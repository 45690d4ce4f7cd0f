"""The spool files of a directory, read from outside, also while processes use them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .place import SUFFIX, Origin
from .salvage import ASIDE, DAMAGED

_PATIENCE: Final = 2.0  # seconds to wait for a process that writes


@dataclass(frozen=True, slots=True)
class SpoolFile:
    """One file and what is in it."""

    path: Path
    size: int
    """Bytes of the file."""
    origin: Origin | None
    """None: it cannot be read, see ``unreadable``."""
    payloads: int = 0
    spans: int = 0
    processes: int = 0
    """Processes, living or dead, whose spans are in it."""
    oldest: float | None = None
    """When the oldest payload was put in, in seconds since the epoch. None: there is none."""
    unreadable: str | None = None
    """Why it cannot be read, in a few words. None: it can."""


def survey(directory: Path) -> Iterator[SpoolFile]:
    """What is in a directory, by name. Files that were set aside, or are another version's, are there too."""
    for path in sorted(directory.glob("*.sqlite3*")):
        if path.name.endswith(SUFFIX):
            yield _read(path)
        elif path.name.endswith(ASIDE):
            yield SpoolFile(path, path.stat().st_size, None, unreadable="set aside, because it was damaged")
        elif path.name.endswith(DAMAGED):
            yield SpoolFile(path, path.stat().st_size, None, unreadable="damaged, and not rescued yet")
        elif path.name.endswith(".sqlite3"):
            yield SpoolFile(path, path.stat().st_size, None, unreadable="of another version")


def _read(path: Path) -> SpoolFile:
    size = path.stat().st_size
    try:
        db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=_PATIENCE)
        try:
            origin = db.execute("SELECT endpoint, dataset, service FROM origin").fetchone()
            counts = db.execute("SELECT count(*), min(kept_at) FROM payloads").fetchone()
            totals = db.execute("SELECT count(*), coalesce(sum(spans), 0) FROM totals").fetchone()
        finally:
            db.close()
    except sqlite3.Error as error:
        return SpoolFile(path, size, None, unreadable=getattr(error, "sqlite_errorname", type(error).__name__))
    return SpoolFile(path, size, Origin(*origin), counts[0], totals[1], totals[0], counts[1])
