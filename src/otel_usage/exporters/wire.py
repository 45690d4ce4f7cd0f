"""OTLP's messages of spans in protobuf's wire format, written by hand. Pure.

Why by hand: of an attribute that has been written before, the bytes are still there, and a span is then their
concatenation (4 µs); with protobuf's messages each attribute is made anew (50 µs for a span of 20). Field numbers are
those of ``opentelemetry/proto/trace/v1/trace.proto`` and ``common/v1/common.proto``. Every function writes what the
official encoder writes, which ``tests/property/test_encoder.py`` holds it to; what it does not know it leaves to that
one.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, StatusCode

# A field's tag is its number and its type: (number << 3) | type. The types: 0 is a varint, 1 has eight bytes, 2 a
# length before its content, 5 four bytes.
SPAN_ATTRIBUTE: Final = b"\x4a"
EVENT_ATTRIBUTE: Final = b"\x1a"
LINK_ATTRIBUTE: Final = b"\x22"
RESOURCE_ATTRIBUTE: Final = b"\x0a"

_INT64: Final = range(-(1 << 63), 1 << 63)
_UINT64: Final = range(1 << 64)
_DOUBLE: Final = struct.Struct("<d").pack
_FIXED64: Final = struct.Struct("<Q").pack

_KINDS: Final = {kind: b"\x30" + bytes((kind.value + 1,)) for kind in SpanKind}
_FAILED: Final = b"\x7a\x02\x18\x02"

LOCAL_PARENT: Final = b"\x85\x01\x00\x01\x00\x00"
"""A span's flags: it is known whether the parent is another process's, and it is not."""
REMOTE_PARENT: Final = b"\x85\x01\x00\x03\x00\x00"
"""It is."""
_LINK_FLAGS: Final = {False: b"\x35\x00\x01\x00\x00", True: b"\x35\x00\x03\x00\x00"}


class UnwritableError(Exception):
    """Something that no usage span holds: the official encoder has to say what becomes of it."""


def varint(number: int) -> bytes:
    """A number of 0 or more."""
    if number < len(_SHORT):
        return _SHORT[number]
    return _varint(number)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


_SHORT: Final = tuple(map(_varint, range(1024)))
"""Those that most lengths are: of attributes, and of spans."""


def field(tag: bytes, content: bytes) -> bytes:
    """A field that has a length: a message, a text or bytes."""
    return tag + varint(len(content)) + content


def attribute(tag: bytes, key: str, value: object) -> bytes:
    """One attribute.

    Raises:
        UnwritableError: the value is neither a string, a bool, a double nor an integer of 64 bits, or no Unicode.
    """
    return field(tag, field(b"\x0a", _text(key)) + field(b"\x12", _value(value)))


def text_attribute(tag: bytes, key: str) -> Callable[[str], bytes]:
    """What writes a text as the attribute ``key``: the same as :func:`attribute`, and in a third of its time (0.2 µs),
    because a text that is short has lengths of one byte each.
    """
    named = field(b"\x0a", _text(key)) + b"\x12"
    around = len(named) + 3
    longest = 0x7F - around

    def write(text: str) -> bytes:
        content = text.encode()
        size = len(content)
        if size > longest:
            return attribute(tag, key, text)
        lengths = _SHORT[size + around], _SHORT[size + 2], _SHORT[size]
        return b"%b%b%b%b\x0a%b%b" % (tag, lengths[0], named, lengths[1], lengths[2], content)

    return write


def attributes(tag: bytes, found: Mapping[str, Any] | None) -> bytes:
    """Attributes, as :func:`attribute` writes them."""
    return b"".join([attribute(tag, key, value) for key, value in (found or {}).items()])


def heading(name: str, kind: SpanKind, *, failed: bool) -> bytes:
    """A span's name, kind and status."""
    return field(b"\x2a", _text(name)) + _KINDS[kind] + (_FAILED if failed else _UNSET)


_UNSET: Final = b"\x7a\x00"
"""The official encoder writes a status also where there is nothing to say."""


