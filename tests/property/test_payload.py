"""A payload is the same spans however often it is cut in two and put together."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_usage.payload import EncodedPayload

Shape = list[list[int]]
"""For each resource, for each scope: how many spans."""

SHAPES = st.lists(st.lists(st.integers(0, 5), max_size=3), max_size=3)


def request(shape: Shape) -> ExportTraceServiceRequest:
    made, number = ExportTraceServiceRequest(), 0
    for r, scopes in enumerate(shape):
        resource = made.resource_spans.add(schema_url=f"resource {r}")
        resource.resource.attributes.add(key="service.name").value.string_value = f"service {r}"
        for s, count in enumerate(scopes):
            scope = resource.scope_spans.add(schema_url=f"scope {s}")
            scope.scope.name = f"scope {s}"
            for _ in range(count):
                scope.spans.add(name=f"span {number}", span_id=number.to_bytes(8))
                number += 1
    return made


def spans(payload: EncodedPayload) -> list[tuple[str, str, str]]:
    """Each span with what it is in, in order."""
    return [
        (resource.resource.attributes[0].value.string_value, scope.scope.name, span.name)
        for resource in ExportTraceServiceRequest.FromString(payload.request).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def payload(shape: Shape) -> EncodedPayload:
    return EncodedPayload.of(request(shape).SerializeToString(), sum(map(sum, shape)))


@given(SHAPES)
@settings(deadline=None)
def test_halves_hold_all_spans_once_in_order_and_in_their_places(shape: Shape) -> None:
    whole = payload(shape)
    if whole.count < 2:
        return
    first, second = whole.halves()
    assert spans(first) + spans(second) == spans(whole)
    assert (first.count, second.count) == (len(spans(first)), len(spans(second)))
    assert abs(first.count - second.count) <= 1
    assert spans(first.joined([second])) == spans(whole)
    assert first.joined([second]).count == whole.count


@given(st.lists(SHAPES, min_size=1, max_size=4))
@settings(deadline=None)
def test_payloads_that_are_joined_hold_what_they_held(shapes: list[Shape]) -> None:
    first, *others = map(payload, shapes)
    joined = first.joined(others)
    assert joined.intact
    assert spans(joined) == [span for one in (first, *others) for span in spans(one)]


@given(SHAPES, st.data())
@settings(deadline=None)
def test_a_payload_that_is_changed_in_any_bit_is_the_same_or_known_to_be_damaged(
    shape: Shape, data: st.DataObject
) -> None:
    whole = payload(shape)
    assert whole.intact
    position = data.draw(st.integers(0, len(whole.body) - 1))
    flipped = bytearray(whole.body)
    flipped[position] ^= 1 << data.draw(st.integers(0, 7))
    changed = EncodedPayload(bytes(flipped), whole.spans)
    assert not changed.intact or changed.request == whole.request
