"""What an application records itself: with and without a request around it, in every kind of code."""

from __future__ import annotations

import asyncio
import inspect
import math
import multiprocessing
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.concurrency import run_in_threadpool
from opentelemetry.trace import Span, Status, StatusCode

import otel_usage as usage
from otel_usage.guard import internal_errors
from otel_usage.recorder import Recorder
from otel_usage.request import UsageRequest
from otel_usage.runtime import active
from otel_usage.schema import CACHE_ANSWERS, CACHE_STATUSES, LIMIT_DECISIONS, REASONS
from otel_usage.scope import EVENT_LIMIT, enter, leave
from otel_usage.testing import AxiomStub, ReceivedSpan
from tests.servers import serve_asgi

SECRET = "the customer's own words"


class Service:
    """A server of one route, and what it does for the test that runs."""

    url = ""
    handler: Callable[[], Any]


@pytest.fixture(scope="module", autouse=True)
def service() -> Iterator[None]:
    app = FastAPI()

    @app.get("/v1/reports/{name}")
    async def report(name: str) -> Any:
        handler = Service.handler
        return await handler() if inspect.iscoroutinefunction(handler) else await run_in_threadpool(handler)

    with serve_asgi(app) as Service.url:
        yield


@contextmanager
def a_request(handler: Callable[[], Any]) -> Iterator[None]:
    """One GET request, answered by ``handler``, has been served within the block."""
    Service.handler = staticmethod(handler)
    hooked = httpx.HTTPTransport.__dict__["handle_request"]
    send = getattr(hooked, "__wrapped__", hooked)  # without the hooks: the client plays somebody else
    with httpx.HTTPTransport() as outside:
        response = send(outside, httpx.Request("GET", f"{Service.url}/v1/reports/monthly"))
        assert response.status_code == 200
        response.read()
        response.close()
    yield


def delivered(stub: AxiomStub, count: int) -> list[ReceivedSpan]:
    """All spans of a test, of which there must be ``count``, in the order of their ends."""
    stub.wait_for(count)
    usage.uninstrument()
    assert len(stub.unique_spans) == len(stub.spans) == count
    return sorted(stub.unique_spans, key=lambda span: span.end_time)


def only(spans: list[ReceivedSpan], **wanted: Any) -> ReceivedSpan:
    (found,) = [span for span in spans if all(getattr(span, key) == value for key, value in wanted.items())]
    return found


def request_of(spans: list[ReceivedSpan]) -> ReceivedSpan:
    return only(spans, kind="server")


# -- usage_span --------------------------------------------------------------------------------------------------------


def test_a_span_outside_of_any_request_is_a_root_of_its_own(usage_on: None, stub: AxiomStub) -> None:
    with usage.usage_span("report.render", quantity=3, unit="page") as span:
        usage.identify(customer_id="acme", tier=2)
        assert isinstance(span, Span)
    (found,) = delivered(stub, 1)
    assert (found.name, found.kind, found.parent_span_id, found.status_code) == (
        "report.render", "internal", None, "unset",
    )  # fmt: skip
    assert found.attributes == {
        "usage.kind": "custom",
        "usage.quantity": 3.0,
        "usage.unit": "page",
        "usage.customer.id": "acme",
        "usage.tier": 2,
        "usage.identity.provenance": "verified",
    }


def test_two_spans_outside_of_any_request_share_nothing(usage_on: None, stub: AxiomStub) -> None:
    with usage.usage_span("one"):
        usage.identify(customer_id="acme")
    with usage.usage_span("other"):
        pass
    one, other = delivered(stub, 2)
    assert one.trace_id != other.trace_id
    assert "usage.customer.id" not in other.attributes