def event(time: int, name: str, encoded_attributes: bytes) -> bytes:
    """An event of a span; ``time`` is in nanoseconds since the epoch."""
    return field(b"\x5a", b"\x09" + _FIXED64(time) + field(b"\x12", _text(name)) + encoded_attributes)


def link(found: Link) -> bytes:
    """A link of a span."""
    context = found.context
    if context.trace_state or found.dropped_attributes:
        raise UnwritableError
    ids = field(b"\x0a", context.trace_id.to_bytes(16)) + field(b"\x12", context.span_id.to_bytes(8))
    return field(b"\x6a", ids + attributes(LINK_ATTRIBUTE, found.attributes) + _LINK_FLAGS[context.is_remote])


def span(found: ReadableSpan) -> bytes:
    """A finished span, as one of the spans of a scope.

    Raises:
        UnwritableError: it holds something else than a usage span does.
    """
    context, status = found.context, found.status
    times = (found.start_time, found.end_time)
    counted = found.dropped_attributes or found.dropped_events or found.dropped_links
    if context is None or context.trace_state or status.description or counted or not all(map(_is_time, times)):
        raise UnwritableError
    parent: SpanContext | None = found.parent
    parts = (
        field(b"\x0a", context.trace_id.to_bytes(16)),
        field(b"\x12", context.span_id.to_bytes(8)),
        field(b"\x22", parent.span_id.to_bytes(8)) if parent is not None else b"",
        heading(found.name, found.kind, failed=status.status_code is StatusCode.ERROR),
        b"\x39" + _FIXED64(found.start_time) + b"\x41" + _FIXED64(found.end_time),
        attributes(SPAN_ATTRIBUTE, found.attributes),
        *map(_event, found.events),
        *map(link, found.links),
        REMOTE_PARENT if parent is not None and parent.is_remote else LOCAL_PARENT,
    )
    if status.status_code is StatusCode.OK:
        raise UnwritableError
    return field(b"\x12", b"".join(parts))


def request(resource: Resource, scope: InstrumentationScope | None, spans: Iterable[bytes]) -> bytes:
    """An ``ExportTraceServiceRequest`` of encoded spans that share resource and scope. Requests one after the other are
    one request (protobuf's rule for repeated fields).
    """
    if scope is None:
        scope = _NO_SCOPE
    described = field(b"\x0a", _text(scope.name)) if scope.name else b""
    described += field(b"\x12", _text(scope.version)) if scope.version else b""
    described += attributes(EVENT_ATTRIBUTE, scope.attributes)
    of_scope = field(b"\x0a", described) + b"".join(spans) + _url(scope.schema_url)
    of_resource = field(b"\x0a", attributes(RESOURCE_ATTRIBUTE, resource.attributes))
    return field(b"\x0a", of_resource + field(b"\x12", of_scope) + _url(resource.schema_url))


_NO_SCOPE: Final = InstrumentationScope("")


def _url(schema_url: str | None) -> bytes:
    return field(b"\x1a", _text(schema_url)) if schema_url else b""


def _event(found: Event) -> bytes:
    if found.dropped_attributes or not _is_time(found.timestamp):
        raise UnwritableError
    return event(found.timestamp, found.name, attributes(EVENT_ATTRIBUTE, found.attributes))


def _is_time(time: object) -> bool:
    return type(time) is int and time in _UINT64


def _text(text: object) -> bytes:
    if not isinstance(text, str):
        raise UnwritableError
    try:
        return text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        raise UnwritableError from None


def _value(value: object) -> bytes:
    """An ``AnyValue``. Zeros and empty texts are written: that one of several is chosen says which type it is."""
    if isinstance(value, str):
        return field(b"\x0a", _text(value))
    if value is True or value is False:
        return b"\x10\x01" if value else b"\x10\x00"
    if type(value) is int and value in _INT64:
        return b"\x18" + varint(value & 0xFFFF_FFFF_FFFF_FFFF)
    if type(value) is float:
        return b"\x21" + _DOUBLE(value)
    raise UnwritableError
