"""A spool file that cannot be used: moved aside, and read as far as it goes."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from ..payload import EncodedPayload

Row = tuple[int, str, float, int, bytes]
"""A payload: its number, its owner, seconds since the epoch, spans, body."""

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


def rescue(path: Path) -> Iterator[Row]:
    """The payloads that can still be read, in order. Never raises."""
    try:
        _admit_truncation(path)
        db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True)
    except (OSError, sqlite3.Error):
        return
    try:
        # From both ends to the damage.
        first = list(_walk(db, f"{_COLUMNS} WHERE id > ? ORDER BY id LIMIT 1", 0, 1))
        stop = first[-1][0] if first else 0
        last = [
            row for row in _walk(db, f"{_COLUMNS} WHERE id < ? ORDER BY id DESC LIMIT 1", 1 << 62, -1) if row[0] > stop
        ]
        for number, owner, kept_at, spans, body in (*first, *reversed(last)):
            if isinstance(body, bytes) and isinstance(spans, int) and EncodedPayload(body, spans).intact:
                yield number, str(owner), float(kept_at), spans, body
    finally:
        db.close()


def _admit_truncation(path: Path) -> None:
    """Make SQLite read a file that is shorter than its header says. It believes the header only where the numbers of
    two changes agree (SQLite's file format, "In-header database size").
    """
    with path.open("r+b") as file:
        header = file.read(100)
        page, pages = int.from_bytes(header[16:18]), int.from_bytes(header[28:32])
        if path.stat().st_size < (page if page != 1 else 65536) * pages:
            file.seek(92)
            file.write(bytes(byte ^ 255 for byte in header[24:28]))


def _walk(db: sqlite3.Connection, query: str, position: int, direction: int) -> Iterator[tuple[Any, ...]]:
    """Rows one by one, up or down from a position, until one cannot be read or damage leads back."""
    while True:
        try:
            row = db.execute(query, (position,)).fetchone()
        except sqlite3.Error:
            return
        if row is None or not isinstance(row[0], int) or (row[0] - position) * direction <= 0:
            return
        position = row[0]
        yield row
