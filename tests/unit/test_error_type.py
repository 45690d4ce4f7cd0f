"""An exception's class is told without running anything of it, and whatever it is, nothing of ours raises."""

from __future__ import annotations

import logging
from typing import Any

import httpx
import pytest

import otel_usage as usage
from otel_usage.error_type import type_name
from otel_usage.guard import guarded, internal_errors, report
from tests.property.test_allowlist import recording


class Boom(type):
    """Raises whatever is asked of its classes by name."""

    def __getattribute__(cls, name: str) -> Any:
        if name in ("__qualname__", "__module__", "__name__"):
            raise RuntimeError("boom meta")
        return super().__getattribute__(name)


class Evil(Exception, metaclass=Boom):
    """Also raises where it is asked for its class."""

    @property
    def __class__(self) -> Any:
        raise RuntimeError("boom class")


def made(name: str, module: object = "shop") -> BaseException:
    error: BaseException = type(name, (Exception,), {"__module__": module})()
    return error


def test_a_class_is_named_with_its_module_unless_it_is_a_builtin() -> None:
    class Missing(Exception):
        pass

    assert type_name(ValueError("x")) == "ValueError"
    assert type_name(httpx.ConnectTimeout("x")) == "httpx.ConnectTimeout"
    assert type_name(Missing()) == f"{__name__}.{Missing.__qualname__}"
    assert type_name(Evil()) == f"{__name__}.Evil"


@pytest.mark.parametrize(
    "error",
    [
        made("could not find user Ann Smith"),
        made("Fine", "a module/with a path"),
        made("Fine", None),
        made("Fine", property(lambda self: "x")),
        made("x" * 300),
        made("a\nb"),
    ],
    ids=["sentence", "path", "none", "property", "long", "line feed"],
)
def test_a_class_whose_name_could_not_leave_is_other(error: BaseException) -> None:
    assert type_name(error) == "_OTHER"


@pytest.mark.parametrize("error", [Evil, made("not a name")], ids=["evil", "name"])
def test_the_applications_exception_goes_through_as_it_is(error: type[Exception] | Exception) -> None:
    before = internal_errors()
    expected = error() if isinstance(error, type) else error
    with recording() as spans:
        caught: Exception | None = None
        try:
            with usage.usage_span("work"):
                raise expected
        except Exception as error:  # not `pytest.raises`, which asks for the class
            caught = error
        assert caught is expected
        assert "error.type" in (spans[0].attributes or {})
        assert not spans[0].status.is_ok
    assert internal_errors() == before


@pytest.mark.parametrize("wrong", [None, 7, "text"])
def test_a_thing_that_is_no_exception_fails_nothing(wrong: Any) -> None:
    with recording() as spans:
        with usage.usage_span("work") as span:
            span.record_exception(wrong)
            span.set_status(wrong)
        assert len(spans) == 1


def test_an_error_of_any_class_is_reported_and_swallowed(caplog: pytest.LogCaptureFixture) -> None:
    @guarded("fallback")
    def failing() -> str:
        raise Evil

    with caplog.at_level(logging.ERROR, "otel_usage"):
        assert failing() == "fallback"
        report("tests.evil", Evil())
    assert internal_errors()["tests.evil"] == 1
    assert "an exception that cannot be described" in caplog.text