@pytest.mark.parametrize("sync", [True, False])
def test_a_span_within_a_request_is_its_child_and_of_its_customer(usage_on: None, stub: AxiomStub, sync: bool) -> None:
    def work() -> Any:
        with usage.usage_span("outer") as span:
            span.set_attribute("usage.unit", "page")
            with usage.usage_span("inner"):
                usage.meter("rows", 7)
            span.set_attributes({"usage.quantity": 2.5})
        usage.identify(customer_id="acme")
        return {}

    async def awork() -> Any:
        with usage.usage_span("outer") as span:
            span.set_attribute("usage.unit", "page")
            await asyncio.sleep(0)
            with usage.usage_span("inner"):
                await asyncio.sleep(0)
                usage.meter("rows", 7)
            span.set_attributes({"usage.quantity": 2.5})
        usage.identify(customer_id="acme")
        return {}

    with a_request(work if sync else awork):
        spans = delivered(stub, 3)
    request, outer, inner = request_of(spans), only(spans, name="outer"), only(spans, name="inner")
    assert (outer.parent_span_id, inner.parent_span_id) == (request.span_id, outer.span_id)
    assert {span.trace_id for span in spans} == {request.trace_id}
    for span in (outer, inner):
        assert span.attributes["usage.customer.id"] == "acme"
        assert span.attributes["usage.route"] == "/v1/reports/{name}"
        assert span.attributes["usage.request.id"] == request.attributes["usage.request.id"]
    assert (outer.attributes["usage.unit"], outer.attributes["usage.quantity"]) == ("page", 2.5)
    assert [event.name for event in inner.events] == ["usage.meter"]
    assert request.events == outer.events == ()


def test_spans_of_tasks_that_run_at_once_do_not_mix(usage_on: None, stub: AxiomStub) -> None:
    async def one(number: int) -> None:
        with usage.usage_span(f"outer-{number}"):
            usage.identify(customer_id=f"c{number}")
            await asyncio.sleep(0.001 * (number % 3))
            with usage.usage_span(f"inner-{number}"):
                await asyncio.sleep(0)

    async def all_of_them() -> None:
        await asyncio.gather(*map(one, range(20)))

    asyncio.run(all_of_them())
    spans = delivered(stub, 40)
    for number in range(20):
        outer, inner = only(spans, name=f"outer-{number}"), only(spans, name=f"inner-{number}")
        assert inner.parent_span_id == outer.span_id
        assert inner.attributes["usage.customer.id"] == outer.attributes["usage.customer.id"] == f"c{number}"


def test_a_span_in_a_thread_of_a_request_is_its_child(usage_on: None, stub: AxiomStub) -> None:
    def work() -> None:
        with usage.usage_span("in-thread"):
            pass

    def handler() -> Any:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        return {}

    with a_request(handler):
        spans = delivered(stub, 2)
    assert only(spans, name="in-thread").parent_span_id == request_of(spans).span_id


def test_a_failing_span_tells_its_class_and_lets_the_exception_through(usage_on: None, stub: AxiomStub) -> None:
    with pytest.raises(ValueError, match=SECRET), usage.usage_span("fails"):
        raise ValueError(SECRET)
    (span,) = delivered(stub, 1)
    assert span.status_code == "error"
    assert (span.status_message, span.events) == ("", ())
    assert SECRET not in repr(span)


def test_a_span_is_opentelemetrys_own_and_lets_out_only_the_schema(usage_on: None, stub: AxiomStub) -> None:
    with usage.usage_span("work") as span:
        assert span.is_recording()
        span.set_attribute("app.secret", SECRET)
        span.set_attribute("usage.quantity", "many")
        span.add_event("app.event", {"note": SECRET})
        span.add_event("usage.meter", {"usage.meter.name": "pages", "usage.quantity": 1, "note": SECRET})
        span.add_link(span.get_span_context(), {"note": SECRET})
        span.set_status(Status(StatusCode.ERROR, SECRET))
        span.update_name("renamed")
    assert not span.is_recording()
    span.end()
    stub.wait_for(1)
    dropped = usage.health().attributes_dropped
    (found,) = delivered(stub, 1)
    assert (found.name, found.status_code, found.status_message, found.links) == ("renamed", "error", "", ())
    assert f"{found.trace_id}{found.span_id}" == (
        f"{span.get_span_context().trace_id:032x}{span.get_span_context().span_id:016x}"
    )
    assert SECRET not in repr(found)
    assert {"app.secret", "usage.quantity", "note"} <= dropped.keys()
    assert "usage.quantity" not in found.attributes


