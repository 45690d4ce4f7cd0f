"""The allowlist as processors of the Collector, which every pipeline has behind its receiver, as :data:`ORDER` says.

A map of attributes is not cleaned, but made anew of what may stand in it: a key that comes twice would survive being
checked once, and a statement that fails leaves something out instead of letting it through.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ..allowlist import NAME_CAP
from ..readable import SCOPE
from ..schema import (
    ATTRIBUTES,
    PERSONAL_KEYS,
    RESOURCE,
    SCHEMA_URL,
    Attribute,
    RecordKind,
    UsageEvent,
    ValueType,
    allowed_on,
)
from ..scope import EVENT_LIMIT
from .choices import Choices
from .forms import CONTROL, condition, matches, searched, short
from .secrets import HARMLESS, patterns
from .text import items, literal, quoted

_NAME: Final = "span.name"
_KIND: Final = 'span.attributes["usage.kind"]'
_VERSION: Final = r"^[0-9A-Za-z][0-9A-Za-z.+-]{0,63}$"
# A backend may refuse such a span, and with it the whole batch, in which others' spans are.
_NAMELESS: Final = f"span.trace_id == TraceID(0x{'0' * 32}) or span.span_id == SpanID(0x{'0' * 16})"
_METHOD, _WHERE = "http.request.method", "server.address"

_NAMES: Final = {
    RecordKind.REQUEST: ((_METHOD, "http.route"), (_METHOD, _WHERE), (_METHOD,), ("http.route",), (_WHERE,)),
    RecordKind.UPSTREAM: (
        ("usage.provider", "usage.operation"), ("usage.provider",), ("usage.operation",), (_METHOD, _WHERE), (_METHOD,),
        (_WHERE,),
    ),
    RecordKind.LLM: (
        ("gen_ai.provider.name", "gen_ai.request.model"), ("gen_ai.provider.name",), ("gen_ai.request.model",),
    ),
}  # fmt: skip
"""Of which attributes the package makes the names of each kind of span. Of custom spans the application does."""


ORDER: Final = ("filter/usage", "groupbyattrs/usage", "transform/usage", "redaction/usage", "transform/usage_names")
"""The processors as they follow each other."""


def order(_choices: Choices) -> list[str]:
    """Their names, as items of a pipeline's ``processors``."""
    return [f"- {name}" for name in ORDER]


def processors(choices: Choices) -> list[str]:
    """The processors, as entries of ``processors``."""
    return [
        "# The user's own traces, which may come here by mistake, are no usage, and unknown events are none. Without",
        "# an id a span would have a whole batch refused.",
        *_filter(),
        "# Resources made anew, with their attributes alone: references to entities are reached by nothing else.",
        "groupbyattrs/usage: {}",
        "# Keys, types, lengths and forms. `cache` is a new map, which takes the place of what came.",
        *_transform(choices),
        "# What looks like a secret or an e-mail address in what is left.",
        *redaction(choices),
        "# Names are made of what is left, as the package makes them; an application names only custom spans.",
        *_naming(choices),
    ]


def _filter() -> list[str]:
    kinds = " or ".join(f"{_KIND} == {literal(kind)}" for kind in RecordKind)
    events = " or ".join(f"spanevent.name == {literal(event)}" for event in UsageEvent)
    return [
        "filter/usage:",
        "  error_mode: ignore",
        "  trace_conditions:",
        *items([f"not ({kinds})", _NAMELESS, f"not ({events})"], 4),
    ]


def _transform(choices: Choices) -> list[str]:
    lines = ["transform/usage:", "  error_mode: ignore", "  trace_statements:"]
    lines += _group(
        "resource",
        None,
        [*_rebuilt("resource", (RESOURCE,), choices), f"set(resource.schema_url, {literal(SCHEMA_URL)})"],
    )
    lines += _group(
        "scope", None,
        [
            f"set(scope.name, {literal(SCOPE.name)})",
            'set(scope.version, "") where not ' + matches("scope.version", _VERSION),
            "set(scope.attributes, scope.cache)",
            f"set(scope.schema_url, {literal(SCHEMA_URL)})",
        ],
    )  # fmt: skip
    # Links cannot be cleaned one by one. What they name is the user's own span, of the same trace.
    bare = ['set(span.status.message, "")', 'set(span.trace_state, "")', "set(span.links, nil)"]
    # The package adds no more to a span. With a hundred thousand it is longer than what a backend takes at once, so all
    # that is in its batch would be refused; and they take ten seconds to go through.
    bare.append(f"set(span.events, nil) where Len(span.events) > {EVENT_LIMIT}")
    lines += _group("span", None, [*bare, *_rebuilt("span", tuple(RecordKind), choices)])
    return lines + _group("spanevent", None, _rebuilt("spanevent", tuple(UsageEvent), choices))


