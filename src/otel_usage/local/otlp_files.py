"""Files of OTLP/JSON, one export on each line, as the file exporter of the OpenTelemetry Collector writes them."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

from .otlp import JSON, MAX_BODY_BYTES, OtlpError, ReceivedSpan, parse_export

BATCH: Final = 2000
"""Spans that are stored together."""

_SHOWN: Final = 200


@dataclass(slots=True)
class Ingested:
    """What a file held."""

    spans: int = 0
    """Spans, with repetitions."""
    stored: int = 0
    """Those that were new."""
    unreadable: int = 0
    """Lines that are no export of spans."""
    first: str = ""
    """Of the first of these, the number of the line and the reason. Empty: there is none."""

    def refuse(self, number: int, reason: str) -> None:
        """Count a line that cannot be read."""
        self.unreadable += 1
        self.first = self.first or f"line {number}: {reason[:_SHOWN]}"


def ingest(stream: BinaryIO, add: Callable[[list[ReceivedSpan]], int]) -> Ingested:
    """Read a file to its end. ``add`` stores spans and returns how many were new.

    A line that is no export of spans is counted and left out: a Collector that was killed leaves half a line.
    What was stored before an error stays, and is not stored again when the file is read anew.
    """
    found = Ingested()
    waiting: list[ReceivedSpan] = []
    try:
        for number, line in enumerate(_lines(stream), 1):
            if line is None:
                found.refuse(number, f"longer than {MAX_BODY_BYTES} bytes")
            elif line.strip():
                try:
                    waiting += parse_export(line, JSON)
                except OtlpError as error:
                    found.refuse(number, str(error))
            if len(waiting) >= BATCH:
                _store(found, waiting, add)
                waiting = []
    except (OSError, EOFError, zlib.error):  # a compressed file that is cut short: what came before it is whole
        _store(found, waiting, add)
        raise
    _store(found, waiting, add)
    return found


def _store(found: Ingested, spans: list[ReceivedSpan], add: Callable[[list[ReceivedSpan]], int]) -> None:
    found.spans += len(spans)
    found.stored += add(spans)


def _lines(stream: BinaryIO) -> Iterator[bytes | None]:
    """Each line. None for one that is longer than is read."""
    while line := stream.readline(MAX_BODY_BYTES + 1):
        if len(line) <= MAX_BODY_BYTES:
            yield line
            continue
        while line and not line.endswith(b"\n"):
            line = stream.readline(MAX_BODY_BYTES)
        yield None
