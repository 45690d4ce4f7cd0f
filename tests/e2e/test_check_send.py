"""``otel-usage check --send`` sends one span that no bill counts, and says in a sentence what keeps it away."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Final

import grpc
import pytest
import trustme

from otel_usage.cli import main
from otel_usage.cli.advice import what_is_wrong
from otel_usage.config import UsageConfig
from otel_usage.exporters.otlp_http import Answer, read_answer
from otel_usage.exporters.probe import CHECK_SPAN, Probed
from otel_usage.local.apl import run_apl
from otel_usage.local.recipes import recipe, recipes
from otel_usage.local.store import IN_MEMORY, UsageStore
from otel_usage.schema import BY_KEY
from otel_usage.testing import AxiomStub, Garbage, Hang, PartialSuccess, RateLimited, Reset, SlowDrip, Status
from otel_usage.testing.faults import Fault
from tests.chaos.tls import TlsForwarder, Wire
from tests.conftest import TOKEN
from tests.e2e.test_grpc import Server

HTTP_DATE: Final = "Date"
Run = Callable[..., tuple[int, str]]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("USAGE_TELEMETRY", "AXIOM_DATASET", "AXIOM_DOMAIN", "USAGE_OTLP_PROTOCOL", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("AXIOM_API_TOKEN", TOKEN)


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(endpoint: str | None, *arguments: str) -> tuple[int, str]:
        if endpoint is not None:
            monkeypatch.setenv("USAGE_OTLP_ENDPOINT", endpoint)
        code = main(["check", "--send", *arguments])
        printed = capsys.readouterr()
        assert printed.err == ""
        return code, printed.out

    return run


def wrong(printed: tuple[int, str]) -> str:
    """The one sentence that is said."""
    code, out = printed
    assert code == 1
    (line,) = (each for each in out.splitlines() if each.startswith("wrong: "))
    assert len(out.splitlines()) == 2
    return line.removeprefix("wrong: ")


# What is sent


def test_one_span_is_sent_and_is_nobodys(stub: AxiomStub, check: Run) -> None:
    code, out = check(stub.url)
    assert code == 0
    (span,) = stub.spans
    assert (span.name, span.attributes) == (CHECK_SPAN, {"usage.kind": "custom"})
    assert set(span.resource_attributes) <= set(BY_KEY)
    assert out.startswith(f"sink: {stub.url}/v1/traces, dataset api_usage\nwell: it took a span in ")
    assert f"otel-usage query story --param trace={span.trace_id}\n" in out
    (request,) = stub.requests
    assert (request.headers["authorization"], request.headers["x-axiom-dataset"]) == (f"Bearer {TOKEN}", "api_usage")


def test_nothing_is_sent_unless_it_is_said(stub: AxiomStub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USAGE_OTLP_ENDPOINT", stub.url)
    monkeypatch.setattr("otel_usage.instrumentation.survey.survey", list)
    monkeypatch.setenv("USAGE_TELEMETRY", "1")
    assert main(["check"]) == 0
    assert stub.requests == []


def test_no_recipe_counts_it_and_its_story_can_be_seen(stub: AxiomStub, check: Run) -> None:
    check(stub.url)
    given = {
        "costs": {"prices": "{}"}, "plans": {"plans": "{}"}, "story": {"trace": stub.spans[0].trace_id},
    }  # fmt: skip
    with UsageStore(IN_MEMORY) as store:
        assert store.add(stub.spans) == 1
        for name in recipes():
            asked = recipe(name)
            answer = run_apl(store, asked.apl(asked.parse(given.get(name, {})), repeated=False))
            # What lists spans shows it, and what counts does not.
            assert len(answer.rows) == (name in {"story", "latest"}), name


def test_everything_is_said_to_programs(stub: AxiomStub, check: Run) -> None:
    code, out = check(stub.url, "--json")
    said = json.loads(out)
    assert code == 0
    assert said.pop("milliseconds") > 0
    (span,) = stub.spans
    trace = span.trace_id
    assert said == {"endpoint": f"{stub.url}/v1/traces", "dataset": "api_usage", "trace_id": trace, "wrong": []}


# What the sink answers


def test_a_token_that_is_not_known(stub: AxiomStub, check: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AXIOM_API_TOKEN", "xaat-secret-other")
    said = wrong(check(stub.url))
    assert "does not know the token (401): set AXIOM_API_TOKEN to an API token" in said
    assert "secret" not in said
    monkeypatch.delenv("AXIOM_API_TOKEN")
    assert "wants a token (401): set AXIOM_API_TOKEN." in wrong(check(stub.url))


def test_a_dataset_that_is_not_there_or_not_granted(check: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with AxiomStub(token=TOKEN, dataset="mine", other_datasets=["theirs"]) as stub:
        monkeypatch.setenv("AXIOM_DATASET", "nowhere")
        said = wrong(check(stub.url))
        assert said.startswith("Nothing takes spans of 'nowhere' at ")
        assert "(404): check" in said
        monkeypatch.setenv("AXIOM_DATASET", "theirs")
        said = wrong(check(stub.url))
        assert said.startswith("The token may not ingest into the dataset 'theirs' (403): give AXIOM_API_TOKEN that")


def test_axiom_without_a_token_is_not_asked(check: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("USAGE_OTLP_ENDPOINT", raising=False)
    monkeypatch.delenv("AXIOM_API_TOKEN")
    said = wrong(check(None))
    assert said == "Axiom takes no spans without a token, so nothing was sent: set AXIOM_API_TOKEN."


ANSWERS: Final[list[tuple[Fault, str]]] = [
    (RateLimited(reset_seconds=30), "takes no more for now (429): wait, or raise its limit"),
    (Status(500), "has a problem of its own (500): try again later"),
    (Status(503, {"Retry-After": "5"}), "has a problem of its own (503)"),
    (Status(400), "refuses what OTLP sends (400): check that it takes protobuf over HTTP"),
    (Status(418), "refuses what OTLP sends (418)"),
    (Status(307, {"Location": "http://127.0.0.1:1/"}), "points elsewhere (307), where no token is sent"),
    (Status(200, {"Content-Type": "text/html"}, b"<html>hello</html>"), "answers 200, but not as OTLP does"),
    (PartialSuccess(1), "answers 200 and rejects the span"),
    (Garbage(), "breaks the connection, or answers no HTTP"),
    (Reset(), "breaks the connection, or answers no HTTP"),
    (Hang(30), "did not answer within 1.5 s: check host and port"),
    (SlowDrip(0.2), "did not answer within 1.5 s"),
]


@pytest.mark.parametrize(("fault", "says"), ANSWERS, ids=lambda value: str(value)[:30])
def test_what_the_sink_answers_is_one_sentence(stub: AxiomStub, check: Run, fault: Fault, says: str) -> None:
    stub.fail_with(fault)
    assert says in wrong(check(stub.url))


def test_the_sinks_own_words_are_harmless(stub: AxiomStub, check: Run) -> None:
    body = json.dumps({"message": f"no \x1b[2J {TOKEN} for jane@example.com"}).encode()
    stub.fail_with(Status(403, {"Content-Type": "application/json"}, body))
    said = wrong(check(stub.url))
    assert "It says: no  [2J [token] for " in said
    assert TOKEN not in said
    assert "\x1b" not in said


@pytest.mark.parametrize(
    ("ahead", "says"), [(timedelta(hours=-5), "5 hours ahead of"), (timedelta(minutes=3), "3 minutes behind")]
)
def test_a_clock_that_is_wrong_is_said_though_the_span_was_taken(
    stub: AxiomStub, check: Run, ahead: timedelta, says: str
) -> None:
    there = format_datetime(datetime.now(UTC) + ahead, usegmt=True)
    stub.fail_with(Status(200, {HTTP_DATE: there, "Content-Type": "application/x-protobuf"}, b""))
    said = wrong(check(stub.url))
    assert f"This machine's clock is {says} the sink's" in said


def test_a_date_that_is_none_says_nothing_of_the_clock(stub: AxiomStub, check: Run) -> None:
    stub.fail_with(Status(200, {HTTP_DATE: "yesterday"}, b""))
    assert check(stub.url)[0] == 0


# The way there


def test_nobody_listens(check: Run) -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        said = wrong(check(f"http://127.0.0.1:{taken.getsockname()[1]}"))
    assert said.startswith("Nobody listens at 127.0.0.1:")
    assert said.endswith("check USAGE_OTLP_ENDPOINT.")


def test_a_name_that_is_not_known(check: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "The name of no-such-host.invalid is not known" in wrong(check("https://no-such-host.invalid"))
    monkeypatch.delenv("USAGE_OTLP_ENDPOINT")
    monkeypatch.setenv("AXIOM_DOMAIN", "us-east-9.invalid")
    assert "The name of us-east-9.invalid is not known: check AXIOM_DOMAIN" in wrong(check(None))


def test_the_region_is_said_where_axiom_does_not_have_the_dataset() -> None:
    # Nobody here is Axiom's own host, which alone has regions.
    for status, says in (
        (403, "may not ingest"),
        (404, "There is no dataset 'api_usage' at us-east-1.aws.edge.axiom.co"),
    ):
        answer = Answer(status, {}, b"")
        config = UsageConfig(axiom_token=TOKEN)
        (said,) = what_is_wrong(config, Probed("0" * 32, read_answer(*answer), 1.0, answer))
        assert says in said
        assert said.endswith("set AXIOM_DOMAIN to that one's: eu-central-1.aws.edge.axiom.co.")


@pytest.fixture
def tls(stub: AxiomStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TlsForwarder]:
    forwarder = TlsForwarder(int(stub.url.rsplit(":", 1)[1]), tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    yield forwarder
    forwarder.be(Wire.STALLED)  # which ends every connection


def test_tls_that_is_well(tls: TlsForwarder, check: Run) -> None:
    assert check(tls.url)[0] == 0


def test_an_authority_that_is_not_known(tls: TlsForwarder, check: Run) -> None:
    tls.be(Wire.UNTRUSTED)
    said = wrong(check(tls.url))
    assert "is by an authority that this machine does not trust: let SSL_CERT_FILE name" in said


def test_a_handshake_that_nobody_answers(tls: TlsForwarder, check: Run) -> None:
    tls.be(Wire.STALLED)
    assert "did not answer within 1.5 s" in wrong(check(tls.url))


def test_tls_where_there_is_none(stub: AxiomStub, check: Run) -> None:
    said = wrong(check(stub.url.replace("http://", "https://")))
    assert "does not speak TLS as this machine does" in said


@contextmanager
def tls_with(context: ssl.SSLContext) -> Iterator[int]:
    """A port of loopback whose handshakes are answered with a certificate."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        server.settimeout(10)

        def serve() -> None:
            try:
                accepted, _ = server.accept()
                with accepted, context.wrap_socket(accepted, server_side=True) as secured:
                    secured.recv(1)
            except OSError:
                pass  # the client did not like the certificate

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        thread.join(10)
        assert not thread.is_alive()