# -- metered -----------------------------------------------------------------------------------------------------------


@usage.metered("export.csv", quantity=1, unit="file")
def export(rows: int, *, fail: bool = False) -> int:
    """Exports rows."""
    if fail:
        raise ValueError(SECRET)
    return rows * 2


@usage.metered("export.csv", quantity=1, unit="file")
async def aexport(rows: int, *, fail: bool = False) -> int:
    """Exports rows."""
    await asyncio.sleep(0)
    return export.__wrapped__(rows, fail=fail)  # type: ignore[attr-defined,no-any-return]  # functools.wraps


def test_a_metered_function_is_one_span_a_call_and_otherwise_itself(usage_on: None, stub: AxiomStub) -> None:
    assert (export.__name__, export.__doc__) == ("export", "Exports rows.")
    assert export(2) == 4
    assert asyncio.run(aexport(rows=3)) == 6
    with pytest.raises(ValueError, match=SECRET):
        export(1, fail=True)
    with pytest.raises(ValueError, match=SECRET):
        asyncio.run(aexport(1, fail=True))
    spans = delivered(stub, 4)
    assert {span.name for span in spans} == {"export.csv"}
    assert [span.status_code for span in spans] == ["unset", "unset", "error", "error"]
    assert {(span.attributes["usage.quantity"], span.attributes["usage.unit"]) for span in spans} == {(1.0, "file")}


# -- events ------------------------------------------------------------------------------------------------------------


def record_one_of_each() -> None:
    usage.record_cache("yahoo-finance", "quote", status="fresh")
    usage.record_limit("per_minute", "shadow")
    usage.meter("pages", 3, unit="page")


EACH = [
    ("usage.cache", {"usage.provider": "yahoo-finance", "usage.operation": "quote", "usage.cache.status": "fresh"}),
    ("usage.limit", {"usage.limit.name": "per_minute", "usage.limit.decision": "shadow"}),
    ("usage.meter", {"usage.meter.name": "pages", "usage.quantity": 3.0, "usage.unit": "page"}),
]


def events_of(span: ReceivedSpan) -> list[tuple[str, dict[str, Any]]]:
    return [(event.name, dict(event.attributes)) for event in span.events]


def test_facts_are_events_of_the_request_they_belong_to(usage_on: None, stub: AxiomStub) -> None:
    async def handler() -> Any:
        record_one_of_each()
        return {}

    with a_request(handler):
        (request,) = delivered(stub, 1)
    assert events_of(request) == EACH
    assert all(request.start_time <= event.time <= request.end_time for event in request.events)


def test_facts_are_events_of_the_span_they_belong_to(usage_on: None, stub: AxiomStub) -> None:
    with usage.usage_span("work"):
        record_one_of_each()
    assert events_of(delivered(stub, 1)[0]) == EACH


def test_facts_outside_of_anything_go_nowhere(usage_on: None, stub: AxiomStub) -> None:
    before = internal_errors()
    record_one_of_each()
    usage.reject("tier_403")
    usage.annotate(cache_tier="fast")
    assert internal_errors() == before
    assert usage.flush().complete
    assert stub.spans == []


@pytest.mark.parametrize("status", CACHE_STATUSES)
def test_every_word_that_a_cache_can_say_is_recorded(usage_on: None, stub: AxiomStub, status: str) -> None:
    with usage.usage_span("work"):
        usage.record_cache("p", "o", status=status)
    assert events_of(delivered(stub, 1)[0])[0][1]["usage.cache.status"] == status


def test_every_word_that_a_limiter_can_say_is_recorded(usage_on: None, stub: AxiomStub) -> None:
    with usage.usage_span("work"):
        for decision in LIMIT_DECISIONS:
            usage.record_limit("l", decision)
    assert [facts["usage.limit.decision"] for _, facts in events_of(delivered(stub, 1)[0])] == list(LIMIT_DECISIONS)


