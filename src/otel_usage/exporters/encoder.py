"""Spans become payloads: without what looks like a secret, encoded in slices, on the worker's thread."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Final

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan

from ..facts import WorkFacts
from ..guard import report
from ..maker import SpanMaker
from ..native import yield_interpreter
from ..payload import EncodedPayload
from ..readable import Recorded, UsageReadableSpan, finished
from . import wire
from .outcome import Prepared
from .redacting import Redactor
from .span_writer import SpanWriter

SLICE: Final = 32
"""Spans that are encoded at a stretch. Between slices the interpreter lock is free for requests."""

OFFICIAL: Final = "USAGE_OFFICIAL_ENCODER"
"""The variable that has every span encoded by OpenTelemetry's own encoder, ten times as slow, if it is ``1``."""


def _finished(recorded: Sequence[ReadableSpan | Recorded]) -> list[ReadableSpan]:
    """Those of them that can become spans: one that cannot must not cost the others."""
    spans = []
    for one in recorded:
        try:
            spans.append(finished(one))
        except Exception as error:  # as it says; it is counted as unencodable
            report("exporters.encoder._finished", error)
    return spans


class Encoder:
    """Makes spans into payloads, with every string redacted."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._writer: SpanWriter | None = None
        self._official = os.environ.get(OFFICIAL) == "1"
        self.left_to_official = 0
        """Spans that the official encoder was asked to encode, because ours does not know how."""

    def __call__(self, spans: Sequence[ReadableSpan | Recorded]) -> Prepared:
        """A payload of all ``spans`` that can be written as OTLP. Never raises."""
        parts, count = [], 0
        for start in range(0, len(spans), SLICE):
            for part, encoded in self._encode(_finished(spans[start : start + SLICE])):
                parts.append(encoded)
                count += part
            yield_interpreter()
        # Encoded messages of one type, one after the other, are one message (protobuf's rule for repeated fields).
        payload = EncodedPayload.of(b"".join(parts), count) if count else None
        return Prepared(payload, unencodable=len(spans) - count)

    @property
    def misses(self) -> int:
        """How often something had to be worked out that is remembered for later spans."""
        return self._writer.misses if self._writer is not None else 0

    def _encode(self, spans: Sequence[ReadableSpan]) -> Iterator[tuple[int, bytes]]:
        """Requests and their numbers of spans."""
        try:
            if not self._official:
                yield len(spans), self._written(spans)
                return
        except Exception:  # what no usage span holds; and what is new to this encoder must not cost a span
            self.left_to_official += len(spans)
        yield from self._officially(spans)

    def _written(self, spans: Sequence[ReadableSpan]) -> bytes:
        """The request, by our own hand.

        Raises:
            UnwritableError: one of the spans holds what is not ours to write.
        """
        ours, others = [], []
        for span in spans:
            # Work that the application names has attributes of its own choosing, which have nothing in common.
            if type(span) is UsageReadableSpan and type(span.facts) is not WorkFacts:
                ours.append(self._writer_of(span.maker)(span))
            else:
                others.append(self._redactor.span(span))
        requests = [self._framed(ours)] if ours else []
        for (resource, scope), run in groupby(others, key=lambda span: (span.resource, span.instrumentation_scope)):
            requests.append(wire.request(resource, scope, map(wire.span, run)))
        return b"".join(requests)

    def _framed(self, ours: list[bytes]) -> bytes:
        assert self._writer is not None  # it has written them
        maker = self._writer.maker
        return wire.request(self._redactor.resource(maker.resource), self._redactor.scope(maker.scope), ours)

    def _writer_of(self, maker: SpanMaker) -> SpanWriter:
        writer = self._writer
        if writer is None or writer.maker is not maker:
            writer = self._writer = SpanWriter(maker, self._redactor)
        return writer

    def _officially(self, spans: Sequence[ReadableSpan]) -> Iterator[tuple[int, bytes]]:
        """One request of all spans, or several of those that can be encoded."""
        encoded = self._official_request(spans)
        if encoded is not None:
            yield len(spans), encoded
        elif len(spans) > 1:
            middle = len(spans) // 2
            yield from self._officially(spans[:middle])
            yield from self._officially(spans[middle:])

    def _official_request(self, spans: Sequence[ReadableSpan]) -> bytes | None:
        """The request. None: protobuf takes one of them for nothing that it could be."""
        try:
            return encode_spans([self._redactor.span(span) for span in spans]).SerializeToString()
        except Exception:  # protobuf's own: a lone surrogate, a number beyond 64 bits, an id of a wrong length
            return None
