"""The bridge on an application's own tracing: what it takes of spans, what it keeps of them, and what it never does."""

from __future__ import annotations

import gc
import os
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import Span, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, DEFAULT_ON
from opentelemetry.trace import SpanKind, Tracer

import otel_usage as usage
from otel_usage.processors import open_spans
from otel_usage.processors.bridge import OPEN
from otel_usage.testing import AxiomStub, ReceivedSpan
from tests.outside import facts

CALL: Final = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-5"}
TOKENS: Final = {"gen_ai.usage.input_tokens": 812, "gen_ai.usage.output_tokens": 90}


@pytest.fixture(autouse=True)
def none_open() -> Iterator[None]:
    """Whatever a test begins and drops is forgotten with it."""
    gc.collect()
    assert len(OPEN) == 0
    yield
    gc.collect()
    assert len(OPEN) == 0


def bridged(**settings: Any) -> TracerProvider:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(usage.UsageBridgeProcessor(**settings))
    return provider


@pytest.fixture
def tracer() -> Tracer:
    return bridged().get_tracer("shop.models")


def call(tracer: Tracer, **more: Any) -> None:
    tracer.start_span("chat", kind=SpanKind.CLIENT, attributes={**CALL, **TOKENS, **more}).end()


def recorded(stub: AxiomStub) -> list[ReceivedSpan]:
    assert usage.flush(5.0).complete
    assert usage.health().internal_errors == {}
    return [span for span in stub.unique_spans if span.attributes["usage.kind"] in ("llm", "upstream")]


def models(stub: AxiomStub) -> list[Any]:
    return [span.attributes.get("gen_ai.request.model") for span in recorded(stub)]


@pytest.mark.parametrize("operation", ["execute_tool", "invoke_agent", "create_agent", "invoke_workflow", "retrieval"])
def test_work_around_model_calls_is_none(usage_on: None, stub: AxiomStub, tracer: Tracer, operation: str) -> None:
    around = {**CALL, **TOKENS, "gen_ai.operation.name": operation}
    with tracer.start_as_current_span(operation, attributes=around):
        call(tracer)
    assert [facts(span, *TOKENS) for span in recorded(stub)] == [(812, 90)]


@pytest.mark.parametrize("operation", ["chat", "completion", "text_completion", "generate_content", "embeddings", None])
def test_each_kind_of_model_call_is_one(usage_on: None, stub: AxiomStub, tracer: Tracer, operation: str | None) -> None:
    said = {key: value for key, value in CALL.items() if key != "gen_ai.operation.name"}
    with tracer.start_as_current_span("x", kind=SpanKind.CLIENT, attributes=said) as span:
        if operation is not None:
            span.set_attribute("gen_ai.operation.name", operation)
    assert models(stub) == ["gpt-5"]


def test_former_names_are_understood(usage_on: None, stub: AxiomStub, tracer: Tracer) -> None:
    former = {
        "gen_ai.system": "openai", "gen_ai.response.model": "gpt-5-2026", "gen_ai.usage.prompt_tokens": 5,
        "gen_ai.usage.completion_tokens": 6,
    }  # fmt: skip
    tracer.start_span("chat", kind=SpanKind.CLIENT, attributes=former).end()
    (span,) = recorded(stub)
    assert facts(span, *CALL, *TOKENS) == (None, "openai", "gpt-5-2026", 5, 6)


def test_a_call_within_another_span_of_itself_counts_once(usage_on: None, stub: AxiomStub, tracer: Tracer) -> None:
    """Also where other work is between them, and where the inner one ends last, as a stream does."""
    with (
        tracer.start_as_current_span("chain", kind=SpanKind.CLIENT, attributes={**CALL, **TOKENS}),
        tracer.start_as_current_span("a step of it"),
    ):
        call(tracer, **{"gen_ai.request.model": "first"})
        stream = tracer.start_span("chat", kind=SpanKind.CLIENT, attributes=CALL)
    stream.set_attributes({**TOKENS, "gen_ai.request.model": "second"})
    stream.end()
    assert models(stub) == ["first", "second"]


@pytest.mark.parametrize("operation", ["execute_tool", "invoke_agent"])
def test_what_a_tool_of_a_call_asks_another_model_is_another_call(
    usage_on: None, stub: AxiomStub, tracer: Tracer, operation: str
) -> None:
    """As where google-genai calls the functions of its tools by itself, within one span."""
    with (
        tracer.start_as_current_span("generate_content", kind=SpanKind.CLIENT, attributes={**CALL, **TOKENS}),
        tracer.start_as_current_span(operation, attributes={"gen_ai.operation.name": operation}),
    ):
        call(tracer, **{"gen_ai.request.model": "the tool's"})
    assert models(stub) == ["the tool's", "gpt-5"]


