"""The rules of ARCHITECTURE.md that import-linter cannot say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "otel_usage"
MODULES = sorted(path for path in SOURCE.rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_module_imports_the_public_face(path: Path) -> None:
    imports = re.findall(r"^\s*(?:from|import) otel_usage\b.*", path.read_text(), re.MULTILINE)
    assert not imports


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_every_module_says_its_role_and_is_one_thing(path: Path) -> None:
    text = path.read_text()
    assert text.startswith('"""')
    assert len(text.splitlines()) <= 400
