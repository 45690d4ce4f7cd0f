"""Reads the body of an OTLP trace export into plain frozen dataclasses."""

from __future__ import annotations

import base64
import gzip
import io
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from google.protobuf import json_format
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from ..errors import UsageError

PROTOBUF: Final = "application/x-protobuf"
"""Content type of OTLP in binary protobuf."""

JSON: Final = "application/json"
"""Content type of OTLP/JSON: ids in hex, keys in camelCase, 64-bit integers as strings."""

MAX_BODY_BYTES: Final = 16 * 1024 * 1024
"""Longest body in bytes, after decompression, that is read unless the caller sets another limit."""

Value = str | bool | int | float | bytes | None | list["Value"] | dict[str, "Value"]
"""The value of an attribute. None: the sender set no value."""

_TRACE_ID_BYTES: Final = 16
_SPAN_ID_BYTES: Final = 8
_KINDS: Final = ("unspecified", "internal", "server", "client", "producer", "consumer")
_STATUS_CODES: Final = ("unset", "ok", "error")
_ID_KEYS: Final = ("traceId", "spanId", "parentSpanId")


class OtlpError(UsageError, ValueError):
    """A body that cannot be taken. The message says what is wrong with it."""


class MalformedOtlpError(OtlpError):
    """The body is not what its headers say: not gzip, not protobuf, not OTLP/JSON, or an id has a wrong length."""


class OtlpTooLargeError(OtlpError):
    """The body is longer than the limit once it is decompressed."""


class UnsupportedOtlpError(OtlpError):
    """The content type or content encoding is not one that is read here."""


@dataclass(frozen=True, slots=True)
class ReceivedEvent:
    """One event of a span."""

    name: str
    time: int
    """Nanoseconds since the Unix epoch."""
    attributes: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ReceivedLink:
    """One link of a span."""

    trace_id: str
    """32 lower-case hex digits."""
    span_id: str
    """16 lower-case hex digits."""
    trace_state: str = ""
    attributes: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ReceivedSpan:
    """One span as it arrived."""

    trace_id: str
    """32 lower-case hex digits."""
    span_id: str
    """16 lower-case hex digits. Together with the trace id it names the span, also when it is delivered twice."""
    parent_span_id: str | None
    """16 lower-case hex digits, or None for a root span."""
    name: str
    kind: str
    """``server``, ``client``, ``internal``, ``producer``, ``consumer`` or ``unspecified``."""
    start_time: int
    """Nanoseconds since the Unix epoch."""
    end_time: int
    """Nanoseconds since the Unix epoch."""
    status_code: str = "unset"
    """``unset``, ``ok`` or ``error``."""
    status_message: str = ""
    attributes: Mapping[str, Value] = field(default_factory=dict)
    events: tuple[ReceivedEvent, ...] = ()
    links: tuple[ReceivedLink, ...] = ()
    resource_attributes: Mapping[str, Value] = field(default_factory=dict)
    scope_name: str = ""
    scope_version: str = ""
    schema_url: str = ""
    """The schema of the span's scope, else that of its resource. Empty: none was sent."""
    trace_state: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """``(trace_id, span_id)``: delivery is at least once, so two arrivals with the same key are one span."""
        return self.trace_id, self.span_id

    @property
    def duration(self) -> int:
        """Nanoseconds from start to end. 0 where the end lies before the start."""
        return max(0, self.end_time - self.start_time)


def parse_export(
    body: bytes, content_type: str, content_encoding: str = "identity", *, max_bytes: int = MAX_BODY_BYTES
) -> list[ReceivedSpan]:
    """The spans of an export request's body, in their order.

    ``content_type`` may carry parameters, which are ignored. ``max_bytes`` bounds the body after decompression.

    Raises:
        UnsupportedOtlpError: the content type is neither protobuf nor JSON, or the encoding neither identity nor gzip.
        OtlpTooLargeError: the body is longer than ``max_bytes`` once it is decompressed.
        MalformedOtlpError: the body cannot be read, or a trace or span id is missing or has a wrong length.
    """
    media_type = essence(content_type)
    if media_type not in (PROTOBUF, JSON):
        raise UnsupportedOtlpError(f"content type {media_type or 'none'!r}: send {PROTOBUF} or {JSON}")
    plain = decompress(body, content_encoding, max_bytes)
    message = _from_protobuf(plain) if media_type == PROTOBUF else _from_json(plain)
    return [
        _span(span, scope_spans, resource_spans, resource)
        for resource_spans, resource in ((r, _attributes(r.resource.attributes)) for r in message.resource_spans)
        for scope_spans in resource_spans.scope_spans
        for span in scope_spans.spans
    ]


def essence(content_type: str) -> str:
    """The media type without its parameters, in lower case."""
    return content_type.partition(";")[0].strip().lower()


