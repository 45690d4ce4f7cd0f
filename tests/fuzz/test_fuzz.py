"""A short run of each target; ``make fuzz`` is the long one."""

from __future__ import annotations

import os
from importlib.util import find_spec

import pytest

from .__main__ import names, run

RUNS = 50_000


@pytest.mark.parametrize("target", names())
def test_a_parser_of_what_strangers_write_holds_its_promises(target: str) -> None:
    if find_spec("atheris") is None:
        assert os.environ.get("CI") != "true", "atheris is missing where every test has to run"
        pytest.skip("atheris has no package for this platform")
    assert run(target, RUNS, seconds=30) > 1000
