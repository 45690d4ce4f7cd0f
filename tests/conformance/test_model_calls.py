"""Model calls by real client libraries, seen by the instrumentations that their users switch on, become usage by the
bridge: each call once, with its tokens, for the customer of the request that it was begun in.
"""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest
from fastapi import BackgroundTasks, FastAPI, Request
from fastapi.responses import StreamingResponse
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import otel_usage as usage
from otel_usage.local.receiver import Receiver
from otel_usage.testing import AxiomStub, ReceivedSpan
from tests.conformance.model_clients import (
    GENAI_OPENAI,
    GOOGLE,
    KEY,
    LLMETRY_ANTHROPIC,
    LLMETRY_LANGCHAIN,
    SAID,
    WAYS,
    Call,
    anthropic_async,
    anthropic_client,
    anthropic_messages,
    ask,
    google_content,
    langchain_async,
    langchain_chat,
    openai_chat,
    openai_nowhere,
    openai_retried,
    seen_by,
)
from tests.conformance.providers import COMPLAINT, COMPLETION, PROMPT, Providers, providers
from tests.outside import facts, outside
from tests.servers import serve_asgi

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning:langchain_core", "ignore::DeprecationWarning:opentelemetry.instrumentation"
)

WHAT: Final = (
    "gen_ai.provider.name", "gen_ai.request.model", "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens",
    "gen_ai.request.max_tokens", "usage.reason",
)  # fmt: skip
STEP: Final = ("usage.llm.stage", "usage.llm.fallback_index")


@pytest.fixture(scope="module")
def served() -> Iterator[Providers]:
    with providers() as server:
        yield server


@pytest.fixture
def provider(usage_on: None) -> Iterator[TracerProvider]:
    """The application's own tracing, with the bridge on it."""
    own = TracerProvider()
    own.add_span_processor(usage.UsageBridgeProcessor())
    yield own
    own.shutdown()


def model_calls(stub: AxiomStub) -> list[ReceivedSpan]:
    """The model calls of a test, by their start. All is delivered, and nothing of ours has failed."""
    assert usage.flush(5.0).complete
    assert usage.health().internal_errors == {}
    found = [span for span in stub.unique_spans if span.attributes["usage.kind"] == "llm"]
    return sorted(found, key=lambda span: span.start_time)


def the_model_call(stub: AxiomStub) -> ReceivedSpan:
    (found,) = model_calls(stub)
    return found


EACH_WAY: Final = [
    pytest.param(way, seen, id=f"{name} by {' and '.join(seen) or 'itself'}")
    for name, way in WAYS.items()
    for seen in way.instrumentations
]


@pytest.mark.parametrize(("way", "seen"), EACH_WAY)
def test_each_call_is_recorded_once_with_its_tokens(
    provider: TracerProvider, stub: AxiomStub, served: Providers, way: Any, seen: tuple[str, ...]
) -> None:
    spans = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    with seen_by(seen, provider), usage.usage_span("report.render") as work:
        usage.identify(customer_id="acme", tier=2, auth_kind="jwt")
        ask(way.call, served.url, "big-model", provider)
    span = the_model_call(stub)
    limit = span.attributes.get("gen_ai.request.max_tokens")
    assert facts(span, *WHAT) == (way.provider, "big-model", *way.tokens, limit, "ok")
    assert limit == way.limit
    assert facts(span, "usage.customer.id", "usage.tier") == ("acme", 2)
    assert span.parent_span_id == format(work.get_span_context().span_id, "016x")
    times = [(own.start_time, own.end_time) for own in spans.get_finished_spans()]
    assert (span.start_time, span.end_time) in times, "they are those of the application's own span"
    assert span.status_code == "unset"


FAILURES: Final = [
    (anthropic_messages, (LLMETRY_ANTHROPIC,)), (anthropic_messages, ()), (anthropic_async, (LLMETRY_ANTHROPIC,)),
    (google_content, (GOOGLE,)), (langchain_chat, (LLMETRY_LANGCHAIN,)), (langchain_async, (LLMETRY_LANGCHAIN,)),
    (openai_chat, (GENAI_OPENAI,)), (langchain_chat, (LLMETRY_LANGCHAIN, GENAI_OPENAI)),
]  # fmt: skip