_PLACES: Final = {"span": _KIND, "spanevent": "spanevent.name"}
"""What says, in a context, which place of the schema it is."""


def _rebuilt(context: str, places: tuple[str, ...], choices: Choices) -> list[str]:
    """Statements that make the context's attributes anew. Of several places: of all that may stand on any of them, and
    then without what may not stand on that one.
    """
    allowed = [attribute for attribute in ATTRIBUTES if attribute.on & set(places)]
    statements = [statement for attribute in _leaving(allowed, choices) for statement in _copied(context, attribute)]
    statements.append(f"set({context}.attributes, {context}.cache)")
    for place in places if len(places) > 1 else ():
        keys = ", ".join(literal(a.key) for a in _leaving(allowed_on(place).values(), choices))
        statements.append(f"keep_keys({context}.attributes, [{keys}]) where {_PLACES[context]} == {literal(place)}")
    return statements


def _copied(context: str, attribute: Attribute) -> list[str]:
    at = f"[{literal(attribute.key)}]"
    here, there = f"{context}.attributes{at}", f"{context}.cache{at}"
    statements = [f"set({there}, {here}) where {condition(attribute, here)}"]
    if attribute.type is ValueType.DOUBLE:  # an int is taken for a double
        statements.append(f"set({there}, Double({here})) where IsInt({here})")
    return statements


def redaction(choices: Choices) -> list[str]:
    """``redaction/usage`` alone, for a Collector that has no other: keys and values of attributes, and no more."""
    leaving = list(_leaving(ATTRIBUTES, choices))
    return [
        "redaction/usage:",
        "  summary: silent",
        "  allowed_keys:",
        *items((a.key for a in leaving if searched(a)), 4),
        "  # One of a list, or a number: there is nothing to search.",
        "  ignored_keys:",
        *items((a.key for a in leaving if not searched(a)), 4),
        "  # No such thing can be in these: they are not searched.",
        "  allowed_values:",
        *items([HARMLESS], 4),
        "  blocked_values:",
        *items(patterns(email_addresses=choices.email_addresses), 4),
    ]


def _naming(choices: Choices) -> list[str]:
    lines = ["transform/usage_names:", "  error_mode: ignore", "  trace_statements:"]
    for kind, made_of in _NAMES.items():
        known = [f"span.name == {_joined(keys)}" for keys in made_of]
        statement = f"set(span.name, {literal(kind)}) where not ({' or '.join(known)})"
        lines += _group("span", f"{_KIND} == {literal(kind)}", [statement])
    custom = [
        f"set(span.name, {literal(RecordKind.CUSTOM)}) where not {short(NAME_CAP, _NAME)} or {matches(_NAME, CONTROL)}",
        *(
            f'replace_pattern(span.name, {literal(pattern)}, "****")'
            for pattern in patterns(email_addresses=choices.email_addresses)
        ),
    ]
    return lines + _group("span", f"{_KIND} == {literal(RecordKind.CUSTOM)}", custom)


def _joined(keys: tuple[str, ...]) -> str:
    paths = [f"span.attributes[{literal(key)}]" for key in keys]
    return paths[0] if len(paths) == 1 else f'Concat([{", ".join(paths)}], " ")'


def _leaving(attributes: Iterable[Attribute], choices: Choices) -> list[Attribute]:
    withheld = PERSONAL_KEYS - choices.personal
    return [attribute for attribute in attributes if attribute.key not in withheld]


def _group(context: str, where: str | None, statements: list[str]) -> list[str]:
    conditions = [] if where is None else [f"      conditions: [{quoted(where)}]"]
    return [f"    - context: {context}", *conditions, "      statements:", *items(statements, 8)]
