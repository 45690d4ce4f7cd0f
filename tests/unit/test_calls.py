"""What the hooks of every client ask before a call is sent: whether it is observed, and how it is named."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
from opentelemetry.instrumentation.utils import suppress_http_instrumentation, suppress_instrumentation

import otel_usage as usage
from otel_usage.instrumentation.calls import Call, attempted, calling, length_of_body, listening

OFFICIAL = """
def instrumented(call, suppress):
    span = object()
    with suppress():
        return call()

def passing_on(call):
    return call()
"""


@pytest.fixture(params=["botocore", "requests", "urllib", "urllib3"])
def official(request: pytest.FixtureRequest) -> types.ModuleType:
    """An official instrumentation of a client, as far as the stack shows it."""
    module = types.ModuleType(f"opentelemetry.instrumentation.{request.param}")
    exec(OFFICIAL, vars(module))
    return module


Suppress = Callable[[], AbstractContextManager[Any]]


class TestListening:
    def test_nobody_listens_while_usage_is_off(self) -> None:
        assert listening() is None

    @pytest.mark.parametrize("suppress", [suppress_instrumentation, suppress_http_instrumentation])
    def test_an_applications_wish_is_heeded(self, usage_on: None, suppress: Suppress) -> None:
        assert listening() is not None
        with suppress():
            assert listening() is None

    def test_an_official_instrumentation_wishes_nothing_of_us(self, usage_on: None, official: types.ModuleType) -> None:
        assert official.instrumented(listening, suppress_http_instrumentation) is not None

    def test_what_suppresses_telemetry_itself_is_heeded_everywhere(
        self, usage_on: None, official: types.ModuleType
    ) -> None:
        assert official.instrumented(listening, suppress_instrumentation) is None

    def test_an_applications_wish_is_heeded_beneath_one_that_passes_the_call_on(
        self, usage_on: None, official: types.ModuleType
    ) -> None:
        with suppress_http_instrumentation():
            assert official.passing_on(listening) is None


@pytest.fixture
def named_around() -> Iterator[None]:
    with usage.upstream("around", "work", cache_status="miss"):
        yield


class TestNames:
    def test_there_are_none_where_nobody_names(self) -> None:
        names, sent = attempted()
        assert (names.provider, names.operation, names.cache_status, sent) == (None, None, None, 0)

    @pytest.mark.parametrize(
        ("own", "around", "above", "expected"),
        [
            (None, False, True, ("above", "do", None)),
            (None, True, False, ("around", "work", "miss")),
            (None, True, True, ("around", "work", "miss")),
            ({"provider": "own"}, False, False, ("own", None, None)),
            ({"provider": "own"}, True, True, ("own", "work", "miss")),
            ({"operation": "own"}, False, True, ("above", "own", None)),
            ("no dict", False, False, (None, None, None)),
        ],
    )
    def test_the_nearest_goes_first(
        self, request: pytest.FixtureRequest, own: Any, around: bool, above: bool, expected: tuple[Any, ...]
    ) -> None:
        if around:
            request.getfixturevalue("named_around")
        with Call(self, "above", "do") if above else nullcontext():
            names, _ = attempted(own)
        assert (names.provider, names.operation, names.cache_status) == expected

    def test_the_library_above_completes_a_name_of_the_application(self) -> None:
        with usage.upstream("around"), Call(self, "above", "do"):
            names, _ = attempted()
        assert (names.provider, names.operation) == ("around", "do")


class TestSends:
    def test_a_library_alone_counts_its_own(self) -> None:
        assert [attempted(None, sent)[1] for sent in (0, 1)] == [0, 1]

    def test_within_a_call_of_another_library_that_counts(self) -> None:
        with Call(self, sends=2):
            assert [attempted(None, 0)[1] for _ in range(2)] == [2, 3]

    def test_a_call_within_a_call_is_one_of_its_own(self) -> None:
        outer, inner = Call(self), Call(self)
        with outer:
            attempted()
            with inner:
                assert calling() is inner
                assert attempted()[1] == 0
            assert calling() is outer
            assert attempted()[1] == 1
        assert calling() is None


@pytest.mark.parametrize(
    ("method", "status", "lengths", "expected"),
    [
        ("GET", 200, [b"12"], 12),
        ("GET", 200, ["12"], 12),
        ("GET", 200, [], None),
        ("GET", 200, [b"12", b"12"], None),
        ("GET", 200, [b"-1"], None),
        ("HEAD", 200, [b"12"], 0),
        ("GET", 304, [b"12"], 0),
        ("GET", 204, [], 0),
        ("GET", 101, [], 0),
    ],
)
def test_the_head_says_how_long_a_body_is_or_does_not(
    method: str, status: int, lengths: list[bytes | str], expected: int | None
) -> None:
    assert length_of_body(method, status, lengths) == expected
