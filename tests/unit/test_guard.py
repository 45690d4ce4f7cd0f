"""What the log says of an error that was kept from the application: nothing in the application's own words."""

from __future__ import annotations

import logging
import signal

import pytest

from otel_usage import guard
from otel_usage.errors import ConfigError, CustomerMapError, UsageError
from otel_usage.guard import guarded, report
from otel_usage.hosts import HostPatterns

PERSON = "Ann Smith hunter2pw99"


@pytest.fixture(autouse=True)
def counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "_errors", type(guard._errors)())


def said(error: Exception, caplog: pytest.LogCaptureFixture) -> str:
    try:
        raise error
    except Exception as caught:
        report("a site", caught)
    return caplog.messages[-1]


class Theirs(UsageError):
    """An application's own."""


class TheirConfigError(ConfigError):
    """Another."""


@pytest.mark.parametrize(
    "error",
    [
        UsageError(PERSON), Theirs(PERSON), ConfigError("A_SETTING", "x", PERSON), CustomerMapError(PERSON, 1, PERSON),
        TheirConfigError("A_SETTING", "x", PERSON), RuntimeError(PERSON), TypeError(PERSON),
    ],
)  # fmt: skip
def test_words_of_an_error_that_the_application_raises_are_not_logged(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    assert type(error).__name__ in said(error, caplog)
    assert "Ann" not in caplog.text
    assert "hunter2" not in caplog.text


def test_an_error_of_a_setting_says_what_the_setting_takes(caplog: pytest.LogCaptureFixture) -> None:
    try:
        HostPatterns("USAGE_BAGGAGE_HOSTS", ["https://a.com"])
    except ConfigError as error:
        report("a site", error)
    assert "USAGE_BAGGAGE_HOSTS is 'https://a.com'; it takes comma-separated hosts" in caplog.text


@guarded(None)
def meter(name: str, quantity: float, *, unit: str | None = None) -> None:
    """A function of ours."""


@pytest.mark.parametrize("keyword", ["acme_gmbh_berlin", "ann@example.com", "it's", "x() missing 1 required a: 'b'"])
def test_a_keyword_that_is_unknown_is_not_logged(keyword: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        meter("a", 1, **{keyword: 1})
    assert caplog.messages[0].endswith("TypeError: meter() got an unexpected keyword argument")
    assert keyword not in caplog.text


def test_an_argument_that_is_missing_is_named(caplog: pytest.LogCaptureFixture) -> None:
    meter()  # type: ignore[call-arg]  # that is the point
    assert caplog.messages[0].endswith("meter() missing 2 required positional arguments: 'name' and 'quantity'")


def test_a_time_limit_that_strikes_within_stops_the_application_all_the_same() -> None:
    def strike(number: int, frame: object) -> None:
        raise TimeoutError

    @guarded(None)
    def ours() -> None:
        signal.raise_signal(signal.SIGALRM)

    before = signal.signal(signal.SIGALRM, strike)
    try:
        with pytest.raises(TimeoutError):
            ours()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert guard.internal_errors() == {}


def test_so_does_one_that_is_thrown_into_a_thread() -> None:
    limit = type("BaseTimeoutException", (Exception,), {"__module__": "rq.timeouts"})

    @guarded(None)
    def ours() -> None:
        raise type("JobTimeoutException", (limit,), {})

    with pytest.raises(limit):
        ours()
