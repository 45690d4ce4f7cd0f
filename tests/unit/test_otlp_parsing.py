"""What an OTLP export's body becomes, in both formats and with every way to get it wrong."""

from __future__ import annotations

import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from otel_usage.local.otlp import (
    JSON,
    PROTOBUF,
    MalformedOtlpError,
    OtlpError,
    OtlpTooLargeError,
    ReceivedEvent,
    ReceivedLink,
    ReceivedSpan,
    UnsupportedOtlpError,
    parse_export,
)

TRACE_ID, SPAN_ID, PARENT_ID = "0123456789abcdef0123456789abcdef", "00f067aa0ba902b7", "a0b1c2d3e4f50617"

EXPECTED = ReceivedSpan(
    trace_id=TRACE_ID,
    span_id=SPAN_ID,
    parent_span_id=PARENT_ID,
    name="GET /v1/items/{id}",
    kind="server",
    start_time=1_700_000_000_123_456_789,
    end_time=1_700_000_000_323_456_790,
    status_code="error",
    status_message="boom",
    attributes={
        "usage.customer.id": "acme",
        "usage.tier": 2,
        "ratio": 0.5,
        "yes": True,
        "list": ["a", 1],
        "none": None,
    },
    events=(ReceivedEvent("usage.cache", 1_700_000_000_200_000_000, {"usage.provider": "yahoo-finance"}),),
    links=(ReceivedLink(TRACE_ID, PARENT_ID, "k=v", {"why": "user span"}),),
    resource_attributes={"service.name": "gateway"},
    scope_name="otel_usage",
    scope_version="0.1",
    schema_url="https://opentelemetry.io/schemas/1.37.0",
    trace_state="a=b",
)


def protobuf_export() -> ExportTraceServiceRequest:
    """The expected span, written by hand in protobuf."""
    export = ExportTraceServiceRequest()
    resource_spans = export.resource_spans.add()
    resource_spans.resource.attributes.add(key="service.name").value.string_value = "gateway"
    scope_spans = resource_spans.scope_spans.add(schema_url=EXPECTED.schema_url)
    scope_spans.scope.name, scope_spans.scope.version = "otel_usage", "0.1"
    span = scope_spans.spans.add(
        trace_id=bytes.fromhex(TRACE_ID),
        span_id=bytes.fromhex(SPAN_ID),
        parent_span_id=bytes.fromhex(PARENT_ID),
        name=EXPECTED.name,
        kind=Span.SPAN_KIND_SERVER,
        start_time_unix_nano=EXPECTED.start_time,
        end_time_unix_nano=EXPECTED.end_time,
        trace_state="a=b",
        status=Status(code=Status.STATUS_CODE_ERROR, message="boom"),
    )
    span.attributes.add(key="usage.customer.id").value.string_value = "acme"
    span.attributes.add(key="usage.tier").value.int_value = 2
    span.attributes.add(key="ratio").value.double_value = 0.5
    span.attributes.add(key="yes").value.bool_value = True
    items = span.attributes.add(key="list").value.array_value.values
    items.add().string_value = "a"
    items.add().int_value = 1
    span.attributes.add(key="none")
    event = span.events.add(name="usage.cache", time_unix_nano=1_700_000_000_200_000_000)
    event.attributes.add(key="usage.provider").value.string_value = "yahoo-finance"
    link = span.links.add(trace_id=bytes.fromhex(TRACE_ID), span_id=bytes.fromhex(PARENT_ID), trace_state="k=v")
    link.attributes.add(key="why").value.string_value = "user span"
    return export


def json_export(**changes: object) -> bytes:
    """The expected span as OTLP/JSON has it: hex ids, camelCase, 64-bit integers as strings."""
    span = {
        "traceId": TRACE_ID.upper(),
        "spanId": SPAN_ID,
        "parentSpanId": PARENT_ID,
        "name": EXPECTED.name,
        "kind": 2,
        "startTimeUnixNano": str(EXPECTED.start_time),
        "endTimeUnixNano": EXPECTED.end_time,
        "traceState": "a=b",
        "status": {"code": 2, "message": "boom"},
        "attributes": [
            {"key": "usage.customer.id", "value": {"stringValue": "acme"}},
            {"key": "usage.tier", "value": {"intValue": "2"}},
            {"key": "ratio", "value": {"doubleValue": 0.5}},
            {"key": "yes", "value": {"boolValue": True}},
            {"key": "list", "value": {"arrayValue": {"values": [{"stringValue": "a"}, {"intValue": 1}]}}},
            {"key": "none"},
        ],
        "events": [
            {
                "timeUnixNano": "1700000000200000000",
                "name": "usage.cache",
                "attributes": [{"key": "usage.provider", "value": {"stringValue": "yahoo-finance"}}],
            }
        ],
        "links": [
            {
                "traceId": TRACE_ID,
                "spanId": PARENT_ID,
                "traceState": "k=v",
                "attributes": [{"key": "why", "value": {"stringValue": "user span"}}],
            }
        ],
        "aFieldOfTomorrow": {"ignored": True},
    }
    scope_spans = {
        "scope": {"name": "otel_usage", "version": "0.1"},
        "schemaUrl": EXPECTED.schema_url,
        "spans": [{**span, **changes}],
    }
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "gateway"}}]}
    return json.dumps({"resourceSpans": [{"resource": resource, "scopeSpans": [scope_spans]}]}).encode()