def test_calls_beside_each_other_are_two(usage_on: None, stub: AxiomStub, tracer: Tracer) -> None:
    first = tracer.start_span("chat", kind=SpanKind.CLIENT, attributes=CALL)
    call(tracer)
    first.end()
    assert models(stub) == ["gpt-5", "gpt-5"]


def test_spans_that_stand_apart_pair_with_one_each(usage_on: None, stub: AxiomStub) -> None:
    """OpenLLMetry's are no parents: as many of them are left out as there are others beneath them, and no more."""
    provider = bridged()
    apart = provider.get_tracer("opentelemetry.instrumentation.langchain")
    beneath = provider.get_tracer("opentelemetry.instrumentation.genai.openai")
    outer = [apart.start_span("chat", kind=SpanKind.CLIENT) for _ in range(3)]
    for span in outer:
        span.set_attributes({**CALL, "gen_ai.provider.name": "outer"})
    for _ in range(2):
        beneath.start_span("chat", kind=SpanKind.CLIENT, attributes={**CALL, "gen_ai.provider.name": "inner"}).end()
    beneath.start_span("chat", kind=SpanKind.CLIENT, attributes={**CALL, "gen_ai.request.model": "another"}).end()
    for span in outer:
        span.end()
    assert sorted(facts(span, "gen_ai.provider.name", "gen_ai.request.model") for span in recorded(stub)) == [
        ("inner", "gpt-5"), ("inner", "gpt-5"), ("openai", "another"), ("outer", "gpt-5"),
    ]  # fmt: skip


