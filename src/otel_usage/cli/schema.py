"""``otel-usage schema``: every attribute that may leave the process."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Final

from otel_usage.schema import ATTRIBUTES, SCHEMA_URL, Attribute, ValueType

NAME: Final = "schema"
SUMMARY: Final = "show every attribute that may leave the process"

_HEADINGS: Final = ("key", "type", "on", "sensitivity", "cap", "doc")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("--json", action="store_true", help="everything, for programs")


def run(arguments: argparse.Namespace) -> int:
    """Print the field table."""
    print(_json() if arguments.json else _table())
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
        "doc": attribute.doc,
        "example": attribute.example,
        "values": [str(value) for value in attribute.values],
        "former_keys": list(attribute.former_keys),
        "conventional": attribute.conventional,
    }


def _cap(attribute: Attribute) -> int | None:
    return attribute.cap if attribute.type is ValueType.STRING else None


def _table() -> str:
    rows = [_HEADINGS, *(_row(attribute) for attribute in ATTRIBUTES)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    return "\n".join([_line(row, widths) for row in rows] + ["", f"schema_url {SCHEMA_URL}"])


def _row(attribute: Attribute) -> tuple[str, ...]:
    on, cap = ",".join(sorted(attribute.on)), _cap(attribute)
    return attribute.key, attribute.type, on, attribute.sensitivity, str(cap or ""), attribute.doc


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
