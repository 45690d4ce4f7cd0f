"""``opentelemetry-instrument uvicorn …``, as real processes: usage with no code, and nothing at all without it."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from otel_usage.testing import AxiomStub, ReceivedSpan
from tests.conftest import TOKEN
from tests.servers import free_port, serve_asgi, server_process

APPS: Final = Path(__file__).parent.parent / "apps"
PROGRAMS: Final = Path(sys.executable).parent
TRACE_ID: Final = "0af7651916cd43dd8448eb211c80319c"
CALLS: Final = (
    ("GET", "/v1/items/1", {}),
    ("GET", "/v1/items/2", {}),
    ("GET", "/v1/items/not-a-number", {}),
    ("POST", "/v1/orders", {}),
    ("GET", "/v1/export", {}),
    ("GET", "/v1/broken", {}),
    ("GET", "/nowhere", {}),
    ("GET", "/v1/items/3", {"traceparent": f"00-{TRACE_ID}-b7ad6b7169203331-01"}),
    ("GET", "/v1/items/4", {"traceparent": f"00-{TRACE_ID[::-1]}-b7ad6b7169203331-00"}),
)
"""What is asked of the shop: nine requests, five of which make an upstream call."""
REQUESTS: Final = Counter(
    {"GET /v1/items/{n}": 5, "POST /v1/orders": 1, "GET /v1/export": 1, "GET /v1/broken": 1, "GET": 1}
)
UPSTREAM_CALLS: Final = 5


class Upstream:
    """What the shop calls. It remembers the headers of every call."""

    def __init__(self) -> None:
        self.url = ""
        self.headers: list[dict[str, str]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        self.headers.append({name.decode(): value.decode() for name, value in scope["headers"]})
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello"})


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    app = Upstream()
    with serve_asgi(app, lifespan="off") as url:
        app.url = url
        yield app


class Shop:
    """The shop, as a process."""

    def __init__(self, url: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.url, self._process, self._log = url, process, log

    def ask(self, method: str, path: str, headers: Mapping[str, str] | None = None) -> bytes:
        """The answer's body, whatever its status."""
        data = b'{"apples": 3}' if method == "POST" else None
        asked = {"content-type": "application/json", **(headers or {})}
        request = urllib.request.Request(self.url + path, data, asked, method=method)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.read()

    def facts(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.ask("GET", "/facts"))
        return found

    def stop(self, by: signal.Signals = signal.SIGTERM) -> str:
        """Stop it, and return what it has logged."""
        if self._process.poll() is None:
            self._process.send_signal(by)
            self._process.wait(15)
        return self._log.read_text()


@contextlib.contextmanager
def shop(tmp_path: Path, *options: str, **environment: str) -> Iterator[Shop]:
    """``opentelemetry-instrument uvicorn shop:app`` with this environment and hardly anything else in it."""
    port = free_port()
    command = ["opentelemetry-instrument", "uvicorn", "shop:app", "--port", str(port), *options]
    with server_process(command, port, tmp_path, OTEL_SERVICE_NAME="shop", **environment) as (process, log):
        running = Shop(f"http://127.0.0.1:{port}", process, log)
        try:
            yield running
        finally:
            running.stop()


def towards(sink: AxiomStub) -> dict[str, str]:
    """The environment that switches usage on."""
    return {"USAGE_TELEMETRY": "1", "USAGE_OTLP_ENDPOINT": sink.url, "AXIOM_API_TOKEN": TOKEN}