@pytest.mark.parametrize("status", CACHE_ANSWERS)
@pytest.mark.parametrize("operation", ["quote", None])
def test_an_answer_of_a_cache_stands_for_the_call_of_the_block_it_is_within(
    usage_on: None, stub: AxiomStub, status: str, operation: str | None
) -> None:
    with usage.usage_span("work"), usage.upstream("yahoo-finance", operation):
        usage.record_cache("yahoo-finance", "quote", status=status)
    (work,) = delivered(stub, 1)
    assert [facts["usage.cache.status"] for _, facts in events_of(work)] == [status]


def test_an_answer_of_a_cache_stands_for_the_block_outside_of_any_work_too(usage_on: None, stub: AxiomStub) -> None:
    with usage.upstream("yahoo-finance"):
        usage.record_cache("yahoo-finance", "quote", status="fresh")
    assert usage.flush().complete
    assert stub.spans == []


@pytest.mark.parametrize(
    ("provider", "operation", "status"),
    [
        ("yahoo-finance", "quote", "miss"),
        ("yahoo-finance", "quote", "warm"),
        ("yahoo-finance", "news", "fresh"),
        ("another", "quote", "fresh"),
    ],
)
def test_what_is_no_answer_to_the_block_leaves_it_a_call(
    usage_on: None, stub: AxiomStub, provider: str, operation: str, status: str
) -> None:
    with usage.usage_span("work"), usage.upstream("yahoo-finance", "quote"):
        usage.record_cache(provider, operation, status=status)
    assert {span.name for span in delivered(stub, 2)} == {"yahoo-finance quote", "work"}


def test_events_are_bounded_and_those_beyond_are_counted(usage_on: None, stub: AxiomStub) -> None:
    def handler() -> Any:
        for _ in range(EVENT_LIMIT + 5):
            usage.meter("rows", 1)
        return {}

    with a_request(handler):
        stub.wait_for(1)
        assert usage.health().attributes_dropped == {"event:usage.meter": 5}
        assert len(delivered(stub, 1)[0].events) == EVENT_LIMIT


# -- model calls -------------------------------------------------------------------------------------------------------


def test_a_model_call_within_a_request_is_its_child(usage_on: None, stub: AxiomStub) -> None:
    async def handler() -> Any:
        usage.record_llm("openai", "gpt-5", reason="server_error", fallback_index=0, duration=1.5)
        usage.record_llm(
            "anthropic", "claude", input_tokens=812, output_tokens=90, max_tokens=1024, prompt_chars=3120,
            stage="brief", fallback_index=1, duration=0.25,
        )  # fmt: skip
        usage.identify(customer_id="acme")
        return {}

    with a_request(handler):
        spans = delivered(stub, 3)
    request, failed, answered = (
        request_of(spans),
        only(spans, name="openai gpt-5"),
        only(spans, name="anthropic claude"),
    )
    for span in (failed, answered):
        assert (span.kind, span.parent_span_id, span.trace_id) == ("client", request.span_id, request.trace_id)
        assert span.attributes["usage.kind"] == "llm"
        assert span.attributes["usage.customer.id"] == "acme"
        assert span.attributes["usage.route"] == "/v1/reports/{name}"
    assert (failed.status_code, failed.attributes["usage.reason"], failed.duration) == ("error", "server_error", 1.5e9)
    assert (answered.status_code, answered.duration) == ("unset", 0.25e9)
    assert {key: value for key, value in answered.attributes.items() if key.startswith(("gen_ai.", "usage.llm."))} == {
        "gen_ai.provider.name": "anthropic", "gen_ai.request.model": "claude", "gen_ai.usage.input_tokens": 812,
        "gen_ai.usage.output_tokens": 90, "gen_ai.request.max_tokens": 1024, "usage.llm.prompt_chars": 3120,
        "usage.llm.stage": "brief", "usage.llm.fallback_index": 1,
    }  # fmt: skip


