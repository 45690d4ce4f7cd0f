"""OTLP written straight as protobuf's bytes: what does not change from request to request is encoded once.

Field numbers are those of opentelemetry/proto/trace/v1/trace.proto and common/v1/common.proto. A test parses what comes
of it with the official messages.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from random import getrandbits
from typing import Final

from benchmarks.observed import Call

Record = tuple[int, int, str, str, int, int, str, str, Sequence[Call]]
"""Start (ns since the epoch), duration (ns), method, route, status, response bytes, customer, id of the key, calls."""

_SPAN_ATTRIBUTE: Final = b"\x4a"  # Span.attributes = 9
_EVENT_ATTRIBUTE: Final = b"\x1a"  # Span.Event.attributes = 3
_TIMES: Final = struct.Struct("<cQcQ").pack
_FIXED: Final = struct.Struct("<Q").pack
_DOUBLE: Final = struct.Struct("<d").pack


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


_SHORT: Final = tuple(_varint(number) for number in range(1 << 14))


def _length(number: int) -> bytes:
    return _SHORT[number] if number < len(_SHORT) else _varint(number)


def _field(tag: bytes, body: bytes) -> bytes:
    """A length-delimited field."""
    return tag + _length(len(body)) + body


def _text(tag: bytes, key: str, value: str) -> bytes:
    return _field(tag, _pair(key, value))


def _pair(key: str, value: str) -> bytes:
    return _field(b"\x0a", key.encode()) + _field(b"\x12", _field(b"\x0a", value.encode()))


def _number(tag: bytes, key: str) -> Callable[[int], bytes]:
    name = _field(b"\x0a", key.encode())

    @lru_cache(4096)
    def encoded(value: int) -> bytes:
        return _field(tag, name + _field(b"\x12", b"\x18" + _length(value)))

    return encoded


_RESOURCE: Final = _field(b"\x0a", _field(b"\x0a", _pair("service.name", "bench")))
_SCOPE: Final = _field(b"\x0a", _field(b"\x0a", b"bench"))
_CONSTANT: Final = b"".join(
    _text(_SPAN_ATTRIBUTE, key, value)
    for key, value in {
        "url.scheme": "http",
        "server.address": "api.example.com",
        "network.protocol.version": "1.1",
        "usage.schema": "1",
    }.items()
)
_STATUS: Final = _number(_SPAN_ATTRIBUTE, "http.response.status_code")
_SIZE: Final = _number(_SPAN_ATTRIBUTE, "http.response.body.size")
_CALL_STATUS: Final = _number(_EVENT_ATTRIBUTE, "http.response.status_code")
_DURATION_KEY: Final = _field(b"\x0a", b"usage.upstream.duration_ms") + b"\x12\x09\x21"
_DURATION: Final = _EVENT_ATTRIBUTE + _length(len(_DURATION_KEY) + 8) + _DURATION_KEY


@lru_cache(1024)
def _named(method: str, route: str) -> tuple[bytes, bytes]:
    """A span's name with its kind, and the attributes that follow from the route."""
    name = _field(b"\x2a", f"{method} {route}".encode()) + b"\x30\x02"
    method_and_route = _text(_SPAN_ATTRIBUTE, "http.request.method", method) + _text(
        _SPAN_ATTRIBUTE, "http.route", route
    )
    return name, method_and_route + _CONSTANT


@lru_cache(8192)
def _caller(customer: str, key_id: str) -> bytes:
    return _text(_SPAN_ATTRIBUTE, "usage.customer.id", customer) + _text(_SPAN_ATTRIBUTE, "usage.principal.id", key_id)


@lru_cache(1024)
def _upstream(host: str, method: str) -> bytes:
    named = _field(b"\x12", b"upstream") + _text(_EVENT_ATTRIBUTE, "usage.upstream.provider", host)
    return named + _text(_EVENT_ATTRIBUTE, "usage.upstream.operation", method)


def encode(records: Sequence[Record]) -> bytes:
    """An ``ExportTraceServiceRequest``."""
    spans = b"".join(_field(b"\x12", _span(record)) for record in records)
    return _field(b"\x0a", _RESOURCE + _field(b"\x12", _SCOPE + spans))


def _span(record: Record) -> bytes:
    start, took, method, route, status, size, customer, key_id, calls = record
    name, fixed = _named(method, route)
    parts = [
        b"\x0a\x10" + getrandbits(128).to_bytes(16, "big") + b"\x12\x08" + getrandbits(64).to_bytes(8, "big"),
        name,
        _TIMES(b"\x39", start, b"\x41", start + took),
        fixed,
        _caller(customer, key_id),
        _STATUS(status),
        _SIZE(size),
    ]
    parts += [_field(b"\x5a", _event(call)) for call in calls]
    return b"".join(parts)


def _event(call: Call) -> bytes:
    took = _DURATION + _DOUBLE(call.duration_ms)
    return b"\x09" + _FIXED(call.ended_ns) + _upstream(call.host, call.method) + _CALL_STATUS(call.status) + took
