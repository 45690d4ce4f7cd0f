"""The example gateway's keys are compared as a gateway should."""

from __future__ import annotations

from hmac import compare_digest
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
PUBLIC, SECRET = "wk_demo_contoso_c66a", "sk_demo_acme_9f2c"


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return import_module("gateway.keys")


def test_a_key_is_found_only_as_it_was_issued(keys: Any) -> None:
    assert keys.find(PUBLIC).customer == "contoso"
    assert keys.find(SECRET).customer == "acme"
    for other in ("", PUBLIC[:-1], PUBLIC + " ", PUBLIC.upper(), "ключ", "\ud800", "x" * 5_000_000):
        assert keys.find(other) is None


@pytest.mark.parametrize("presented", [SECRET, PUBLIC, "nobody's"])
def test_every_issued_key_is_compared_in_constant_time_whichever_matches(
    keys: Any, monkeypatch: pytest.MonkeyPatch, presented: str
) -> None:
    compared: list[bytes] = []

    def comparing(given: bytes, known: bytes) -> bool:
        compared.append(known)
        return compare_digest(given, known)

    monkeypatch.setattr(keys, "compare_digest", comparing)
    keys.find(presented)
    assert len(compared) == len(set(compared)) == len(keys._ISSUED)