def test_a_call_is_not_held_up_by_thousands_that_never_end(
    usage_on: None, stub: AxiomStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    model_of = open_spans.model_of
    monkeypatch.setattr(open_spans, "model_of", lambda said: asked.append(said) or model_of(said))
    provider = bridged()
    apart = provider.get_tracer("opentelemetry.instrumentation.langchain")
    given_up = [apart.start_span("chat", kind=SpanKind.CLIENT, attributes=CALL) for _ in range(3 * open_spans.NEAREST)]
    beneath = provider.get_tracer("opentelemetry.instrumentation.genai.openai")
    asked.clear()
    for _ in range(4):
        call(beneath, **{"gen_ai.request.model": "another"})
    assert len(asked) <= open_spans.NEAREST + 4  # and not each of them for each call
    assert models(stub) == ["another"] * 4
    del given_up


def test_several_bridges_record_a_span_once(usage_on: None, stub: AxiomStub) -> None:
    first, second = bridged(), bridged()
    first.add_span_processor(usage.UsageBridgeProcessor(scopes=["shop"]))
    first.add_span_processor(usage.UsageBridgeProcessor(gen_ai=False, scopes=["shop"]))
    for provider in (first, second):
        call(provider.get_tracer("shop.models"))
    database = {"db.system.name": "sqlite", "db.operation.name": "SELECT"}
    first.get_tracer("shop.db").start_span("x", kind=SpanKind.CLIENT, attributes=database).end()
    assert models(stub) == ["gpt-5", "gpt-5", None]


def test_model_calls_can_be_left_out(usage_on: None, stub: AxiomStub) -> None:
    call(bridged(gen_ai=False, scopes=["shop"]).get_tracer("shop"))
    assert recorded(stub) == []


def test_the_customer_is_the_one_of_where_the_span_began(usage_on: None, stub: AxiomStub, tracer: Tracer) -> None:
    begun: list[trace.Span] = []
    with usage.usage_span("job"):
        usage.identify(customer_id="acme", auth_kind="jwt")
        begun.append(tracer.start_span("chat", kind=SpanKind.CLIENT, attributes=CALL))
    with usage.usage_span("job"):
        usage.identify(customer_id="contoso", auth_kind="jwt")
        begun.pop().end()
    assert [span.attributes["usage.customer.id"] for span in recorded(stub)] == ["acme"]


@pytest.mark.parametrize("kind", ["llm", "upstream"])
def test_outside_of_any_request_it_is_a_root_in_the_trace_of_its_span(
    usage_on: None, stub: AxiomStub, kind: str
) -> None:
    tracer = bridged(scopes=["shop"]).get_tracer("shop")
    said = CALL if kind == "llm" else {"db.system.name": "sqlite"}
    with tracer.start_as_current_span("call", kind=SpanKind.CLIENT, attributes=said) as span:
        pass
    (found,) = recorded(stub)
    assert (found.attributes["usage.kind"], found.parent_span_id) == (kind, None)
    assert found.trace_id == format(span.get_span_context().trace_id, "032x")


def test_a_call_before_the_customer_is_known_waits_for_it(usage_on: None, stub: AxiomStub, tracer: Tracer) -> None:
    with usage.usage_span("job"):
        call(tracer)
        usage.identify(customer_id="acme", auth_kind="jwt")
    assert [span.attributes["usage.customer.id"] for span in recorded(stub)] == ["acme"]


def test_a_span_that_is_sampled_out_is_not_seen(usage_on: None, stub: AxiomStub) -> None:
    provider = TracerProvider(ALWAYS_OFF, shutdown_on_exit=False)
    provider.add_span_processor(usage.UsageBridgeProcessor())
    call(provider.get_tracer("shop"))
    assert recorded(stub) == []


def test_while_usage_is_off_nothing_is_kept(tracer: Tracer) -> None:
    span = tracer.start_span("chat", attributes=CALL)
    assert len(OPEN) == 0
    span.end()
    assert usage.health().internal_errors == {}


def test_a_span_begun_before_usage_was_on_is_none(
    switch_on: Callable[..., None], stub: AxiomStub, tracer: Tracer
) -> None:
    span = tracer.start_span("chat", kind=SpanKind.CLIENT, attributes=CALL)
    switch_on()
    span.end()
    assert recorded(stub) == []


def test_spans_that_are_given_up_are_forgotten(usage_on: None, stub: AxiomStub, tracer: Tracer) -> None:
    for _ in range(10):
        tracer.start_span("chat", kind=SpanKind.CLIENT, attributes=CALL)
    gc.collect()
    assert len(OPEN) == 0
    assert recorded(stub) == []


def test_of_too_many_open_spans_the_oldest_goes_and_is_counted(
    usage_on: None, stub: AxiomStub, tracer: Tracer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_spans, "OPEN_LIMIT", 3)
    said = [{**CALL, "gen_ai.request.model": f"m{n}"} for n in range(5)]
    spans = [tracer.start_span("chat", kind=SpanKind.CLIENT, attributes=each) for each in said]
    assert len(OPEN) == 3
    for span in spans:
        span.end()
    assert models(stub) == ["m2", "m3", "m4"]
    assert usage.health().attributes_dropped["span:too_many_open"] == 2


HOSTILE: Final[list[dict[str, Any]]] = [
    {"gen_ai.operation.name": ("chat",)},
    {"gen_ai.request.model": 7, "gen_ai.provider.name": 1.5},
    {"gen_ai.usage.input_tokens": "many", "gen_ai.usage.output_tokens": True},
    {"gen_ai.usage.input_tokens": -(1 << 80), "gen_ai.request.max_tokens": 2.5},
    {"error.type": ("x", "y"), "http.response.status_code": "no"},
    {"error.type": "a sentence that tells a secret: hunter2", "http.response.status_code": 99999},
]


@pytest.mark.parametrize("attributes", HOSTILE)
def test_attributes_of_any_kind_raise_nothing(
    usage_on: None, stub: AxiomStub, tracer: Tracer, attributes: dict[str, Any]
) -> None:
    call(tracer, **attributes)
    for span in recorded(stub):
        assert "hunter2" not in str(span)
        assert "error.type" not in attributes or span.attributes["usage.reason"] != "ok"


def test_our_own_failure_is_not_the_applications(
    usage_on: None, tracer: Tracer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(open_spans, "current", broken)
    call(tracer)
    monkeypatch.undo()
    monkeypatch.setattr("otel_usage.processors.bridge.reason_of_call", broken)
    call(tracer)
    assert set(usage.health().internal_errors) == {
        "processors.bridge.UsageBridgeProcessor.on_start", "processors.bridge.UsageBridgeProcessor.on_end",
    }  # fmt: skip


def test_threads_that_begin_and_drop_spans_disturb_none(usage_on: None, stub: AxiomStub, tracer: Tracer) -> None:
    def work() -> None:
        for n in range(200):
            span = tracer.start_span("chat", kind=SpanKind.CLIENT, attributes=CALL)
            if n % 4 == 0:
                span.end()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(recorded(stub)) == 8 * 50


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_forked_child_goes_on_with_its_own(usage_on: None, stub: AxiomStub, tracer: Tracer) -> None:
    with usage.usage_span("job"):
        usage.identify(customer_id="acme", auth_kind="jwt")
        span = tracer.start_span("chat", kind=SpanKind.CLIENT, attributes=CALL)
        child = os.fork()
        if child == 0:
            span.end()
            call(tracer, **{"gen_ai.request.model": "child's"})
            os._exit(0 if usage.flush(5.0).complete else 1)
        assert os.waitpid(child, 0)[1] == 0
        call(tracer, **{"gen_ai.request.model": "parent's"})
        span.end()
    found = sorted(
        (span.attributes["gen_ai.request.model"], span.attributes["usage.customer.id"]) for span in recorded(stub)
    )
    assert found == [("child's", "acme"), ("gpt-5", "acme"), ("gpt-5", "acme"), ("parent's", "acme")]


class Keeper(TracerProvider):
    """An SDK's provider that can be looked into."""

    @property
    def processors(self) -> list[str]:
        return [type(each).__name__ for each in self._active_span_processor._span_processors]


@pytest.fixture
def global_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has set the process's provider, nor will have."""
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER_SET_ONCE", type(trace._TRACER_PROVIDER_SET_ONCE)())


@pytest.mark.parametrize("first", ["provider", "usage"])
def test_the_setting_puts_a_bridge_on_the_process_s_provider_once(
    switch_on: Callable[..., None], stub: AxiomStub, global_provider: None, first: str
) -> None:
    provider = Keeper(shutdown_on_exit=False)
    if first == "provider":
        trace.set_tracer_provider(provider)
    switch_on(bridge=frozenset({"gen_ai"}))
    if first == "usage":
        trace.set_tracer_provider(provider)
    assert provider.processors == ["ConfiguredBridge"]
    call(trace.get_tracer("shop"))
    assert models(stub) == ["gpt-5"]
    usage.uninstrument()

    switch_on()
    call(trace.get_tracer("shop"))
    assert models(stub) == ["gpt-5"], "nothing is chosen any more"
    usage.uninstrument()

    switch_on(bridge=frozenset({"shop.db"}))
    assert provider.processors == ["ConfiguredBridge"]
    call(trace.get_tracer("shop"))
    with trace.get_tracer("shop.db").start_as_current_span("SELECT", kind=SpanKind.CLIENT):
        pass
    assert [span.attributes["usage.kind"] for span in recorded(stub)] == ["llm", "upstream"]


def test_without_the_setting_no_provider_is_touched(switch_on: Callable[..., None], global_provider: None) -> None:
    provider = Keeper(shutdown_on_exit=False)
    trace.set_tracer_provider(provider)
    switch_on()
    assert provider.processors == []


def test_a_provider_without_processors_is_left_alone(switch_on: Callable[..., None], global_provider: None) -> None:
    switch_on(bridge=frozenset({"gen_ai"}))
    trace.set_tracer_provider(trace.NoOpTracerProvider())
    assert usage.health().internal_errors == {}


def test_no_span_is_held_on_to(usage_on: None, stub: AxiomStub, tracer: Tracer) -> None:
    span = tracer.start_span("chat", kind=SpanKind.CLIENT, attributes=CALL)
    assert isinstance(span, Span)
    span.end()
    assert [type(each) for each in gc.get_referrers(span) if isinstance(each, dict | list | open_spans.OpenSpan)] == []


PAGE: Final = (Path(__file__).parents[2] / "docs" / "model-calls.md").read_text()


def test_the_page_s_examples_do_what_it_says(usage_on: None, stub: AxiomStub) -> None:
    example: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(compile(block, "model-calls.md", "exec"), example)

    def ask(model: str) -> str:
        call(example["provider"].get_tracer("shop"), **{"gen_ai.request.model": model})
        if model == "first":
            raise TimeoutError
        return model

    assert example["brief"](ask, ["first", "second"]) == "second"
    said = ("gen_ai.request.model", "usage.llm.stage", "usage.llm.fallback_index")
    assert [facts(span, *said) for span in recorded(stub)] == [("first", "brief", 0), ("second", "brief", 1)]

    exported = InMemorySpanExporter()
    provider = TracerProvider(example["Recorded"](ALWAYS_OFF), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exported))
    provider.add_span_processor(usage.UsageBridgeProcessor())
    call(provider.get_tracer("shop"), **{"gen_ai.request.model": "unsampled"})
    assert models(stub) == ["first", "second", "unsampled"]
    assert exported.get_finished_spans() == ()


def test_a_caller_who_wants_no_trace_is_not_seen_by_default_and_is_by_one_who_always_samples(
    usage_on: None, stub: AxiomStub
) -> None:
    no_trace = trace.set_span_in_context(trace.NonRecordingSpan(trace.SpanContext(1 << 100, 1, is_remote=True)))
    for name, sampler in (("by default", DEFAULT_ON), ("always", ALWAYS_ON)):
        provider = TracerProvider(sampler, shutdown_on_exit=False)
        provider.add_span_processor(usage.UsageBridgeProcessor())
        said = {**CALL, "gen_ai.request.model": name}
        provider.get_tracer("shop").start_span("chat", no_trace, SpanKind.CLIENT, said).end()
    assert models(stub) == ["always"]