@pytest.mark.parametrize(("status", "reason"), [(401, "auth_401"), (429, "rate_limit_429"), (500, "server_error")])
@pytest.mark.parametrize(
    ("call", "seen"), FAILURES, ids=[f"{call.__name__} by {' and '.join(seen) or 'itself'}" for call, seen in FAILURES]
)
def test_a_failed_call_says_why_and_is_never_ok(
    provider: TracerProvider,
    stub: AxiomStub,
    served: Providers,
    call: Call,
    seen: tuple[str, ...],
    status: int,
    reason: str,
) -> None:
    with seen_by(seen, provider), pytest.raises(Exception, match=rf"{status}|{COMPLAINT}"):
        ask(call, served.url, f"big-model-{status}", provider)
    span = the_model_call(stub)
    tokens = facts(span, "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens")
    assert (facts(span, "usage.reason"), span.status_code, tokens) == ((reason,), "error", (None, None))


def test_a_provider_that_is_not_there_is_a_server_error(provider: TracerProvider, stub: AxiomStub) -> None:
    with seen_by((GENAI_OPENAI,), provider), pytest.raises(Exception, match="Connection error"):
        openai_nowhere("", "big-model", provider)
    assert facts(the_model_call(stub), "usage.reason") == ("server_error",)


def test_attempts_of_the_library_itself_are_upstream_calls_beneath_one_model_call(
    provider: TracerProvider, stub: AxiomStub, served: Providers
) -> None:
    with seen_by((GENAI_OPENAI,), provider), usage.usage_span("job"), pytest.raises(Exception, match=COMPLAINT):
        openai_retried(served.url, "big-model-500", provider)
    assert facts(the_model_call(stub), "usage.reason") == ("server_error",)
    attempts = [span for span in stub.unique_spans if span.attributes["usage.kind"] == "upstream"]
    assert [span.attributes["http.response.status_code"] for span in attempts] == [500, 500]


def test_stage_and_place_in_a_chain_of_fallbacks_are_said_around_the_calls(
    provider: TracerProvider, stub: AxiomStub, served: Providers
) -> None:
    def brief() -> int:
        for index, model in enumerate(("big-model-429", "big-model-500", "small-model")):
            with usage.model_call(fallback_index=index):
                try:
                    anthropic_messages(served.url, model, provider)
                except Exception:
                    continue
                return index
        raise AssertionError

    with usage.usage_span("job"):
        with usage.model_call(stage="brief"):
            assert brief() == 2
        with usage.model_call(stage="check"):
            usage.record_llm("own", "tiny", fallback_index=7)
        anthropic_messages(served.url, "small-model", provider)
    assert [facts(span, "gen_ai.request.model", *STEP, "usage.reason") for span in model_calls(stub)] == [
        ("big-model-429", "brief", 0, "rate_limit_429"),
        ("big-model-500", "brief", 1, "server_error"),
        ("small-model", "brief", 2, "ok"),
        ("tiny", "check", 7, "ok"),
        ("small-model", None, None, "ok"),
    ]


# -- whose it is -------------------------------------------------------------------------------------------------------


def identified(request: Request) -> None:
    usage.identify(customer_id=request.headers["x-customer"], tier=1, auth_kind="jwt")


def adviser(call: Callable[[], object], stream: Callable[[], Iterator[str]] | None = None) -> FastAPI:
    """A service that asks a model: at once, after its response, in a thread, and while it streams."""
    app = FastAPI()

    @app.get("/now")
    def now(request: Request) -> None:
        identified(request)
        call()

    @app.get("/later")
    def later(request: Request, tasks: BackgroundTasks) -> None:
        identified(request)
        tasks.add_task(call)

    @app.get("/thread")
    def thread(request: Request) -> None:
        identified(request)
        worker = threading.Thread(target=call)
        worker.start()
        worker.join(20)

    @app.get("/stream")
    def streamed(request: Request) -> StreamingResponse:
        identified(request)
        assert stream is not None
        return StreamingResponse(stream())

    return app


