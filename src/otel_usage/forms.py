"""What the text of an attribute looks like, as patterns that the whole of a value has to match. Pure.

A type and a length let anything through that somebody has written: a path with a query in the place of a route, a
sentence in the place of an exception's class. A form says what the convention, or our own rule, means the value to be.
No form holds a control character, and none takes more than linear time.
"""

from __future__ import annotations

import re
from typing import Final

from .keys import KEY_ID

OTHER: Final = "_OTHER"
"""Stands for a value that is not recorded as it is (semantic conventions, ``http.request.method``, ``error.type``)."""

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

WORD: Final = re.compile(r"[a-z][a-z0-9_-]{0,63}")
"""A reason, a kind of authentication, a platform: what somebody has given a name in code."""

MODEL_CALLS: Final = "gen_ai"
"""What stands for model calls in ``USAGE_BRIDGE``, whichever instrumentation makes their spans."""

BRIDGED: Final = re.compile(MODEL_CALLS + r"|[A-Za-z_][\w-]{0,63}(?:\.[\w/-]{1,63}){1,8}")
"""What a bridge may be told to take: model calls, or an instrumentation scope by its name, which is a module's."""

KEYED_HASH: Final = re.compile(rf"{KEY_ID.pattern}:[0-9a-f]{{32}}")
"""What :class:`~otel_usage.keyed_hash.KeyedHash` makes: the key's name and 16 bytes. No credential looks like it."""

IDENTIFIER: Final = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
"""A request's id, by whomever: hexadecimal, base64, UUIDs, and what platforms make (``cdg1::iad1::abc-1``)."""

TRACE_ID: Final = re.compile(r"[0-9a-f]{32}")
"""A trace id in W3C Trace Context's form."""

TEMPLATE: Final = re.compile(
    r"(?!.*://)"  # no URL
    # Spaces only between the arguments of a converter: werkzeug's `<any(about, help):page>`.
    r"(?:[^\s#?\x00-\x1f\x7f-\x9f\ud800-\udfff]|(?<=,) "
    # Regular expressions have question marks, `(?P<id>[0-9]+)` and `/?$`, which no `key=` follows up to the next
    # segment, and no word up to the end: that is a query, `?token=abc` or `?4711`.
    r"|(?<=\()\?|(?<!\()\?(?![^/()?]*=|[\w%.~+&;:,@-]+\Z))*+"
)
"""A route as its framework has it: ``/items/{id:int}``, ``/items/<int:id>``, ``^items/(?P<pk>[0-9]+)/?$``.

A path that was called and has no query looks the same, so what is taken for a route has to come from the routing.
"""

SEGMENT: Final = re.compile(rf"(?!.*/){TEMPLATE.pattern}")
"""One segment of such a template."""

OPERATION: Final = re.compile(r"[_A-Za-z][_0-9A-Za-z]{0,63}")
"""The name of an operation in GraphQL (section 2.1.9 of its specification), which clients choose."""

HOST: Final = re.compile(r"[\w.-]{1,253}|[0-9A-Fa-f:.]{2,45}(?:%[\w.-]{1,32})?")
"""A host's name, in Unicode too (RFC 5891), or an address with its zone (RFC 4007); no scheme, user, port or path."""

ADDRESS: Final = re.compile(r"[0-9A-Fa-f.:]{2,45}(?:%[\w.-]{1,15})?")
"""An IP address as ``ipaddress`` writes it."""

ERROR_TYPE: Final = re.compile(r"[\w.$<>-]{1,256}")
"""A class with its module and the functions around it (``shop.load.<locals>.Missing``), a status code, or a word."""

COUNTRY: Final = re.compile(r"[A-Z]{2}")
"""ISO 3166-1 alpha-2."""

REGION: Final = re.compile(r"[A-Z]{2}-[A-Z0-9]{1,3}")
"""ISO 3166-2."""

CLOUD_REGION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}")
"""A region by its provider's name for it: ``eu-central-1``; Azure's App Service says ``West Europe``."""

HEADER: Final = re.compile(r"[^\x00-\x1f\x7f\u2028\u2029\ud800-\udfff]*")
"""A header as the servers decode it: as Latin-1, where UTF-8's bytes look like control characters of C1."""

REFERER: Final = re.compile(r"[^?#\x00-\x1f\x7f\u2028\u2029\ud800-\udfff]*")
"""The same without a query and a fragment."""


def printable(text: str) -> bool:
    """Whether it is one line of text. OTLP takes Unicode alone: half of a surrogate pair would fail the whole batch."""
    return text.isprintable() or not _CONTROL.search(text)
