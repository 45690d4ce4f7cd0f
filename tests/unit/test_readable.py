"""A finished usage span."""

from __future__ import annotations

import pytest

from otel_usage.readable import seconds


@pytest.mark.parametrize("nanoseconds", [0, 1, 953, 954, 12_345_678, 10**9, 86_400 * 10**9 + 1])
def test_a_duration_is_told_to_a_microsecond_and_ends_in_zeros(nanoseconds: int) -> None:
    told = seconds(nanoseconds)
    assert (told * 2**20).is_integer()
    assert 0 <= nanoseconds * 1e-9 - told < 1e-6