def test_a_model_call_outside_of_any_request_is_a_root(usage_on: None, stub: AxiomStub) -> None:
    usage.record_llm("openai", "gpt-5", input_tokens=1)
    (span,) = delivered(stub, 1)
    assert (span.parent_span_id, span.attributes["usage.reason"]) == (None, "ok")


@pytest.mark.parametrize("duration", [-1.0, math.nan, math.inf, 1e30])
def test_a_duration_that_cannot_be_is_no_duration(usage_on: None, stub: AxiomStub, duration: float) -> None:
    usage.record_llm("openai", "gpt-5", duration=duration)
    assert delivered(stub, 1)[0].duration == 0


# -- the request itself ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", REASONS)
def test_an_application_can_say_every_reason(usage_on: None, stub: AxiomStub, reason: str) -> None:
    request = UsageRequest(recorder(), "GET", {}, None, {})
    with within(request):
        usage.reject(reason)
    request.response_started(200, None)
    request.complete = True
    request.close()
    assert delivered(stub, 1)[0].attributes["usage.reason"] == reason


def test_ok_is_not_believed_of_a_failure(usage_on: None, stub: AxiomStub) -> None:
    request = UsageRequest(recorder(), "GET", {}, None, {})
    with within(request):
        usage.reject("ok")
    request.response_started(503, None)
    request.complete = True
    request.close()
    assert delivered(stub, 1)[0].attributes["usage.reason"] == "server_error"


def recorder() -> Recorder:
    found = active()
    assert found is not None
    return found


@contextmanager
def within(request: UsageRequest) -> Iterator[None]:
    token = enter(request)
    try:
        yield
    finally:
        leave(token)


def test_an_application_can_say_what_would_be_derived(usage_on: None, stub: AxiomStub) -> None:
    async def handler() -> Any:
        with usage.usage_span("work"):  # from within a span it is said of the request all the same
            usage.annotate(cache_tier="daily", domain="billing", origin_kind="oauth", route="/v9/{anything}")
            usage.reject("idempotent_replay")
        return {}

    with a_request(handler):
        request = request_of(delivered(stub, 2))
    wanted = {
        "usage.cache.tier": "daily", "usage.domain": "billing", "usage.origin.kind": "oauth",
        "http.route": "/v9/{anything}", "usage.reason": "idempotent_replay",
    }  # fmt: skip
    assert {key: request.attributes[key] for key in wanted} == wanted
    assert request.name == "GET /v9/{anything}"


def test_an_application_can_register_reasons_of_its_own(switch_on: Callable[..., None], stub: AxiomStub) -> None:
    async def handler() -> Any:
        usage.reject("maintenance")
        return {}

    switch_on(reasons=frozenset({"maintenance"}))
    with a_request(handler):
        (request,) = delivered(stub, 1)
    assert request.attributes["usage.reason"] == "maintenance"


# -- what is not right -------------------------------------------------------------------------------------------------

WRONG: tuple[tuple[Callable[[], Any], set[str]], ...] = (
    (lambda: usage.reject("because"), {"usage.reason"}),
    (lambda: usage.reject(["tier_403"]), {"usage.reason"}),  # type: ignore[arg-type]
    (lambda: usage.annotate(cache_tier="forever"), {"usage.cache.tier"}),
    (lambda: usage.annotate(origin_kind="moon", domain="x" * 65), {"usage.origin.kind", "usage.domain"}),
    (lambda: usage.annotate(route=7), {"http.route"}),  # type: ignore[arg-type]
    (lambda: usage.annotate(route="/" + "x" * 1_000_000), {"http.route"}),
    (lambda: usage.record_cache("p", "o", status="warm"), {"usage.cache.status"}),
    (lambda: usage.record_limit("l", "maybe"), {"usage.limit.decision"}),
    (lambda: usage.meter("m", "many"), {"usage.quantity"}),  # type: ignore[arg-type]
    (lambda: usage.meter("m" * 65, 1, unit="u" * 65), {"usage.meter.name", "usage.unit"}),
    (lambda: usage.meter("m", 10**400), {"usage.quantity"}),
    (lambda: usage.meter("m", True), {"usage.quantity"}),
    (lambda: usage.record_llm("p", "m", input_tokens=10**30), {"gen_ai.usage.input_tokens"}),
    (lambda: usage.record_llm("p", "m", input_tokens=1.5), {"gen_ai.usage.input_tokens"}),  # type: ignore[arg-type]
    (lambda: usage.record_llm("p", "m", reason="because"), {"usage.reason"}),
)


