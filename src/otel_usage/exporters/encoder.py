"""Spans become payloads: without what looks like a secret, encoded in slices, on the worker's thread."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan

from ..guard import report
from ..maker import SpanMaker
from ..native import yield_interpreter
from ..payload import EncodedPayload
from ..readable import Queued, Recorded, finished
from ..status import EncoderHealth
from . import wire
from .outcome import Prepared
from .redacting import Redactor
from .span_writer import SpanWriter

SLICE: Final = 32
"""Spans that are encoded at a stretch. Between slices the interpreter lock is free for requests."""


_ALIKE: Final = itemgetter(slice(len(wire.field(b"\x12", bytes(512))) - 512, None))
"""What an encoded span is sorted by: all but its tag and its length. Spans that have much in common are then beside one
another, where gzip finds it sooner: with level 3 about as few bytes as with 4 in any order, in two thirds of the
time. The order of spans in a request says nothing: their times do."""


class Encoder:
    """Makes spans into payloads, with every string redacted. One owner: the worker."""

    def __init__(self, redactor: Redactor, *, official: bool = False) -> None:
        """``official``: OpenTelemetry's own encoder has to write every span, ten times as slow."""
        self._redactor = redactor
        self._writer: SpanWriter | None = None
        self._only_official = official
        self._written = self._left_to_official = 0

    def __call__(self, spans: Sequence[Queued]) -> Prepared:
        """A payload of all ``spans`` that can be written as OTLP. Never raises."""
        ours: list[bytes] = []
        parts, count = [], 0
        for start in range(0, len(spans), SLICE):
            for part, encoded in self._encode(spans[start : start + SLICE], ours):
                parts.append(encoded)
                count += part
            yield_interpreter()
        if ours:
            self._written += len(ours)
            ours.sort(key=_ALIKE)
            parts.append(self._framed(ours))
            count += len(ours)
        # Encoded messages of one type, one after the other, are one message (protobuf's rule for repeated fields).
        payload = EncodedPayload.of(b"".join(parts), count) if count else None
        return Prepared(payload, unencodable=len(spans) - count)

    @property
    def health(self) -> EncoderHealth:
        """How well it does. For any thread: each number is right, and they may be of different moments."""
        writer = self._writer
        misses, remembered = (writer.misses, writer.remembered) if writer is not None else (0, 0)
        return EncoderHealth(self._written, misses, remembered, self._left_to_official)

    def after_fork(self) -> None:
        """In a forked child: what is remembered holds there too, and what was counted was the parent's."""
        self._written = self._left_to_official = 0
        if self._writer is not None:
            self._writer.misses = 0

    def _encode(self, spans: Sequence[Queued], ours: list[bytes]) -> Iterator[tuple[int, bytes]]:
        """Put what our writer has made of ``spans`` to ``ours``. The others come as requests, with their numbers of
        spans; what cannot be encoded is in none of them.
        """
        others: list[tuple[ReadableSpan, bytes]] = []
        left: list[ReadableSpan] = []
        write = self._writer.write if self._writer is not None else self._write_first
        for recorded in spans:
            if isinstance(recorded, Recorded) and not self._only_official:
                try:
                    ours.append(recorded.finished(write))
                    continue
                except Exception:  # noqa: S110  # what the writer does not write; what is new must not cost a span
                    pass
            span = finished(recorded)
            if span is not None:
                self._write_other(span, others, left)
        yield from self._requests(others, left)

    def _requests(
        self, others: list[tuple[ReadableSpan, bytes]], left: list[ReadableSpan]
    ) -> Iterator[tuple[int, bytes]]:
        """Requests of what was written as it is, and of what is left."""
        # By identity: equal ones may differ in the types of their values, and a provider has but one.
        for _, run in groupby(others, key=lambda other: (id(other[0].resource), id(other[0].instrumentation_scope))):
            written = list(run)
            request = _request_of(written)
            if request is not None:
                yield len(written), request
            else:
                left += [span for span, _ in written]
        if left:
            self._left_to_official += len(left)
            yield from _officially(left)

    def _write_first(self, maker: SpanMaker, *parts: Any) -> bytes:
        """Write a span, and have a writer from now on: for spans of one maker, and a pipeline has no other."""
        if self._writer is None:
            writer = SpanWriter(maker, self._redactor)
            resource, scope = self._redactor.resource(maker.resource), self._redactor.scope(maker.scope)
            wire.request(resource, scope, ())  # or it raises now
            self._writer = writer
        return self._writer.write(maker, *parts)

    def _framed(self, ours: list[bytes]) -> bytes:
        assert self._writer is not None  # it has written them
        maker = self._writer.maker
        return wire.request(self._redactor.resource(maker.resource), self._redactor.scope(maker.scope), ours)

    def _write_other(
        self, span: ReadableSpan, others: list[tuple[ReadableSpan, bytes]], left: list[ReadableSpan]
    ) -> None:
        """Redact a span, once, and put it to what is written, or to what is left to the official encoder."""
        try:
            clean = self._redactor.span(span)
        except Exception as error:  # it may be anybody's, with anything in the place of its parts
            report("exporters.encoder.redacted", error)
            return
        if self._only_official:
            left.append(clean)
            return
        try:
            others.append((clean, wire.span(clean)))
        except Exception:  # the official one has to say what becomes of it
            left.append(clean)


def _request_of(written: list[tuple[ReadableSpan, bytes]]) -> bytes | None:
    """The request of spans that share resource and scope. None: those are not ours to write."""
    first = written[0][0]
    try:
        return wire.request(first.resource, first.instrumentation_scope, [encoded for _, encoded in written])
    except Exception:  # as with spans
        return None


def _officially(spans: Sequence[ReadableSpan]) -> Iterator[tuple[int, bytes]]:
    """One request of all spans, or several of those that can be encoded."""
    encoded = _official_request(spans)
    if encoded is not None:
        yield len(spans), encoded
    elif len(spans) > 1:
        middle = len(spans) // 2
        yield from _officially(spans[:middle])
        yield from _officially(spans[middle:])


def _official_request(spans: Sequence[ReadableSpan]) -> bytes | None:
    """The request. None: protobuf takes one of them for nothing that it could be."""
    try:
        return encode_spans(spans).SerializeToString()
    except Exception:  # protobuf's own: a lone surrogate, a number beyond 64 bits, an id of a wrong length
        return None
