"""``otel-usage schema``: every attribute that may leave the process."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Final

from ..schema import ATTRIBUTES, SCHEMA_URL, Attribute, Sensitivity, ValueType

NAME: Final = "schema"
SUMMARY: Final = "show every attribute that may leave the process"

_HEADINGS: Final = ("key", "type", "on", "sensitivity", "cap", "doc")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="everything, for programs")
    form.add_argument("--markdown", action="store_true", help="a page for the documentation")


def run(arguments: argparse.Namespace) -> int:
    """Print the field table."""
    if arguments.json:
        print(_json())
    else:
        print(_markdown() if arguments.markdown else _table())
    return 0


def _json() -> str:
    return json.dumps({"schema_url": SCHEMA_URL, "attributes": [_described(a) for a in ATTRIBUTES]}, indent=2)


def _described(attribute: Attribute) -> dict[str, object]:
    return {
        "key": attribute.key,
        "type": attribute.type.value,
        "on": sorted(attribute.on),
        "sensitivity": attribute.sensitivity.value,
        "cap": _cap(attribute),
        "distinct": attribute.distinct or None,
        "doc": attribute.doc,
        "example": attribute.example,
        "values": [str(value) for value in attribute.values],
        "closed": attribute.closed,
        "form": attribute.form.pattern if attribute.form is not None else None,
        "former_keys": list(attribute.former_keys),
        "conventional": attribute.conventional,
    }


def _cap(attribute: Attribute) -> int | None:
    return attribute.cap if attribute.type is ValueType.STRING else None


def _markdown() -> str:
    """The field reference. Made by ``make docs``."""
    lines = [
        "# Fields",
        "",
        "Every attribute that may leave the process, made from `src/otel_usage/schema.py` by `make docs`.",
        f"Keys that do not begin with `usage.` are those of the semantic conventions of <{SCHEMA_URL}>.",
        "A value is one line of the schema's type and form (`otel-usage schema --json` shows the forms), and one of",
        "the listed values where there are any. One that does not fit is dropped, and counted by its key.",
        "Where the number of different values is bounded, one process records that many; later ones become `_OTHER`.",
        "",
        "| attribute | type | on | meaning | values, or an example |",
        "|---|---|---|---|---|",
    ]
    for attribute in ATTRIBUTES:
        on = ", ".join(sorted(attribute.on))
        values = " ".join(f"`{value}`" for value in attribute.values) or f"`{attribute.example}`"
        values += " or a word of the application's" if attribute.values and not attribute.closed else ""
        personal = " Personal: only with `USAGE_PERSONAL`." if attribute.sensitivity is Sensitivity.PERSONAL else ""
        bounded = f" {attribute.distinct:,} different values at most." if attribute.distinct else ""
        lines.append(f"| `{attribute.key}` | {attribute.type} | {on} | {attribute.doc}{personal}{bounded} | {values} |")
    return "\n".join(lines)


def _table() -> str:
    rows = [_HEADINGS, *(_row(attribute) for attribute in ATTRIBUTES)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    return "\n".join([_line(row, widths) for row in rows] + ["", f"schema_url {SCHEMA_URL}"])


def _row(attribute: Attribute) -> tuple[str, ...]:
    on, cap = ",".join(sorted(attribute.on)), _cap(attribute)
    return attribute.key, attribute.type, on, attribute.sensitivity, str(cap or ""), attribute.doc


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