def test_a_protobuf_body_keeps_every_field_of_a_span() -> None:
    assert parse_export(protobuf_export().SerializeToString(), PROTOBUF) == [EXPECTED]


def test_a_json_body_with_hex_ids_becomes_the_same_span() -> None:
    assert parse_export(json_export(), "application/json; charset=utf-8") == [EXPECTED]


def test_a_gzip_body_is_unpacked() -> None:
    assert parse_export(gzip.compress(json_export()), JSON, "gzip") == [EXPECTED]


def test_a_span_without_a_parent_or_with_a_parent_of_zeros_is_a_root() -> None:
    for parent in ("", "0" * 16):
        (span,) = parse_export(json_export(parentSpanId=parent), JSON)
        assert span.parent_span_id is None


def test_an_empty_body_is_an_export_without_spans() -> None:
    assert parse_export(b"", PROTOBUF) == []
    assert parse_export(b"{}", JSON) == []


def test_a_kind_and_a_status_of_tomorrow_do_not_break_it() -> None:
    (span,) = parse_export(json_export(kind=77, status={"code": 9}), JSON)
    assert (span.kind, span.status_code) == ("unspecified", "unset")


def test_a_gzip_bomb_is_refused_after_the_limit() -> None:
    bomb = gzip.compress(bytes(50_000_000))
    with pytest.raises(OtlpTooLargeError, match="longer than 1000 bytes"):
        parse_export(bomb, PROTOBUF, "gzip", max_bytes=1000)


def test_a_plain_body_above_the_limit_is_refused() -> None:
    with pytest.raises(OtlpTooLargeError):
        parse_export(bytes(1001), PROTOBUF, max_bytes=1000)


@pytest.mark.parametrize("body", [b"not gzip", gzip.compress(b"{}" * 100, mtime=0)[:-9], b""])
def test_a_body_that_is_not_whole_gzip_is_malformed(body: bytes) -> None:
    if not body:
        assert parse_export(gzip.compress(b""), PROTOBUF, "gzip") == []
        return
    with pytest.raises(MalformedOtlpError, match="not gzip"):
        parse_export(body, JSON, "gzip")


@pytest.mark.parametrize(
    ("content_type", "encoding"), [("text/plain", ""), ("", ""), (JSON, "br"), (PROTOBUF, "deflate")]
)
def test_an_unknown_content_type_or_encoding_is_named_in_the_error(content_type: str, encoding: str) -> None:
    with pytest.raises(UnsupportedOtlpError, match=encoding or content_type or "none"):
        parse_export(b"{}", content_type, encoding)


@pytest.mark.parametrize(
    "changes",
    [
        {"traceId": "abc"},
        {"traceId": "0" * 32},
        {"traceId": "zz" * 16},
        {"traceId": 7},
        {"spanId": ""},
        {"spanId": SPAN_ID + "00"},
        {"parentSpanId": "ff"},
        {"links": [{"traceId": "00", "spanId": SPAN_ID}]},
        {"startTimeUnixNano": "yesterday"},
        {"attributes": 3},
        {"attributes": [{"key": ["a"]}]},
    ],
)
def test_json_with_a_wrong_id_or_type_is_malformed(changes: dict[str, object]) -> None:
    with pytest.raises(MalformedOtlpError):
        parse_export(json_export(**changes), JSON)


@pytest.mark.parametrize("body", [b"[]", b"{", b"null", b"\xff\xfe", b"[" * 100_000, b'{"resourceSpans": 3}'])
def test_json_that_is_no_export_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedOtlpError):
        parse_export(body, JSON)


def test_an_attribute_nested_too_deeply_is_malformed() -> None:
    value: dict[str, object] = {"stringValue": "deep"}
    for _ in range(300):
        value = {"arrayValue": {"values": [value]}}
    with pytest.raises(MalformedOtlpError):
        parse_export(json_export(attributes=[{"key": "deep", "value": value}]), JSON)


@given(body=st.binary(max_size=200), content_type=st.sampled_from([PROTOBUF, JSON]), gzipped=st.booleans())
def test_no_bytes_raise_anything_but_the_typed_error(body: bytes, content_type: str, gzipped: bool) -> None:
    try:
        spans = parse_export(body, content_type, "gzip" if gzipped else "identity")
    except OtlpError:
        return
    assert all(isinstance(span, ReceivedSpan) for span in spans)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["resourceSpans", "scopeSpans", "spans", "links", "traceId", "attributes", "key", "value"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=12,
)


@given(value=JSON_VALUES, key=st.sampled_from(["name", "attributes", "events", "links", "kind", "status", "traceId"]))
def test_no_json_value_in_place_of_a_field_raises_anything_but_the_typed_error(value: object, key: str) -> None:
    for body in (json.dumps(value).encode(), json_export(**{key: value})):
        try:
            parse_export(body, JSON)
        except OtlpError:
            continue