@pytest.mark.parametrize(("call", "dropped"), WRONG, ids=range(len(WRONG)))
def test_what_the_schema_does_not_know_is_dropped_and_counted_and_the_request_is_recorded(
    usage_on: None, stub: AxiomStub, call: Callable[[], Any], dropped: set[str]
) -> None:
    async def handler() -> Any:
        call()
        return {}

    before = internal_errors()
    with a_request(handler):
        stub.wait_for(1)
        usage.flush()
        assert set(usage.health().attributes_dropped) == dropped
        assert internal_errors() == before
        usage.uninstrument()
    request = request_of(stub.unique_spans)
    assert request.attributes["http.response.status_code"] == 200
    assert request.attributes["usage.reason"] == "ok"


@pytest.mark.parametrize(
    "call",
    [
        lambda: usage.annotate(color="red"),  # type: ignore[call-arg]
        usage.reject,
        usage.meter,
        lambda: usage.record_cache("p", "o"),  # type: ignore[call-arg]
        lambda: usage.record_llm("p", "m", duration="long"),  # type: ignore[arg-type]
        usage.record_llm,
    ],
)
def test_a_call_that_cannot_be_right_never_fails_a_request(
    usage_on: None, stub: AxiomStub, call: Callable[[], Any]
) -> None:
    async def handler() -> Any:
        call()
        return {}

    with a_request(handler):
        spans = delivered(stub, 1)
    assert request_of(spans).attributes["usage.reason"] == "ok"


# -- usage off ---------------------------------------------------------------------------------------------------------


def test_with_usage_off_nothing_has_an_effect_and_nothing_fails(stub: AxiomStub) -> None:
    before = internal_errors()
    record_one_of_each()
    usage.identify(customer_id="acme")
    usage.reject("tier_403")
    usage.annotate(cache_tier="fast")
    usage.record_llm("openai", "gpt-5")
    with usage.usage_span("work", quantity=1) as span:
        span.set_attribute("usage.unit", "page")
        span.add_event("usage.meter", {})
        span.record_exception(ValueError(SECRET))
        assert not span.is_recording()
        assert not span.get_span_context().is_valid
        with usage.usage_span("inner"):
            record_one_of_each()
    assert export(2) == 4
    assert asyncio.run(aexport(2)) == 4
    with pytest.raises(ValueError, match=SECRET):
        export(1, fail=True)
    assert internal_errors() == before
    assert usage.health().status == "off"
    assert stub.requests == []


def test_usage_that_is_switched_off_within_a_span_loses_nothing_but_that_span(
    switch_on: Callable[..., None], stub: AxiomStub
) -> None:
    before = internal_errors()
    switch_on()
    with usage.usage_span("first"):
        pass
    with usage.usage_span("second"):
        usage.uninstrument()
        usage.meter("rows", 1)
    assert internal_errors() == before
    assert [span.name for span in stub.spans] == ["first"]


def record_as_a_child(spans: int) -> None:
    for _ in range(spans):
        with usage.usage_span("of a child"):
            usage.identify(customer_id=f"child-{os.getpid()}")


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")  # it is what is tested; warned of since 3.12
def test_a_forked_child_of_multiprocessing_delivers_what_it_has_recorded(usage_on: None, stub: AxiomStub) -> None:
    with usage.usage_span("of the parent"):
        pass
    children = [multiprocessing.get_context("fork").Process(target=record_as_a_child, args=(20,)) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join(20)
        assert child.exitcode == 0
    assert usage.flush().accepted == 1
    spans = Counter(span.attributes.get("usage.customer.id") for span in stub.spans)
    assert spans == {None: 1, **{f"child-{child.pid}": 20 for child in children}}
