"""Spans become payloads: without what looks like a secret, encoded in slices, on the worker's thread."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan

from ..native import yield_interpreter
from ..payload import EncodedPayload
from .outcome import Prepared
from .redacting import Redactor

SLICE: Final = 32
"""Spans that are encoded at a stretch. Between slices the interpreter lock is free for requests."""


class Encoder:
    """Makes spans into payloads, with every string redacted."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor

    def __call__(self, spans: Sequence[ReadableSpan]) -> Prepared:
        """A payload of all ``spans`` that can be written as OTLP. Never raises."""
        parts, count = [], 0
        for start in range(0, len(spans), SLICE):
            for part, encoded in self._encode(spans[start : start + SLICE]):
                parts.append(encoded)
                count += part
            yield_interpreter()
        # Encoded messages of one type, one after the other, are one message (protobuf's rule for repeated fields).
        payload = EncodedPayload.of(b"".join(parts), count) if count else None
        return Prepared(payload, unencodable=len(spans) - count)

    def _encode(self, spans: Sequence[ReadableSpan]) -> Iterator[tuple[int, bytes]]:
        """Requests and their numbers of spans: one of all, or several of those that can be encoded."""
        encoded = self._encoded(spans)
        if encoded is not None:
            yield len(spans), encoded
        elif len(spans) > 1:
            middle = len(spans) // 2
            yield from self._encode(spans[:middle])
            yield from self._encode(spans[middle:])

    def _encoded(self, spans: Sequence[ReadableSpan]) -> bytes | None:
        """The request. None: protobuf takes one of them for nothing that it could be."""
        try:
            return encode_spans([self._redactor.span(span) for span in spans]).SerializeToString()
        except Exception:  # protobuf's own: a lone surrogate, a number beyond 64 bits, an id of a wrong length
            return None
