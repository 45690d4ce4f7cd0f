"""The metrics that a gateway makes of usage spans: what is counted, of which spans, in which dimensions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from ..schema import REASONS, RecordKind
from .choices import Choices
from .text import literal, quoted

DIMENSIONS: Final = ("usage.customer.id", "usage.tier", "usage.route", "usage.reason")
"""The attributes that divide a metric into series. ``usage.route`` is the request's own route, too."""

RESOURCE_DIMENSIONS: Final = ("service.name",)
"""The same of the resource. An instance is none: each start of one would begin every series anew."""

BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
"""Upper bounds of the histogram of durations, in seconds."""

MOST: Final = 10**15
"""What one span may add at most: a petabyte. The sum of a series stays far from where 64 bits end."""


@dataclass(frozen=True, slots=True)
class Counted:
    """One metric."""

    name: str
    unit: str
    """As UCUM writes it."""
    doc: str
    kind: RecordKind
    """The spans that it is made of."""
    attribute: str | None = None
    """The attribute that is added up. None: spans are counted."""
    condition: str | None = None
    """What else has to hold of a span (OTTL). None: nothing."""
    histogram: bool = False
    """Whether durations are observed, and nothing is added up."""


COUNTED: Final = (
    Counted("usage.requests", "{request}", "Requests.", RecordKind.REQUEST),
    Counted("usage.request.errors", "{request}", "Requests whose span failed.", RecordKind.REQUEST,
            condition="span.status.code == STATUS_CODE_ERROR"),
    Counted("usage.request.duration", "s", "How long requests took.", RecordKind.REQUEST, histogram=True),
    Counted("usage.upstream.calls", "{call}", "Upstream attempts made for requests.", RecordKind.REQUEST,
            "usage.upstream.count"),
    Counted("usage.request.bytes", "By", "Bytes of the bodies of requests.", RecordKind.REQUEST,
            "http.request.body.size"),
    Counted("usage.response.bytes", "By", "Bytes of the bodies of responses.", RecordKind.REQUEST,
            "http.response.body.size"),
    Counted("usage.input.tokens", "{token}", "Tokens of prompts.", RecordKind.LLM, "gen_ai.usage.input_tokens"),
    Counted("usage.output.tokens", "{token}", "Tokens of completions.", RecordKind.LLM, "gen_ai.usage.output_tokens"),
)  # fmt: skip
"""Every metric. What is added up is an int of the schema: a connector that met a double in a series of ints would end
the whole Collector (``unexpected usage of sum datapoint``)."""


def metrics(_choices: Choices) -> list[str]:
    """The ``spans`` of a ``signal_to_metrics`` connector."""
    first, *others = COUNTED
    # All are divided alike, which YAML can say once.
    said = [f"{key}: *{key}" for key in _divisions()]
    written = [line for key, entries in _divisions().items() for line in (f"{key}: &{key}", *entries)]
    return [*_metric(first, written), *(line for counted in others for line in _metric(counted, said))]


def other_reason(_choices: Choices) -> list[str]:
    """The end of a condition: that a span has a reason, and none of the schema's."""
    known = "|".join(REASONS)
    return [f'not IsMatch(span.attributes["usage.reason"], "^(?:{known})$$")']


def _divisions() -> dict[str, list[str]]:
    return {
        "include_resource_attributes": [f"  - key: {key}" for key in RESOURCE_DIMENSIONS],
        "attributes": [f"  - {{key: {key}, optional: true}}" for key in DIMENSIONS],
    }


def _metric(counted: Counted, divided: Iterable[str]) -> Iterator[str]:
    yield f"- name: {counted.name}"
    yield f"  description: {counted.doc}"
    yield f'  unit: "{counted.unit}"'
    yield "  conditions:"
    yield f"    - {quoted(_condition(counted))}"
    yield from (f"  {line}" for line in divided)
    if counted.histogram:
        yield "  histogram:"
        yield f"    buckets: {json.dumps(BUCKETS)}"
        yield "    value: Seconds(span.end_time - span.start_time)"
    else:
        yield "  sum:"
        yield "    monotonic: true"
        yield f"    value: {quoted(_value(counted))}"


def _condition(counted: Counted) -> str:
    said = [f'span.attributes["usage.kind"] == {literal(counted.kind)}']
    if counted.condition is not None:
        said.append(counted.condition)
    if counted.attribute is not None:
        read = f'span.attributes["{counted.attribute}"]'
        said.append(f"IsInt({read}) and {read} >= 0 and {read} <= {MOST}")
    return " and ".join(said)


def _value(counted: Counted) -> str:
    return "1" if counted.attribute is None else f'Int(span.attributes["{counted.attribute}"])'
