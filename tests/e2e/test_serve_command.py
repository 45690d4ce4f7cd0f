"""The real process: `otel-usage serve` takes real OTLP, reports it, and stops in order."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind

from otel_usage.cli import main
from otel_usage.local.http_server import HttpServer
from otel_usage.local.messages import Request, Response
from otel_usage.local.query_api import QUERY_PATH
from otel_usage.local.store import UsageStore

TIMEOUT = 20
CLI = [sys.executable, "-W", "error", "-c", "import sys; from otel_usage.cli import main; sys.exit(main())"]


class Served:
    """A running `otel-usage serve`."""

    def __init__(self, process: subprocess.Popen[str], banner: list[str]) -> None:
        self.process = process
        self.banner = banner
        (self.url,) = [line.split("=", 1)[1] for line in banner if line.startswith("USAGE_OTLP_ENDPOINT=")]

    def stop(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str, str]:
        """Signal it, and return its exit code and the rest of its output."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=TIMEOUT)
        return self.process.returncode, out, err


def environment(token: str | None = None) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "USAGE_SINK_TOKEN"}
    return kept if token is None else {**kept, "USAGE_SINK_TOKEN": token}


@contextmanager
def serve(db: Path, *arguments: str, token: str | None = None) -> Iterator[Served]:
    with subprocess.Popen(
        [*CLI, "serve", "--port", "0", "--db", str(db), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(token),
    ) as process:
        assert process.stdout is not None
        banner: list[str] = []
        try:
            for line in process.stdout:
                banner.append(line.strip())
                if not line.strip() and any("USAGE_OTLP_ENDPOINT" in said for said in banner):
                    break
            else:
                assert process.stderr is not None
                pytest.fail(f"serve ended: {process.stderr.read()}")
            yield Served(process, banner)
        finally:
            if process.poll() is None:
                process.kill()


def run(*arguments: str, token: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*CLI, *arguments], capture_output=True, text=True, timeout=TIMEOUT, check=False, env=environment(token)
    )


def send(url: str, customers: list[str], token: str | None = None) -> None:
    """One request span for each customer, through the official SDK and exporter."""
    headers = {"Authorization": f"Bearer {token}"} if token else None
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{url}/v1/traces", headers=headers)))
    tracer = provider.get_tracer("test")
    for customer in customers:
        with tracer.start_as_current_span("GET", kind=SpanKind.SERVER) as span:
            span.set_attributes({"usage.kind": "request", "usage.customer.id": customer, "usage.reason": "ok"})
    provider.shutdown()


def get(url: str, path: str, **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=TIMEOUT)
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def one_line(text: str) -> str:
    lines = text.splitlines()
    assert len(lines) == 1, text
    return lines[0]


def test_spans_that_were_sent_are_in_the_servers_report_and_afterwards_in_the_file(tmp_path: Path) -> None:
    db = tmp_path / "usage.duckdb"
    with serve(db) as served:
        assert "USAGE_TELEMETRY=1" in served.banner
        send(served.url, ["acme"] * 3 + ["globex"] * 2)
        asked = run("report", "--endpoint", served.url, "--json")
        assert (asked.returncode, asked.stderr) == (0, "")
        report = json.loads(asked.stdout)
        assert {row["customer"]: row["requests"] for row in report["customers"]} == {"acme": 3, "globex": 2}
        assert report["totals"]["errors"] == 0

        shown = run("report", "--endpoint", served.url, "--since", "1h")
        assert re.search(r"acme\W+3\b", shown.stdout)

        code, out, err = served.stop()
        assert (code, err) == (0, "")
        assert one_line(out) == f"stopped: 5 new spans of 5 received, now 5 in {db}"
    with UsageStore(db, must_exist=True) as store:
        assert store.count() == 5
    assert json.loads(run("report", "--db", str(db), "--json").stdout) == report


def test_ctrl_c_stops_it_in_order_too(tmp_path: Path) -> None:
    with serve(tmp_path / "usage.duckdb") as served:
        code, out, err = served.stop(signal.SIGINT)
    assert (code, err) == (0, "")
    assert out.startswith("stopped: 0 new spans")


def test_it_stops_while_a_client_is_connected(tmp_path: Path) -> None:
    with serve(tmp_path / "usage.duckdb") as served:
        address = urlsplit(served.url)
        with socket.create_connection((str(address.hostname), address.port or 0), timeout=TIMEOUT) as connection:
            connection.sendall(b"POST /v1/traces HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nhalf")
            assert served.stop()[0] == 0


def test_a_second_run_adds_to_the_same_file(tmp_path: Path) -> None:
    db = tmp_path / "usage.duckdb"
    for _ in range(2):
        with serve(db) as served:
            send(served.url, ["acme"])
            served.stop()
    with UsageStore(db) as store:
        assert store.count() == 2


def test_with_a_token_both_exports_and_reports_need_it(tmp_path: Path) -> None:
    with serve(tmp_path / "usage.duckdb", token="secret-token") as served:
        assert "AXIOM_API_TOKEN=<the value of USAGE_SINK_TOKEN>" in served.banner
        assert "secret-token" not in "".join(served.banner)
        send(served.url, ["acme"], token="secret-token")
        refused = run("report", "--endpoint", served.url)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert "USAGE_SINK_TOKEN" in one_line(refused.stderr)
        assert get(served.url, QUERY_PATH, Authorization="Bearer wrong")[0] == 401
        allowed = run("report", "--endpoint", served.url, "--json", token="secret-token")
        assert json.loads(allowed.stdout)["totals"]["requests"] == 1
        assert served.stop()[0] == 0