def tracing(sink: AxiomStub, *, native: bool = False, **settings: str) -> dict[str, str]:
    """The environment that switches the shop's own tracing on. ``native``: FastAPI's own in place of contrib's."""
    return {
        "SHOP_TRACING": "1",
        "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url,
        "OTEL_EXPORTER_OTLP_HEADERS": "x-vendor-key=another-vendors-key",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        **({"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "fastapi,asgi"} if native else {}),
        **settings,
    }


@pytest.fixture
def theirs() -> Iterator[AxiomStub]:
    """The backend of the shop's own tracing."""
    with AxiomStub(token=None) as sink:
        yield sink


def ask_everything(running: Shop) -> None:
    for method, path, headers in CALLS:
        running.ask(method, path, headers)


def by_kind(sink: AxiomStub, kind: str) -> list[ReceivedSpan]:
    return [span for span in sink.spans if span.attributes["usage.kind"] == kind]


def assert_usage_is_complete(sink: AxiomStub) -> None:
    requests, calls = by_kind(sink, "request"), by_kind(sink, "upstream")
    assert Counter(span.name for span in requests) == REQUESTS
    assert len(calls) == UPSTREAM_CALLS
    assert len(sink.spans) == len(CALLS) + UPSTREAM_CALLS, "and nothing else, nothing twice"
    by_id = {span.span_id: span for span in requests}
    for span in calls:
        assert span.parent_span_id in by_id
        assert by_id[span.parent_span_id].trace_id == span.trace_id
    assert sum(int(str(span.attributes.get("usage.upstream.count", 0))) for span in requests) == UPSTREAM_CALLS


def everything_of(theirs: AxiomStub, running: Shop) -> list[ReceivedSpan]:
    """All spans of the shop's own tracing: one more request is made, and waited for."""
    running.ask("GET", "/last")
    deadline = time.monotonic() + 10
    while not (last := {span.trace_id for span in theirs.spans if span.name == "GET /last"}):
        assert time.monotonic() < deadline, [span.name for span in theirs.spans]
        time.sleep(0.02)
    return [span for span in theirs.spans if span.trace_id not in last]


def described(spans: list[ReceivedSpan]) -> list[Any]:
    """Traces as trees of all that their spans say, but for ids, times, ports and the frames of a stack."""
    ids = {span.span_id for span in spans}
    children: dict[str | None, list[ReceivedSpan]] = defaultdict(list)
    for span in spans:
        children[span.parent_span_id if span.parent_span_id in ids else None].append(span)

    def tree(span: ReceivedSpan) -> Any:
        said = {
            "name": span.name,
            "kind": span.kind,
            "remote parent": span.parent_span_id not in ids and span.parent_span_id,
            "status": (span.status_code, span.status_message),
            "attributes": comparable(span.attributes),
            "events": [(event.name, comparable(event.attributes)) for event in span.events],
            "links": len(span.links),
            "scope": (span.scope_name, span.scope_version, span.schema_url),
            "resource": comparable(span.resource_attributes),
            "trace state": span.trace_state,
        }
        return said, sorted((tree(child) for child in children[span.span_id]), key=repr)

    return sorted((tree(span) for span in children[None]), key=repr)


def comparable(attributes: Mapping[str, Any]) -> dict[str, Any]:
    same: dict[str, Any] = {}
    for key, value in attributes.items():
        if key.endswith("port") or key in ("exception.stacktrace", "service.instance.id", "thread.id"):
            same[key] = "…"
        else:
            same[key] = re.sub(r"(127\.0\.0\.1):\d+", r"\1:…", value) if isinstance(value, str) else value
    return same


class TestUsageAlone:
    """Where the service has no tracing of its own."""

    def test_requests_and_upstream_calls_arrive_with_no_code(
        self, stub: AxiomStub, upstream: Upstream, tmp_path: Path
    ) -> None:
        with shop(tmp_path, SHOP_UPSTREAM=upstream.url, **towards(stub)) as running:
            ask_everything(running)
            stub.wait_for(len(CALLS) + UPSTREAM_CALLS)
            facts = running.facts()
        assert set(facts["ours"]) == {"Starlette.__call__", "Thread.start", "HTTPTransport"}
        (last,) = [span for span in stub.spans if span.name == "GET /facts"]
        others = [span for span in stub.spans if span is not last]
        assert {span.resource_attributes["service.name"] for span in others} == {"shop"}
        assert {span.attributes["http.response.status_code"] for span in others} == {200, 404, 422, 500}
        ids = {span.span_id for span in others}
        assert {span.parent_span_id for span in others} <= {*ids, None}, "nothing is orphaned"

    def test_sigterm_delivers_everything_that_was_recorded(
        self, stub: AxiomStub, upstream: Upstream, tmp_path: Path
    ) -> None:
        with shop(tmp_path, SHOP_UPSTREAM=upstream.url, **towards(stub)) as running:
            ask_everything(running)
            log = running.stop()
        assert_usage_is_complete(stub)
        assert "Traceback" not in log.replace(log[log.find("Exception in ASGI") : log.find("a bug of the shop's")], "")

    def test_sigterm_delivers_what_each_of_several_workers_recorded(
        self, stub: AxiomStub, upstream: Upstream, tmp_path: Path
    ) -> None:
        with shop(tmp_path, "--workers", "2", SHOP_UPSTREAM=upstream.url, **towards(stub)) as running:
            ask_everything(running)
            running.stop()
        assert_usage_is_complete(stub)

    @pytest.mark.parametrize(
        "settings",
        [
            {},
            {"USAGE_TELEMETRY": "0"},
            {"USAGE_TELEMETRY": "1", "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "usage"},
        ],
        ids=["unset", "0", "disabled"],
    )
    def test_without_it_there_is_no_hook_no_thread_and_no_import(
        self, stub: AxiomStub, upstream: Upstream, tmp_path: Path, settings: dict[str, str]
    ) -> None:
        environment = {**towards(stub), "SHOP_UPSTREAM": upstream.url} | {"USAGE_TELEMETRY": ""} | settings
        with shop(tmp_path, **environment) as running:
            running.ask("GET", "/v1/items/1")
            facts = running.facts()
            log = running.stop()
        assert facts["ours"] == []
        assert "otel_usage.pipeline" not in facts["modules"]
        assert set(facts["modules"]) <= {
            "otel_usage", "otel_usage._version", "otel_usage.instrumentor", "otel_usage.errors", "otel_usage.guard",
        }  # fmt: skip
        assert not [name for name in facts["threads"] if "usage" in name]
        assert stub.requests == []
        assert "usage" not in log

    def test_a_bad_value_is_one_clear_error_and_the_service_starts_without_usage(
        self, stub: AxiomStub, upstream: Upstream, tmp_path: Path
    ) -> None:
        environment = towards(stub) | {"USAGE_OTLP_PROTOCOL": "carrier-pigeon", "SHOP_UPSTREAM": upstream.url}
        with shop(tmp_path, **environment) as running:
            assert json.loads(running.ask("GET", "/v1/items/1")) == {"n": 1, "status": 200}
            assert running.facts()["ours"] == []
            log = running.stop()
        lines = [line for line in log.splitlines() if "usage" in line.lower()]
        assert lines == ["usage is off: USAGE_OTLP_PROTOCOL is 'carrier-pigeon'; it takes http/protobuf or grpc"]
        assert "Traceback" not in log
        assert TOKEN not in log
        assert stub.requests == []


class TestBesideTheirTracing:
    """Where the service is traced already: usage is complete, and their spans are what they are without it."""

    @pytest.mark.parametrize("native", [False, True], ids=["contrib", "native"])
    def test_their_spans_are_the_same_as_without_us(
        self, stub: AxiomStub, upstream: Upstream, tmp_path: Path, native: bool
    ) -> None:
        sampler = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "1.0"}
        with AxiomStub(token=None) as sink:
            environment = tracing(sink, native=native, SHOP_UPSTREAM=upstream.url, **sampler)
            with shop(tmp_path, **environment) as running:
                ask_everything(running)
                without_us = described(everything_of(sink, running))
        upstream.headers.clear()
        with AxiomStub(token=None) as sink:
            environment = tracing(sink, native=native, SHOP_UPSTREAM=upstream.url, **sampler) | towards(stub)
            with shop(tmp_path, **environment) as running:
                ask_everything(running)
                spans = everything_of(sink, running)
                running.stop()
            assert {request.headers.get("x-vendor-key") for request in sink.requests} == {"another-vendors-key"}
        assert described(spans) == without_us
        assert len(without_us) == len(CALLS) - 1, "all requests but the one that came unsampled"

        assert not any("another-vendors-key" in str(request.headers) for request in stub.requests)
        usage_spans = [span for span in stub.spans if "/last" not in span.name]
        usage_ids = {span.span_id for span in stub.spans}
        assert not usage_ids & {span.parent_span_id for span in spans}, "no usage span is a parent of theirs"
        assert not usage_ids & {headers.get("traceparent", "--").split("-")[2] for headers in upstream.headers}
        assert not any("baggage" in headers for headers in upstream.headers)

        servers = {span.span_id: span for span in spans if span.kind == "server"}
        requests = [span for span in usage_spans if span.attributes["usage.kind"] == "request"]
        assert Counter(span.name for span in requests) == REQUESTS
        linked = [span for span in requests if span.links]
        assert {link.span_id for span in linked for link in span.links} == set(servers)
        for span in linked:
            assert [link.trace_id for link in span.links] == [span.trace_id]
            assert span.trace_id == servers[span.links[0].span_id].trace_id
        (unsampled,) = [span for span in requests if not span.links]
        assert unsampled.trace_id == TRACE_ID[::-1], "which the caller wanted untraced, and is metered all the same"
        assert len([span for span in usage_spans if span.attributes["usage.kind"] == "upstream"]) == UPSTREAM_CALLS
        assert {span.parent_span_id for span in usage_spans} <= {*usage_ids, None}

    @pytest.mark.parametrize("ratio", ["0.01", "0.0"])
    @pytest.mark.parametrize("native", [False, True], ids=["contrib", "native"])
    def test_usage_is_complete_whatever_they_sample(
        self, stub: AxiomStub, theirs: AxiomStub, upstream: Upstream, tmp_path: Path, ratio: str, native: bool
    ) -> None:
        sampler = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": ratio}
        environment = tracing(theirs, native=native, SHOP_UPSTREAM=upstream.url, **sampler) | towards(stub)
        with shop(tmp_path, **environment) as running:
            ask_everything(running)
            running.ask("GET", "/v1/items/3", {"traceparent": f"00-{TRACE_ID}-b7ad6b7169203331-01"})
            theirs.wait_for(2)
            running.stop()
        names = Counter(span.name for span in by_kind(stub, "request"))
        assert names == REQUESTS + Counter({"GET /v1/items/{n}": 1})
        assert len(by_kind(stub, "upstream")) == UPSTREAM_CALLS + 1
        traces = {span.trace_id for span in theirs.spans}
        assert TRACE_ID in traces, "what the caller samples, they sample"
        assert TRACE_ID[::-1] not in traces
        if ratio == "0.0":
            assert traces == {TRACE_ID}
        linked = {link.span_id for span in stub.spans for link in span.links}
        assert linked <= {span.span_id for span in theirs.spans}, "no link to a span that their backend never had"

    def test_usage_is_complete_where_their_sdk_is_disabled(
        self, stub: AxiomStub, theirs: AxiomStub, upstream: Upstream, tmp_path: Path
    ) -> None:
        environment = tracing(theirs, SHOP_UPSTREAM=upstream.url, OTEL_SDK_DISABLED="true") | towards(stub)
        with shop(tmp_path, **environment) as running:
            ask_everything(running)
            running.stop()
        assert_usage_is_complete(stub)
        assert theirs.requests == []
        of_their_own = [link for span in stub.spans for link in span.links if link.trace_id != TRACE_ID]
        assert not of_their_own, "no link to a span that there never was; the caller's own may be linked to"


class TestASinkThatIsDown:
    def test_requests_are_answered_and_the_end_says_what_was_not_delivered(self, tmp_path: Path) -> None:
        with AxiomStub(token=TOKEN) as sink:
            nowhere = towards(sink)
        with shop(tmp_path, **nowhere) as running:
            assert b'"detail":"Not Found"' in running.ask("GET", "/nowhere")
            asked = time.monotonic()
            logged = running.stop()
            took = time.monotonic() - asked
        assert (
            "usage: 1 spans produced = 0 accepted + 0 rejected + 0 dropped + 0 queued + 0 in flight + 1 spooled"
            in logged
        )
        assert "Traceback" not in logged
        assert took < 10  # a bound against a hang, far above the two seconds that it may take
