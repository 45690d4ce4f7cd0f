"""A spool file that cannot be used: moved aside, and read as far as it goes."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from ..payload import EncodedPayload

_COLUMNS: Final = "SELECT id, owner, kept_at, spans, body FROM payloads"


def set_aside(path: Path) -> Path:
    """Rename the file, with its journal, so that nothing in it is lost. Its new name.

    Raises:
        OSError: it cannot be renamed.
    """
    aside = path.with_name(f"{path.name}.{time.strftime('%Y%m%dT%H%M%S')}.{os.getpid()}.aside")
    path.rename(aside)
    journal = Path(f"{path}-journal")
    if journal.exists():
        journal.rename(f"{aside}-journal")
    return aside


def rescue(path: Path) -> Iterator[tuple[str, float, int, bytes]]:
    """The payloads that can still be read, in order: owner, seconds since the epoch, spans, body. Never raises."""
    try:
        db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True)
    except sqlite3.Error:
        return
    try:
        # From both ends to the damage.
        first = list(_walk(db, f"{_COLUMNS} WHERE id > ? ORDER BY id LIMIT 1", 0))
        last_seen = first[-1][0] if first else 0
        last = list(_walk(db, f"{_COLUMNS} WHERE id < ? ORDER BY id DESC LIMIT 1", 1 << 62, stop=last_seen))
        for _, owner, kept_at, spans, body in (*first, *reversed(last)):
            if isinstance(body, bytes) and isinstance(spans, int) and EncodedPayload(body, spans).intact:
                yield str(owner), float(kept_at), spans, body
    finally:
        db.close()


def _walk(db: sqlite3.Connection, query: str, position: int, stop: int | None = None) -> Iterator[tuple[Any, ...]]:
    while True:
        try:
            row = db.execute(query, (position,)).fetchone()
        except sqlite3.Error:
            return
        if row is None or row[0] == stop:
            return
        position = row[0]
        yield row
