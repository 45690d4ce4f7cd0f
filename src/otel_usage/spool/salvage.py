"""A spool file that cannot be used: moved aside, and read as far as it goes."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ..payload import EncodedPayload

Row = tuple[int, str, float, int, bytes]
"""A payload: its number, its owner, seconds since the epoch, spans, body."""

DAMAGED: Final = ".damaged"
"""What the name of a file ends with that was moved aside and waits to be read."""
ASIDE: Final = ".aside"
"""The same once everything that can be read has been taken over."""


def set_aside(path: Path) -> Path:
    """Rename the file, with its journal, so that nothing in it is lost. Its new name, under which it waits for rescue.

    Raises:
        OSError: it cannot be renamed.
    """
    damaged = path.with_name(f"{path.name}.{time.strftime('%Y%m%dT%H%M%S')}.{os.getpid()}{DAMAGED}")
    path.rename(damaged)
    journal = Path(f"{path}-journal")
    if journal.exists():
        journal.rename(f"{damaged}-journal")
    return damaged


def waiting_for_rescue(path: Path) -> list[Path]:
    """The files that were set aside in the place of ``path``, and that nobody has read yet."""
    return sorted(path.parent.glob(f"{path.name}.*{DAMAGED}"))


def rescued(damaged: Path) -> Path:
    """Mark a file as read. Its new name."""
    aside = damaged.with_name(damaged.name.removesuffix(DAMAGED) + ASIDE)
    damaged.rename(aside)
    return aside


def rescue(path: Path) -> Iterator[Row]:
    """The payloads that can still be read, one by one. Never raises."""
    try:
        _admit_truncation(path)
        db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True)
    except (OSError, sqlite3.Error):
        return
    db.text_factory = lambda data: data.decode(errors="replace")
    try:
        # From both ends to the damage. Numbers first: bodies may be more than the memory should hold.
        last = 0
        for number in _walk(db, "SELECT id FROM payloads WHERE id > ? ORDER BY id LIMIT 1", 0, 1):
            last = number
            yield from _row(db, number)
        for number in _walk(db, "SELECT id FROM payloads WHERE id < ? ORDER BY id DESC LIMIT 1", 1 << 62, -1):
            if number <= last:
                return
            yield from _row(db, number)
    finally:
        db.close()


def _row(db: sqlite3.Connection, number: int) -> Iterator[Row]:
    """The payload of a number, if it can be read and is whole."""
    try:
        row = db.execute("SELECT owner, kept_at, spans, body FROM payloads WHERE id = ?", (number,)).fetchone()
        owner, kept_at, spans, body = row
        if EncodedPayload(bytes(body), int(spans)).intact:
            yield number, str(owner), float(kept_at), int(spans), bytes(body)
    except (sqlite3.Error, TypeError, ValueError):
        return


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


def _walk(db: sqlite3.Connection, query: str, position: int, direction: int) -> Iterator[int]:
    """Numbers one by one, up or down from a position, until one cannot be read or damage leads back."""
    while True:
        try:
            row = db.execute(query, (position,)).fetchone()
        except sqlite3.Error:
            return
        if row is None or not isinstance(row[0], int) or (row[0] - position) * direction <= 0:
            return
        position = row[0]
        yield position
