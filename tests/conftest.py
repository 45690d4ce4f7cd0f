"""What most tests need: a real sink on a socket, and usage switched on towards it for the length of one test."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import otel_usage as usage
from otel_usage import guard
from otel_usage.testing import AxiomStub

TOKEN = "xaat-test-0000"
OUR_THREADS = ("otel-usage-worker", "otel-usage-post")
PEPPER = "k1:0123456789abcdef0123456789abcdef"


@pytest.fixture(autouse=True)
def no_errors_yet() -> None:
    """The counts of our own errors are the process's; each test begins at none."""
    guard._errors.clear()


@pytest.fixture(autouse=True)
def state_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where spools are kept on disk by default: another place for each test, also in the processes that it starts."""
    home = tmp_path_factory.mktemp("state")
    monkeypatch.setenv("XDG_STATE_HOME", str(home))
    return home


@pytest.fixture
def stub() -> Iterator[AxiomStub]:
    """A sink that answers as Axiom does."""
    with AxiomStub(token=TOKEN, dataset="api_usage") as sink:
        yield sink


@pytest.fixture
def switch_on(stub: AxiomStub) -> Iterator[Callable[..., None]]:
    """Switches usage on towards ``stub``, with any setting; off again after the test, with no thread left."""
    before = set(threading.enumerate())

    def start(**settings: Any) -> None:
        defaults: dict[str, Any] = {
            "otlp_endpoint": stub.url,
            "axiom_token": TOKEN,
            "key_pepper": PEPPER,
            "schedule_delay": 0.02,
        }
        usage.instrument(usage.UsageConfig(**{**defaults, **settings}))

    yield start
    usage.uninstrument()
    left = [thread.name for thread in set(threading.enumerate()) - before if thread.name in OUR_THREADS]
    assert not left, f"threads of ours outlived uninstrument(): {left}"


@pytest.fixture
def usage_on(switch_on: Callable[..., None]) -> None:
    """Usage, switched on towards ``stub`` with the test's defaults."""
    switch_on()
