"""What the README says is what happens."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

import otel_usage as usage
from otel_usage.config import VARIABLES
from otel_usage.identity import CLAIMS
from otel_usage.schema import AUTH_KINDS
from otel_usage.testing import AxiomStub
from tests.conftest import PEPPER, TOKEN

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BIN = Path(sys.executable).parent


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def block(language: str, containing: str) -> str:
    (found,) = [text for text in blocks(language) if containing in text]
    return found


def test_the_two_commands_are_words_of_the_makefile() -> None:
    words = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for line in block("sh", "make demo").splitlines():
        command, word = line.split()
        assert command == "make"
        assert word in words


def test_every_setting_is_in_the_table_and_nothing_else() -> None:
    table = set(re.findall(r"^\| `([A-Z_]+)` \|", README, re.MULTILINE))
    assert table == {*VARIABLES, "USAGE_TELEMETRY"}


def test_the_field_reference_is_the_schema() -> None:
    made = subprocess.run([BIN / "otel-usage", "schema", "--markdown"], capture_output=True, text=True, check=True)
    assert made.stdout == (ROOT / "docs" / "fields.md").read_text()


def test_the_zero_code_commands_record_a_service(stub: AxiomStub, tmp_path: Path) -> None:
    lines = block("sh", "AXIOM_DATASET=").splitlines()
    exports = dict(line.removeprefix("export ").split()[0].split("=") for line in lines if line.startswith("export "))
    command = lines[-1].split()
    assert exports == {"USAGE_TELEMETRY": "1", "AXIOM_API_TOKEN": "xaat-...", "AXIOM_DATASET": "api_usage"}
    (tmp_path / "shop.py").write_text(
        "from fastapi import FastAPI\n"
        + block("python", 'plan="api_pro"').replace("\nusage.identify", "\ndef known(): usage.identify")
        + "app = FastAPI()\n\n"
        + "@app.get('/v1/items/{id}')\n"
        + "def item(id: int):\n"
        + "    known()\n"
        + "    return {'id': id}\n"
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    service = subprocess.Popen(
        [str(BIN / command[0]), str(BIN / command[1]), *command[2:], "--port", str(port), "--app-dir", str(tmp_path)],
        env={**os.environ, **exports, "AXIOM_API_TOKEN": TOKEN, "USAGE_OTLP_ENDPOINT": stub.url},
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        answered = get_when_up(f"http://127.0.0.1:{port}/v1/items/7", service)
    finally:
        service.send_signal(signal.SIGTERM)
        _, complaints = service.communicate(timeout=20)
    assert answered == {"id": 7}, complaints.decode()
    (span,) = stub.wait_for(1)
    assert span.name == "GET /v1/items/{id}"
    assert span.attributes["usage.customer.id"] == "acme"
    assert span.attributes["usage.tier"] == 2


def get_when_up(url: str, service: subprocess.Popen[bytes]) -> object:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and service.poll() is None:
        try:
            return httpx.get(url).json()
        except httpx.ConnectError:
            time.sleep(0.05)
    return None


def test_the_application_made_by_hand_records_what_it_says(
    stub: AxiomStub, switch_on: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    switch_on()
    example: dict[str, object] = {}
    exec(compile(block("python", "usage.UsageMiddleware(app)"), "README.md", "exec"), example)

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(example["app"])  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.get("/hello")

    assert asyncio.run(ask()).text == "hello"
    assert usage.flush().complete
    kinds = {span.attributes["usage.kind"]: span for span in stub.spans if span.attributes.get("usage.customer.id")}
    assert set(kinds) == {"request", "custom", "llm"}
    assert kinds["request"].attributes["http.route"] == "/hello"
    assert [event.name for event in kinds["request"].events] == ["usage.cache"]
    assert kinds["custom"].attributes["usage.quantity"] == 3
    assert kinds["llm"].attributes["gen_ai.usage.input_tokens"] == 812


def test_upstream_calls_are_named_as_shown(stub: AxiomStub, switch_on: Callable[..., None]) -> None:
    switch_on()
    example: dict[str, object] = {}
    exec(compile(block("python", "def quote("), "README.md", "exec"), example)
    with httpx.Client(transport=httpx.MockTransport(lambda _request: httpx.Response(200, text="1"))) as client:
        example["quote"](client, "http://quotes.example/1")  # type: ignore[operator]
    example["quote_with_any_client"](lambda _url: "1", "http://quotes.example/2")  # type: ignore[operator]
    assert usage.flush().complete
    named = [(span.attributes["usage.provider"], span.attributes["usage.operation"]) for span in stub.spans]
    assert named == [("yahoo-finance", "quote")] * 2


def test_the_table_of_claims_is_the_one_in_the_code() -> None:
    (table,) = re.findall(r"^\| `auth_kind` .*?\n\n", README, re.DOTALL | re.MULTILINE)
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \|", table, re.MULTILINE)[1:]
    assert {kind for kind, _ in rows} == set(AUTH_KINDS)
    for kind, may in rows:
        assert (may == "nothing; always tier 0") == (not CLAIMS[kind])


def test_enterprise_and_public_keys_are_mapped_as_shown_also_after_a_rotation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("USAGE_KEY_PEPPER", PEPPER)
    monkeypatch.setenv("PATH", f"{BIN}{os.pathsep}{os.environ['PATH']}")
    subprocess.run(block("sh", "hash-key"), shell=True, input="ek_one\n", text=True, check=True)
    assert re.fullmatch(r"k1:[0-9a-f]{32} acme\n", (tmp_path / "customers.txt").read_text())

    monkeypatch.setenv("FORMER_KEY_PEPPER", PEPPER)
    monkeypatch.setenv("USAGE_KEY_PEPPER", "k2:0123456789abcdef")
    example: dict[str, Any] = {}
    exec(compile(block("python", "IdentityResolver("), "README.md", "exec"), example)
    one = example["resolver"].resolve(usage.Credentials(enterprise_api_key="ek_one"))
    assert (one.customer_id, one.principal_id[:3]) == ("acme", "k2:")
    widget = example["resolver"].resolve(usage.Credentials(widget_key="wk_live_contoso"))
    assert (widget.customer_id, widget.auth_kind) == ("contoso", "widget_key")


def test_both_processors_stand_on_any_tracer_provider_as_shown(stub: AxiomStub) -> None:
    source = block("python", "AllowlistSpanProcessor").replace("http://127.0.0.1:4318", stub.url)
    source = source.replace('/v1/traces")', '/v1/traces", headers=HEADERS)')
    example: dict[str, object] = {"HEADERS": {"Authorization": f"Bearer {TOKEN}", "X-Axiom-Dataset": "api_usage"}}
    exec(compile(source, "README.md", "exec"), example)
    provider = example["provider"]
    from opentelemetry.trace import SpanKind

    tracer = provider.get_tracer("shop")  # type: ignore[attr-defined]
    tracer.start_span("GET /secret/path", kind=SpanKind.SERVER, attributes={"http.method": "GET"}).end()
    provider.force_flush()  # type: ignore[attr-defined]
    provider.shutdown()  # type: ignore[attr-defined]
    (span,) = stub.wait_for(1)
    assert (span.name, span.attributes) == ("GET", {"usage.kind": "request", "http.request.method": "GET"})
