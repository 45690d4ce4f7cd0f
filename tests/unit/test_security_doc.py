"""The table of attacks names tests that there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TABLE = (ROOT / "docs" / "security.md").read_text().partition("## The attacks")[2].partition("\n## ")[0]
ROWS = [row for row in TABLE.splitlines() if row.startswith("| ") and not row.startswith(("| **", "| attack"))]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[2:60])
def test_every_attack_is_made_by_a_test(row: str) -> None:
    (named,) = re.findall(r"`(tests/[^`]+\.py)::(test_\w+)`", row)
    path, name = named
    assert re.search(rf"^\s*def {name}\(", (ROOT / path).read_text(), re.MULTILINE)


def test_the_table_is_read() -> None:
    assert len(ROWS) > 40
