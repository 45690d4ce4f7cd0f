"""What ``import otel_usage`` gives, what it costs, and what it does while usage is off."""

from __future__ import annotations

import subprocess
import sys
import threading

import httpx
import pytest

import otel_usage as usage
from otel_usage.status import EMPTY_FLUSH, OFF
from otel_usage.testing import AxiomStub

HEAVY = ("opentelemetry.sdk.trace", "opentelemetry.sdk", "grpc", "httpx", "httpx2", "duckdb", "urllib3", "fastapi")


@pytest.fixture
def off(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of ours is set."""
    for name in (
        "USAGE_TELEMETRY",
        "USAGE_OTLP_ENDPOINT",
        "USAGE_OTLP_PROTOCOL",
        "AXIOM_API_TOKEN",
    ):
        monkeypatch.delenv(name, raising=False)


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout


def test_the_names_are_sorted_and_each_is_there_once() -> None:
    assert usage.__all__ == sorted(set(usage.__all__))


@pytest.mark.parametrize("name", usage.__all__)
def test_every_public_name_loads(name: str) -> None:
    assert getattr(usage, name) is not None
    assert name in dir(usage)


def test_every_public_name_loads_first_in_a_process_of_its_own() -> None:
    names = [name for name in usage.__all__ if name != "__version__"]
    code = f"import sys, otel_usage\nfor name in {names}:\n [sys.modules.pop(m) for m in list(sys.modules) if "
    code += "m.startswith('otel_usage.')]\n vars(otel_usage).pop(name, None)\n print(name, getattr(otel_usage, name))"
    assert len(run(code).splitlines()) == len(names)


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'identifie'"):
        usage.identifie  # noqa: B018  # the asking is the test


def test_importing_the_package_imports_nothing_heavy() -> None:
    assert run(f"import sys, otel_usage; print([m for m in {HEAVY} if m in sys.modules])").strip() == "[]"


def test_importing_the_entry_point_imports_no_sdk_and_no_pipeline() -> None:
    wanted = (*HEAVY, "otel_usage.pipeline", "otel_usage.schema")
    code = f"import sys, otel_usage.instrumentor; print([m for m in {wanted} if m in sys.modules])"
    assert run(code).strip() == "[]"


def test_recording_functions_may_be_imported_and_called_while_usage_is_off(off: None) -> None:
    usage.identify(customer_id="acme")
    usage.annotate(cache_tier="fast")
    usage.reject("tier_403")
    usage.meter("pages", 3)
    with usage.upstream("yahoo-finance", "quote"), usage.usage_span("report.render") as span:
        span.set_attribute("usage.unit", "page")
        assert not span.is_recording()


def test_health_and_flush_answer_while_usage_is_off(off: None) -> None:
    assert usage.health() == OFF
    assert usage.health().status == "off"
    assert usage.flush() == EMPTY_FLUSH
    assert usage.flush().complete


def test_instrument_without_the_variable_does_nothing(off: None) -> None:
    before, original = set(threading.enumerate()), vars(httpx.HTTPTransport)["handle_request"]
    usage.instrument()
    assert usage.health() == OFF
    assert set(threading.enumerate()) == before
    assert vars(httpx.HTTPTransport)["handle_request"] is original


def test_instrument_reads_the_environment(off: None, monkeypatch: pytest.MonkeyPatch, stub: AxiomStub) -> None:
    monkeypatch.setenv("USAGE_TELEMETRY", "1")
    monkeypatch.setenv("USAGE_OTLP_ENDPOINT", stub.url)
    monkeypatch.setenv("AXIOM_API_TOKEN", "xaat-test-0000")
    usage.instrument()
    try:
        with usage.usage_span("report.render"):
            pass
        assert usage.flush().accepted == 1
        assert [span.name for span in stub.wait_for(1)] == ["report.render"]
    finally:
        usage.uninstrument()
    assert usage.health() == OFF


def test_a_bad_value_reaches_the_one_who_switches_usage_on_by_hand(off: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USAGE_TELEMETRY", "1")
    monkeypatch.setenv("USAGE_OTLP_PROTOCOL", "carrier-pigeon")
    with pytest.raises(usage.ConfigError, match=r"USAGE_OTLP_PROTOCOL is 'carrier-pigeon'; it takes http/protobuf or"):
        usage.instrument()
    assert usage.health() == OFF
    with pytest.raises(usage.UsageError):
        usage.UsageConfig(queue_size=0)
    assert issubclass(usage.ConfigError, ValueError)


def test_a_second_instrument_changes_nothing_until_uninstrument(stub: AxiomStub) -> None:
    config = usage.UsageConfig(otlp_endpoint=stub.url, axiom_token="xaat-test-0000")
    before, original = set(threading.enumerate()), vars(httpx.HTTPTransport)["handle_request"]
    usage.instrument(config)
    hook = vars(httpx.HTTPTransport)["handle_request"]
    usage.instrument(usage.UsageConfig(otlp_endpoint="http://127.0.0.1:1"))
    assert vars(httpx.HTTPTransport)["handle_request"] is hook
    with usage.usage_span("report.render"):
        pass
    usage.uninstrument()
    assert [span.name for span in stub.wait_for(1)] == ["report.render"], "it went where the first call said"
    usage.uninstrument()
    assert vars(httpx.HTTPTransport)["handle_request"] is original
    usage.instrument(config)
    usage.uninstrument()
    assert vars(httpx.HTTPTransport)["handle_request"] is original
    ours = [
        thread.name for thread in set(threading.enumerate()) - before if thread.name != "otel-usage-http-connection"
    ]
    assert not [name for name in ours if name.startswith(("otel-usage-worker", "otel-usage-post"))]
