"""docs/support.md is made by a run of the conformance suite, and shows every library that there are cases for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from otel_usage.instrumentation.integrations import INTEGRATIONS, Integration, Role

PAGE = (Path(__file__).parents[2] / "docs" / "support.md").read_text()
ELSEWHERE = {"Strawberry GraphQL", "botocore"}
"""GraphQL is tested by a file of its own, with those that serve it, and botocore by those that are built on it."""


@pytest.mark.parametrize(
    "each",
    [each for each in INTEGRATIONS if each.role is not Role.GROUND and each.library not in ELSEWHERE],
    ids=lambda each: each.library,
)
def test_every_library_has_a_row(each: Integration) -> None:
    name = each.library.partition("'s ")[0]
    assert re.search(rf"^\| {re.escape(name)}[\s,-]", PAGE, re.MULTILINE | re.IGNORECASE)