def test_who_has_no_token_cannot_even_send_a_body(tmp_path: Path) -> None:
    with serve(tmp_path / "usage.duckdb", token="secret-token") as served:
        with socket.create_connection(("127.0.0.1", urlsplit(served.url).port or 0), TIMEOUT) as connection:
            connection.sendall(b"POST /v1/traces HTTP/1.1\r\nHost: localhost\r\nContent-Length: 16000000\r\n\r\n")
            assert connection.recv(100).startswith(b"HTTP/1.1 401 "), "before the first byte of the body"
        served.stop()


def test_what_is_kept_is_the_users_alone(tmp_path: Path) -> None:
    with serve(tmp_path / "usage.duckdb") as served:
        send(served.url, ["acme"])
        modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
        served.stop()
    assert modes
    assert set(modes.values()) == {0o600}, modes


def test_the_token_goes_to_no_server_that_was_not_named_and_over_no_open_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[str] = []

    def listener(request: Request) -> Response:
        seen.append(request.header("Authorization"))
        return Response(404)

    db = tmp_path / "usage.duckdb"
    monkeypatch.setenv("USAGE_SINK_TOKEN", "secret-token")
    with HttpServer(listener) as other, serve(db, token="secret-token"):
        monkeypatch.setattr("otel_usage.cli.served.DEFAULT_ENDPOINT", other.url)
        assert main(["report", "--db", str(db)]) == 2
    assert seen == ["", ""]
    for endpoint in ("http://sink.example:4318", "http://ann:hunter2@127.0.0.1:1", "https://[::1"):
        assert main(["report", "--endpoint", endpoint]) == 2
    printed = capsys.readouterr()
    assert "in the clear" in printed.err
    assert "hunter2" not in printed.err + printed.out


def test_beyond_this_machine_a_token_is_required(tmp_path: Path) -> None:
    for host in ("0.0.0.0", "::", "example.com", ""):
        done = run("serve", "--host", host, "--port", "0", "--db", str(tmp_path / "usage.duckdb"))
        assert done.returncode == 2
        assert "USAGE_SINK_TOKEN" in one_line(done.stderr)
    assert list(tmp_path.iterdir()) == []


def test_a_web_page_cannot_ask_through_a_name_of_its_own(tmp_path: Path) -> None:
    with serve(tmp_path / "usage.duckdb") as served:
        assert get(served.url, QUERY_PATH)[0] == 405, "it is asked with POST"
        assert get(served.url, QUERY_PATH, Host="evil.example")[0] == 403
        served.stop()


def test_a_file_that_is_served_is_named_when_nobody_answers_at_the_default_port(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    db = tmp_path / "usage.duckdb"
    with socket.socket() as taken, serve(db) as served:
        # Bound and not listening: a port where nobody answers.
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setattr("otel_usage.cli.served.DEFAULT_ENDPOINT", f"http://127.0.0.1:{taken.getsockname()[1]}")
        assert main(["report", "--db", str(db)]) == 2
        error = one_line(capsys.readouterr().err)
        assert "is held by another process" in error
        assert "--endpoint" in error

        monkeypatch.setattr("otel_usage.cli.served.DEFAULT_ENDPOINT", served.url)
        assert main(["report", "--db", str(db)]) == 0
        assert "No spans yet." in capsys.readouterr().out
        second = run("serve", "--port", "0", "--db", str(db))
        assert (second.returncode, second.stdout) == (2, "")
        assert "is held by another process" in one_line(second.stderr)
        served.stop()


def test_a_server_that_keeps_another_file_does_not_answer_for_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with serve(tmp_path / "this.duckdb") as this, serve(tmp_path / "other.duckdb") as other:
        monkeypatch.setattr("otel_usage.cli.served.DEFAULT_ENDPOINT", other.url)
        for command in (["report"], ["query", "customers"]):
            assert main([*command, "--db", str(tmp_path / "this.duckdb")]) == 2
            printed = capsys.readouterr()
            assert printed.out == ""
            assert f"{other.url} keeps another file" in one_line(printed.err)
        assert main(["report", "--db", str(tmp_path / "." / "other.duckdb")]) == 0
        assert str(tmp_path) not in str(get(other.url, "/v1/usage/store"))
        this.stop()
        other.stop()


def test_a_taken_port_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = run("serve", "--port", port, "--db", str(tmp_path / "usage.duckdb"))
    assert done.returncode == 2
    assert re.search(rf"cannot listen on http://127\.0\.0\.1:{port}: .* in use", one_line(done.stderr))


def test_a_missing_and_a_damaged_file_are_one_line(tmp_path: Path) -> None:
    db = tmp_path / "usage.duckdb"
    missing = run("report", "--db", str(db))
    assert missing.returncode == 2
    assert "otel-usage serve" in one_line(missing.stderr)
    db.write_bytes(b"damaged")
    for command in ("report", "serve"):
        damaged = run(command, "--db", str(db))
        assert damaged.returncode == 2
        assert "Move it away" in one_line(damaged.stderr)


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:1", "ftp://x", "not a url", "http://"])
def test_an_endpoint_without_a_server_is_one_line(endpoint: str) -> None:
    done = run("report", "--endpoint", endpoint)
    assert done.returncode == 2
    assert "--endpoint" in one_line(done.stderr)