@pytest.mark.parametrize("seen", [(LLMETRY_ANTHROPIC,), ()], ids=["OpenLLMetry", "itself"])
def test_requests_at_the_same_time_pay_for_their_own_calls(
    provider: TracerProvider, stub: AxiomStub, served: Providers, seen: tuple[str, ...]
) -> None:
    customers = [f"customer-{n}" for n in range(4)]
    served.meeting = threading.Barrier(len(customers))
    try:
        with (
            seen_by(seen, provider),
            serve_asgi(adviser(lambda: anthropic_messages(served.url, "big-model", provider))) as url,
        ):
            callers = [
                threading.Thread(target=outside, args=(url, "/now"), kwargs={"x-customer": customer})
                for customer in customers
            ]
            for caller in callers:
                caller.start()
            for caller in callers:
                caller.join(30)
    finally:
        served.meeting = None
    found = model_calls(stub)
    assert sorted(span.attributes["usage.customer.id"] for span in found) == customers
    assert {facts(span, *WHAT[2:4], "usage.route") for span in found} == {(11, 4, "/now")}
    requests = {span.trace_id: span for span in stub.unique_spans if span.kind == "server"}
    for span in found:
        assert requests[span.trace_id].attributes["usage.customer.id"] == span.attributes["usage.customer.id"]
        assert requests[span.trace_id].span_id == span.parent_span_id


@pytest.mark.parametrize("path", ["/later", "/thread", "/stream"])
def test_work_that_a_request_starts_is_its_customers(
    provider: TracerProvider, stub: AxiomStub, served: Providers, path: str
) -> None:
    def stream() -> Iterator[str]:
        with (
            anthropic_client(served.url, provider) as client,
            client.messages.stream(model="big-model", max_tokens=64, messages=SAID) as answer,
        ):
            yield from answer.text_stream

    def call() -> None:
        anthropic_messages(served.url, "big-model", provider)

    with seen_by((LLMETRY_ANTHROPIC,), provider), serve_asgi(adviser(call, stream)) as url:
        (answer,) = outside(url, path, **{"x-customer": "acme"})
        assert path != "/stream" or answer.text == COMPLETION
    assert facts(the_model_call(stub), "usage.customer.id", *WHAT[2:4], "usage.route") == ("acme", 11, 4, path)


def test_a_call_outside_of_any_request_is_nobodys_and_in_its_own_trace(
    provider: TracerProvider, stub: AxiomStub, served: Providers
) -> None:
    spans = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    anthropic_messages(served.url, "big-model", provider)
    span = the_model_call(stub)
    assert (span.parent_span_id, span.attributes.get("usage.customer.id")) == (None, None)
    (own,) = spans.get_finished_spans()
    assert span.trace_id == format(own.context.trace_id, "032x")


# -- what never leaves -------------------------------------------------------------------------------------------------


@pytest.fixture
def arrived(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Every body that the sink got, decompressed."""
    bodies: list[bytes] = []
    handle = Receiver.handle

    def keep(self: Receiver, request: Any) -> Any:
        bodies.append(gzip.decompress(request.body))
        return handle(self, request)

    monkeypatch.setattr(Receiver, "handle", keep)
    return bodies


def test_prompts_and_completions_never_leave(
    provider: TracerProvider,
    stub: AxiomStub,
    served: Providers,
    arrived: list[bytes],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Also where the instrumentations are told to capture them, and put them on their spans."""
    monkeypatch.setenv("TRACELOOP_TRACE_CONTENT", "true")
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "span_only")
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", "gen_ai_latest_experimental")
    spans = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    with seen_by((LLMETRY_ANTHROPIC, LLMETRY_LANGCHAIN, GOOGLE), provider):
        for call in (anthropic_messages, langchain_chat, langchain_async, google_content):
            ask(call, served.url, "big-model", provider)
            with pytest.raises(Exception, match=rf"429|{COMPLAINT}"):
                ask(call, served.url, "big-model-429", provider)
    own = [span.to_json() for span in spans.get_finished_spans()]
    secrets = (PROMPT, COMPLETION, COMPLAINT)
    assert all(any(secret in span for span in own) for secret in secrets), "they are on the application's own spans"
    assert len(model_calls(stub)) == 8
    sent = b"".join(arrived) + caplog.text.encode() + str(usage.health()).encode()
    assert b"big-model" in sent
    assert not [secret for secret in (*secrets, KEY) if secret.encode() in sent]