@pytest.mark.parametrize(
    ("names", "valid", "says"),
    [
        (["elsewhere.example"], (-1, 1), "is for another name: let USAGE_OTLP_ENDPOINT name the one"),
        (["127.0.0.1"], (-2, -1), "has expired, or this machine's clock is wrong (it says 20"),
        (["127.0.0.1"], (1, 2), "is not valid yet, or this machine's clock is wrong (it says 20"),
    ],
)
def test_a_certificate_that_does_not_hold(
    tmp_path: Path, check: Run, monkeypatch: pytest.MonkeyPatch, names: list[str], valid: tuple[int, int], says: str
) -> None:
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    start, end = (datetime.now(UTC) + timedelta(days=days) for days in valid)
    authority.issue_cert(*names, not_before=start, not_after=end).configure_cert(context)
    with tls_with(context) as port:
        assert says in wrong(check(f"https://127.0.0.1:{port}"))


def test_a_token_is_not_sent_over_an_open_line() -> None:
    config = UsageConfig(axiom_token=TOKEN, otlp_endpoint="http://collector.example:4318")
    answer = Answer(401, {}, b"")
    (said,) = what_is_wrong(config, Probed("0" * 32, read_answer(*answer), 1.0, answer))
    assert said == "collector.example:4318 wants a token (401), which is not sent over an open line: use https://."


def test_a_proxy_that_leads_nowhere(check: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{taken.getsockname()[1]}")
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        said = wrong(check("https://sink.example"))
    assert "The proxy that the environment names does not lead to sink.example" in said


# gRPC


@pytest.fixture
def grpc_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("USAGE_OTLP_PROTOCOL", "grpc")
    running = Server()
    yield running
    running.stop()


def test_one_span_is_sent_over_grpc(grpc_server: Server, check: Run) -> None:
    code, out = check(grpc_server.endpoint)
    assert (code, grpc_server.sink.names) == (0, [CHECK_SPAN])
    assert "well: it took a span in " in out


def test_nobody_takes_spans_over_grpc(grpc_server: Server, check: Run) -> None:
    grpc_server.sink.status = grpc.StatusCode.UNAUTHENTICATED
    assert wrong(check(grpc_server.endpoint)) == "The sink does not know the token: check AXIOM_API_TOKEN."
    endpoint = grpc_server.endpoint
    grpc_server.stop()
    said = wrong(check(endpoint))
    assert f"No OTLP/gRPC service takes spans at {endpoint} (" in said or "did not answer within" in said
