"""``opentelemetry-instrument`` with ``USAGE_BRIDGE``, and whatever instrumentations are installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from otel_usage.testing import AxiomStub, ReceivedSpan
from tests.conformance.providers import COMPLAINT, COMPLETION, providers
from tests.conftest import TOKEN
from tests.needs import needed_module
from tests.outside import Outside, facts
from tests.servers import free_port, server_process

QUESTION: Final = "QUESTION-11aa"
CUSTOMERS: Final = ("acme", "contoso")
TRACED: Final = {"OTEL_PYTHON_TRACER_PROVIDER": "sdk_tracer_provider"}
"""What gives a process an SDK's provider, by OpenTelemetry's API alone."""
BRIDGE: Final = "gen_ai,opentelemetry.instrumentation.sqlite3"


@contextmanager
def adviser(stub: AxiomStub, tmp_path: Path, **settings: str) -> Iterator[tuple[httpx.Client, Path]]:
    """The service as a process, and its log; its own tracing goes nowhere. The client is somebody else."""
    port = free_port()
    command = ["opentelemetry-instrument", "uvicorn", "adviser:app", "--port", str(port)]
    with providers() as asked:
        environment = {
            "USAGE_TELEMETRY": "1",
            "USAGE_OTLP_ENDPOINT": stub.url,
            "AXIOM_API_TOKEN": TOKEN,
            "PROVIDERS": asked.url,
            "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "",
            **settings,
        }
        with (
            server_process(command, port, tmp_path, **environment) as (process, log),
            httpx.Client(base_url=f"http://127.0.0.1:{port}", transport=Outside(), timeout=30) as client,
        ):
            yield client, log
            process.terminate()
            process.wait(20)


def of_kind(stub: AxiomStub, kind: str, customer: str) -> list[ReceivedSpan]:
    said = {"usage.kind": kind, "usage.customer.id": customer}
    found = [span for span in stub.unique_spans if said.items() <= span.attributes.items()]
    return sorted(found, key=lambda span: span.start_time)


def what(span: ReceivedSpan) -> tuple[Any, ...]:
    tokens = ("gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens")
    step = ("usage.llm.stage", "usage.llm.fallback_index")
    return facts(span, "gen_ai.request.model", *tokens, *step, "usage.reason", "usage.route")


def test_models_and_databases_are_on_their_customers_accounts(stub: AxiomStub, tmp_path: Path) -> None:
    with adviser(stub, tmp_path, USAGE_BRIDGE=BRIDGE, **TRACED) as (client, _):
        for customer in CUSTOMERS:
            for path in ("/brief", "/stream", "/notes"):
                assert client.get(path, headers={"x-customer": customer}).status_code == 200, path
    for customer in CUSTOMERS:
        assert [what(span) for span in of_kind(stub, "llm", customer)] == [
            ("claude-429", None, None, "brief", 0, "rate_limit_429", "/brief"),
            ("claude-5", 11, 4, "brief", 1, "ok", "/brief"),
            ("claude-5", 11, 4, None, None, "ok", "/stream"),
        ]
        called = [facts(span, "usage.provider", "usage.operation") for span in of_kind(stub, "upstream", customer)]
        assert called == [*[("127.0.0.1", None)] * 3, ("sqlite", "SELECT")], "one request for each model call"
        assert len(of_kind(stub, "request", customer)) == 3
    assert not [secret for secret in (QUESTION, COMPLETION, COMPLAINT) if secret in str(stub.spans)]


def test_a_chain_is_seen_by_the_library_beneath_it(stub: AxiomStub, tmp_path: Path) -> None:
    """The instrumentations of LangChain are switched on with no code only where the package langchain is installed."""
    needed_module("opentelemetry.instrumentation.genai.openai")
    with adviser(stub, tmp_path, USAGE_BRIDGE="gen_ai", **TRACED) as (client, _):
        assert client.get("/chain", headers={"x-customer": "acme"}).status_code == 200
    assert [what(span) for span in of_kind(stub, "llm", "acme")] == [("gpt-5", 12, 3, None, None, "ok", "/chain")]


OFF: Final[list[tuple[dict[str, str], bool]]] = [
    (TRACED, False),
    ({"USAGE_BRIDGE": "gen_ai"}, True),
    ({"USAGE_BRIDGE": "gen_ai", "OTEL_SDK_DISABLED": "true", **TRACED}, False),
]


@pytest.mark.parametrize(("settings", "said"), OFF, ids=["no setting", "no provider", "SDK off"])
def test_without_the_setting_or_without_tracing_there_are_none(
    stub: AxiomStub, tmp_path: Path, settings: dict[str, str], said: bool
) -> None:
    with adviser(stub, tmp_path, **settings) as (client, log):
        assert client.get("/stream", headers={"x-customer": "acme"}).status_code == 200
    assert len(of_kind(stub, "upstream", "acme")) == len(of_kind(stub, "request", "acme")) == 1
    assert of_kind(stub, "llm", "acme") == []
    assert ("USAGE_BRIDGE waits for" in log.read_text()) == said