def decompress(body: bytes, content_encoding: str, max_bytes: int) -> bytes:
    """The body without its content encoding; never more than ``max_bytes + 1`` bytes are unpacked.

    Raises:
        UnsupportedOtlpError: the encoding is neither identity nor gzip.
        OtlpTooLargeError: the body is longer than ``max_bytes``.
        MalformedOtlpError: the body is not gzip, or is cut short.
    """
    encoding = content_encoding.strip().lower() or "identity"
    if encoding == "identity":
        plain = body
    elif encoding == "gzip":
        plain = _gunzip(body, max_bytes)
    else:
        raise UnsupportedOtlpError(f"content encoding {encoding!r}: send gzip or none")
    if len(plain) > max_bytes:
        raise OtlpTooLargeError(f"the body is longer than {max_bytes} bytes")
    return plain


def _gunzip(body: bytes, max_bytes: int) -> bytes:
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(body)) as stream:
            return stream.read(max_bytes + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise MalformedOtlpError(f"the body is not gzip: {error}") from error


def _from_protobuf(body: bytes) -> ExportTraceServiceRequest:
    message = ExportTraceServiceRequest()
    try:
        message.ParseFromString(body)
    except DecodeError as error:
        raise MalformedOtlpError("the body is not an ExportTraceServiceRequest in protobuf") from error
    return message


def _from_json(body: bytes) -> ExportTraceServiceRequest:
    message = ExportTraceServiceRequest()
    try:
        export = json.loads(body)
        if not isinstance(export, dict):
            raise MalformedOtlpError("the body is not a JSON object")
        _ids_to_base64(export)
        json_format.ParseDict(export, message, ignore_unknown_fields=True)
    # ParseDict documents ParseError only, but lets plain errors through for values of a wrong JSON type.
    except (json_format.ParseError, ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        if isinstance(error, OtlpError):
            raise
        raise MalformedOtlpError(f"the body is not OTLP/JSON: {error}") from error
    return message


def _ids_to_base64(export: dict[str, object]) -> None:
    # Protobuf's JSON mapping takes bytes as base64. OTLP/JSON deviates from it for ids alone, which are hex.
    scopes = _objects(_objects([export], "resourceSpans"), "scopeSpans")
    for span in _objects(scopes, "spans"):
        for holder in (span, *_objects([span], "links")):
            for key in _ID_KEYS:
                if key in holder:
                    holder[key] = _hex_to_base64(key, holder[key])


def _objects(parents: Iterable[dict[str, object]], key: str) -> Iterator[dict[str, object]]:
    for parent in parents:
        members = parent.get(key)
        if isinstance(members, list):
            yield from (member for member in members if isinstance(member, dict))


def _hex_to_base64(key: str, value: object) -> str:
    if not isinstance(value, str):
        raise MalformedOtlpError(f"{key} is not a string")
    try:
        return base64.b64encode(bytes.fromhex(value)).decode("ascii")
    except ValueError as error:
        raise MalformedOtlpError(f"{key} is not hex") from error


def _span(
    span: Span, scope_spans: ScopeSpans, resource_spans: ResourceSpans, resource: Mapping[str, Value]
) -> ReceivedSpan:
    return ReceivedSpan(
        trace_id=_id(span.trace_id, _TRACE_ID_BYTES, "trace id"),
        span_id=_id(span.span_id, _SPAN_ID_BYTES, "span id"),
        parent_span_id=_parent(span.parent_span_id),
        name=span.name,
        kind=_named(_KINDS, span.kind),
        start_time=span.start_time_unix_nano,
        end_time=span.end_time_unix_nano,
        status_code=_named(_STATUS_CODES, span.status.code),
        status_message=span.status.message,
        attributes=_attributes(span.attributes),
        events=tuple(ReceivedEvent(e.name, e.time_unix_nano, _attributes(e.attributes)) for e in span.events),
        links=tuple(_link(link) for link in span.links),
        resource_attributes=resource,
        scope_name=scope_spans.scope.name,
        scope_version=scope_spans.scope.version,
        schema_url=scope_spans.schema_url or resource_spans.schema_url,
        trace_state=span.trace_state,
    )


def _link(link: Span.Link) -> ReceivedLink:
    return ReceivedLink(
        trace_id=_id(link.trace_id, _TRACE_ID_BYTES, "trace id of a link"),
        span_id=_id(link.span_id, _SPAN_ID_BYTES, "span id of a link"),
        trace_state=link.trace_state,
        attributes=_attributes(link.attributes),
    )


def _id(value: bytes, length: int, what: str) -> str:
    if len(value) != length or not any(value):
        raise MalformedOtlpError(f"a {what} has {len(value)} bytes, or is zero; it takes {length}")
    return value.hex()


def _parent(value: bytes) -> str | None:
    # The specification lets a root span send either no parent or eight zero bytes.
    return _id(value, _SPAN_ID_BYTES, "parent span id") if any(value) else None


def _named(names: Sequence[str], number: int) -> str:
    # Enums are open in proto3: a newer sender may use a number that has no name here.
    return names[number] if 0 <= number < len(names) else names[0]


def _attributes(pairs: Iterable[KeyValue]) -> dict[str, Value]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Value:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return _attributes(value.kvlist_value.values)
    plain: Value = getattr(value, kind) if kind else None
    return plain
