"""A full run of the example gateway, every instrumentation on, with secrets planted in all that clients send.

The bytes that leave for the sink are searched for them as they are on the wire, and so is what the service logs.
"""

from __future__ import annotations

import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from otel_usage.local.http_server import HttpServer
from tests.servers import PROGRAMS, free_port, server_process
from tests.wire import Wire

EXAMPLES: Final = Path(__file__).parents[2] / "examples"
KEYS: Final = ("sk_demo_acme_9f2c", "ek_demo_globex_51c0", "wk_demo_contoso_c66a", "sk_demo_northwind_0b7d")
PEPPER: Final = "wire:" + secrets.token_hex(16)
BAGGAGE_KEY: Final = "k1:" + secrets.token_hex(16)
TOKEN: Final = "xaat-" + secrets.token_hex(16)
JWT: Final = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbm5hIn0." + secrets.token_hex(16)


@contextmanager
def gateway(wire: Wire, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The example gateway and its providers, under ``opentelemetry-instrument`` with all that is installed."""
    with closing(HttpServer(wire)) as sink:
        sink.start()
        upstream, port = free_port(), free_port()
        uvicorn = ["-m", "uvicorn", "--log-level", "debug", "--app-dir", str(EXAMPLES)]
        providers = [sys.executable, *uvicorn, "gateway.upstream:app", "--port", str(upstream)]
        command = [
            "opentelemetry-instrument",
            str(PROGRAMS / "python"),
            *uvicorn,
            "gateway.app:app",
            "--port",
            str(port),
        ]
        settings = {
            "USAGE_TELEMETRY": "1",
            "USAGE_OTLP_ENDPOINT": sink.url,
            "USAGE_SPOOL": "memory",
            "AXIOM_API_TOKEN": TOKEN,
            "USAGE_KEY_PEPPER": PEPPER,
            "USAGE_UA_PEPPER": PEPPER,
            "USAGE_BAGGAGE_KEY": BAGGAGE_KEY,
            "USAGE_BAGGAGE_HOSTS": "pricing.internal",
            "GATEWAY_UPSTREAM": f"http://127.0.0.1:{upstream}",
            "OTEL_TRACES_EXPORTER": "none",
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_LOGS_EXPORTER": "none",
        }
        with (
            subprocess.Popen(providers, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as other,
            server_process(command, port, tmp_path, **settings) as (_, log),
        ):
            try:
                yield f"http://127.0.0.1:{port}", log
            finally:
                other.terminate()


def planted() -> dict[str, str]:
    """A secret for each place where a client can put one; none looks like any other."""
    places = (
        "path", "query", "value", "cookie", "agent", "referer", "origin", "language", "body", "json", "forwarded",
        "host", "tracestate", "baggage", "header", "request-id", "password",
    )  # fmt: skip
    return {place: f"{place.replace('-', '')}{secrets.token_hex(12)}" for place in places}


def attack(url: str, secret: dict[str, str]) -> int:
    """Requests to every route, with a secret in each place of each. Returns how many were answered."""
    headers = {
        "cookie": f"session={secret['cookie']}",
        "user-agent": f"curl/8 ({secret['agent']})",
        "referer": f"https://{secret['password']}:x@shop.example/{secret['referer']}?q={secret['query']}",
        "origin": f"https://{secret['origin']}.example",
        "accept-language": secret["language"],
        "authorization": f"Bearer {JWT}",
        "x-forwarded-for": f"203.0.113.7, {secret['forwarded']}",
        "x-vercel-ip-city": secret["forwarded"],
        "cf-connecting-ip": secret["forwarded"],
        "tracestate": f"vendor={secret['tracestate']}",
        "baggage": f"usage.customer.id={secret['baggage']},usage.signature={secret['baggage']}",
        "x-request-id": f"a b {secret['request-id']}",
        f"x-{secret['header']}": "1",
        "x-trace": f"ann.{secret['value']}@example.com",
    }
    paths = (
        "/v1/quotes/{path}", "/v1/quotes/ACME", "/markets", "/v1/symbols", "/v1/filings/{path}",
        "/v1/geocode?city={query}", "/v1/fx/{path}", "/v1/ratios/VOID", "/v1/export/{path}", "/v1/briefs/{path}",
        "/partner/reports/{path}", "/partner/reports/404", "/{path}", "/v1/{path}/{path}",
        "/health?token={query}", "/wp-login.php?{query}",
    )  # fmt: skip
    answered = 0
    with httpx.Client(base_url=url, timeout=10, trust_env=False, headers=headers) as client:
        for key in (*KEYS, f"sk_live_{secret['value']}", ""):
            for path in paths:
                target = path.format(path=secret["path"], query=secret["query"])
                answered += bool(client.get(target, headers={"x-api-key": key}).status_code)
            for body in ({"symbol": secret["json"], "above": 50}, {"symbol": "ACME", "above": secret["body"]}):
                answered += bool(client.post("/v1/alerts", json=body, headers={"x-api-key": key}).status_code)
            upload = client.post("/v1/uploads", content=secret["body"] * 50, headers={"x-api-key": key})
            answered += bool(upload.status_code)
            odd = client.request(
                f"X{secret['path'][:8].upper()}", "/markets", headers={"host": f"{secret['host']}@a/b"}
            )
            answered += bool(odd.status_code)
    return answered


def variants(secret: str) -> set[bytes]:
    """The forms in which a secret might hide."""
    import base64

    raw = secret.encode()
    aligned = {base64.b64encode(b"x" * shift + raw)[4 if shift else 0 : -4] for shift in range(3)}
    return {raw, raw.upper(), raw[::-1], raw.hex().encode(), *aligned}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    wire, secret = Wire(), planted()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        with gateway(wire, tmp_path_factory.mktemp("gateway")) as (url, log):
            answered = attack(url, secret)
    return {"wire": wire, "secret": secret, "answered": answered, "log": log.read_text(errors="replace")}


def test_every_request_was_recorded(run: dict[str, Any]) -> None:
    assert run["answered"] > 100
    body = b"".join(run["wire"].bodies)
    assert run["wire"].spans >= run["answered"]
    assert b"/v1/quotes/{symbol}" in body, "the search below searches what was sent"
    assert b"acme" in body


def test_no_secret_that_was_planted_is_on_the_wire(run: dict[str, Any]) -> None:
    body = b"".join(run["wire"].bodies)
    found = [place for place, secret in run["secret"].items() if any(v in body for v in variants(secret))]
    assert found == []


@pytest.mark.parametrize(
    "secret",
    [*KEYS, PEPPER.partition(":")[2], BAGGAGE_KEY.partition(":")[2], TOKEN, JWT, "unhandled", "Traceback"],
    ids=[*KEYS, "pepper", "baggage key", "token", "JWT", "unhandled", "Traceback"],  # most are of this run alone
)
def test_no_credential_of_anybody_and_no_stack_trace_is_on_the_wire(run: dict[str, Any], secret: str) -> None:
    body = b"".join(run["wire"].bodies).replace(b"unhandled_exception", b"")
    assert not any(variant in body for variant in variants(secret))


def test_no_line_of_our_log_holds_a_secret(run: dict[str, Any]) -> None:
    ours = [line for line in run["log"].splitlines() if "otel_usage" in line]
    assert any("spans produced" in line for line in ours), "our lines are in there"
    everything = [*run["secret"].values(), *KEYS, TOKEN, JWT, PEPPER[5:], BAGGAGE_KEY[3:]]
    assert [secret for secret in everything if any(secret in line for line in ours)] == []
