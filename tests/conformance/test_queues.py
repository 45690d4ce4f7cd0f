"""The conformance suite of task queues: one set of cases for each of them, with a real broker and real workers.

Everything is enqueued, the answers are long there, and only then a worker is started. So each job is work after the
response.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import pytest

from otel_usage.attribution import Attribution, AttributionSigner, Purpose
from otel_usage.hosts import HostPatterns
from otel_usage.identity import UsageIdentity
from otel_usage.jobs import Job
from otel_usage.testing import ReceivedSpan
from tests.outside import facts

from .queues.declared import MODES, QUEUES, Queue
from .queues.worlds import KEY, World, ask, world

WEEK: Final = 7 * 86400
SECRET: Final = "an argument that stays here"
VICTIM: Final = UsageIdentity("victim", 2, "api_pro", "jwt", None, "verified")
KNOWN: Final = ("usage.customer.id", "usage.tier", "usage.plan", "usage.auth.kind", "usage.identity.provenance")


@dataclass(frozen=True)
class Story:
    """What came of all that was enqueued."""

    world: World
    held: str
    """What the broker held before a worker came."""

    @property
    def spans(self) -> list[ReceivedSpan]:
        return self.world.sink.unique_spans

    def of(self, case: str) -> list[ReceivedSpan]:
        """The spans of a customer, which is called like the case, by their start."""
        found = [span for span in self.spans if span.attributes.get("usage.customer.id") == case]
        return sorted(found, key=lambda span: span.start_time)

    def one(self, case: str, kind: str) -> ReceivedSpan:
        """The one span of a kind that a customer has."""
        (found,) = [span for span in self.of(case) if span.attributes["usage.kind"] == kind]
        return found

    def job(self, name: str, case: str) -> list[ReceivedSpan]:
        """The attempts at a customer's job."""
        return [span for span in self.of(case) if span.name == self.world.queue.job.format(name)]

    def can(self, case: str) -> None:
        """Skip what the queue says it cannot."""
        if case in self.world.queue.cannot:
            pytest.skip(self.world.queue.cannot[case])


def _token(job: Job, *, key: str = KEY, purpose: Purpose = Purpose.JOB, ago: float = 0.0) -> str:
    name, _, secret = key.partition(":")
    now = time.time() - ago
    signer = AttributionSigner({name: secret}, HostPatterns("", ()), lambda: now, purpose=purpose, lifetime=WEEK)
    token = signer.sign(Attribution(VICTIM, b"t" * 16, b"s" * 8), job.audience)
    assert token is not None
    return token


def _forgeries(queue: Queue) -> dict[str, tuple[str, str, dict[str, int]]]:
    """What somebody writes who can write into the broker: of each case, job id and token, and how it is counted."""
    job = Job(queue.library, queue.job.format("note"), "")
    mine, anothers = job._replace(id="forged-7"), job._replace(id="somebody-elses")
    changed = _token(mine)
    return {
        "made-up": ("forged-1", "k1.bm90aGluZw.aa.bb", {"job:forged": 1}),
        "not-at-all": ("forged-2", "acme", {"job:forged": 1}),
        "other-secret": ("forged-3", _token(job._replace(id="forged-3"), key="k1:" + "f" * 32), {"job:forged": 1}),
        "other-key": ("forged-4", _token(job._replace(id="forged-4"), key="k9:" + "f" * 32), {"job:unknown_key": 1}),
        "of-a-call": ("forged-5", _token(job._replace(id="forged-5"), purpose=Purpose.CALL), {"job:forged": 1}),
        "copied": ("forged-6", _token(anothers), {"job:other_audience": 1}),
        "changed": ("forged-7", changed[:10] + ("A" if changed[10] != "A" else "B") + changed[11:], {"job:forged": 1}),
        "of-another-function": (
            "forged-8", _token(Job(queue.library, queue.job.format("fails"), "forged-8")), {"job:other_audience": 1},
        ),
        "expired": ("forged-9", _token(job._replace(id="forged-9"), ago=WEEK + 60), {"job:expired": 1}),
    }  # fmt: skip


FORGED: Final = tuple(_forgeries(QUEUES[0]))


@pytest.fixture(scope="module")
def story(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    queue, mode = request.param
    with world(queue, mode, tmp_path_factory.mktemp("world")) as here:
        yield _told(here)


def _told(here: World) -> Story:
    with here.service() as service:
        for job in ("note", "calls", "says", "fails", "flaky", "nested"):
            ask(service, "enqueue", job, job)
        for number in range(6):
            ask(service, "enqueue", "note", f"customer-{number}")
        ask(service, "from-a-thread", "from-a-thread")
        ask(service, "too-soon", "too-soon")
        ask(service, "within", "within")
        if "chain" not in here.queue.cannot:
            ask(service, "chain", "chain")
        if "at_once" not in here.queue.cannot:
            ask(service, "at-once", "calls", "at-once")
            ask(service, "at-once", "fails", "at-once-failing")
        held = here.run("look")
        forgeries = _forgeries(here.queue)
        given = [(case, job_id, "otel_usage", token) for case, (job_id, token, _) in forgeries.items()]
        here.run("stranger", GIVEN=json.dumps(given))
        with here.worker():
            _wait(here)
            ask(service, "enqueue", "note", "last")
            here.ran("last")
    return Story(here, held)


def _wait(here: World) -> None:
    for case in ("note", "calls", "says", "fails", "nested", "nested-inner", "too-soon", "within", "outside", *FORGED):
        here.ran(case)
    for number in range(6):
        here.ran(f"customer-{number}")
    here.ran("from-a-thread")
    here.ran("flaky", 2)
    here.ran("says-outside")
    if "chain" not in here.queue.cannot:
        here.ran("chain-then")


each_queue_in_each_mode = pytest.mark.parametrize(
    "story", [(queue, mode) for queue in QUEUES for mode in MODES],
    ids=[f"{queue.name}-{mode}" for queue in QUEUES for mode in MODES], indirect=True, scope="module",
)  # fmt: skip


@each_queue_in_each_mode
class TestEveryQueue:
    def test_a_job_is_one_custom_span_for_the_customer_whose_request_enqueued_it(self, story: Story) -> None:
        (job,) = story.job("note", "note")
        assert job.kind == "internal"
        assert facts(job, "usage.kind", *KNOWN) == ("custom", "note", 2, "api_pro", "jwt", "verified")
        assert job.status_code == "unset"
        assert job.resource_attributes["service.name"] == "worker"

    def test_it_is_a_child_of_the_request_in_its_trace_long_after_the_response(self, story: Story) -> None:
        request = story.one("note", "request")
        (job,) = story.job("note", "note")
        assert (job.trace_id, job.parent_span_id) == (request.trace_id, request.span_id)
        assert job.start_time > request.end_time

    def test_it_is_a_child_of_the_step_that_enqueued_it(self, story: Story) -> None:
        (step,) = [span for span in story.of("within") if span.name == "shop.step"]
        (job,) = story.job("note", "within")
        assert (job.trace_id, job.parent_span_id) == (step.trace_id, step.span_id)

    def test_what_it_calls_is_its_child_and_the_customers(self, story: Story) -> None:
        (job,), call = story.job("calls", "calls"), story.one("calls", "upstream")
        assert (call.trace_id, call.parent_span_id) == (job.trace_id, job.span_id)

    def test_customers_are_not_mixed(self, story: Story) -> None:
        for case in ("from-a-thread", *(f"customer-{number}" for number in range(6))):
            request, (job,) = story.one(case, "request"), story.job("note", case)
            assert (job.trace_id, job.parent_span_id) == (request.trace_id, request.span_id)

    def test_a_failure_is_an_error_of_its_class(self, story: Story) -> None:
        (job,) = story.job("fails", "fails")
        assert (job.status_code, job.attributes["error.type"]) == ("error", "work.Broken")

    def test_each_attempt_is_a_span_of_the_same_parent(self, story: Story) -> None:
        request, attempts = story.one("flaky", "request"), story.job("flaky", "flaky")
        assert [span.status_code for span in attempts] == ["error", "unset"]
        assert {(span.trace_id, span.parent_span_id) for span in attempts} == {(request.trace_id, request.span_id)}

    def test_a_job_that_a_job_enqueues_is_its_child_and_the_same_customers(self, story: Story) -> None:
        (outer,), (inner,) = story.job("nested", "nested"), story.job("note", "nested")
        assert (inner.trace_id, inner.parent_span_id) == (outer.trace_id, outer.span_id)

    def test_a_next_job_that_the_worker_enqueues_is_the_customers(self, story: Story) -> None:
        story.can("chain")
        first, then = story.job("note", "chain")
        assert (then.trace_id, then.parent_span_id) == (first.trace_id, first.span_id)

    def test_what_is_enqueued_before_the_customer_is_known_or_outside_of_a_request_is_nobodys(
        self, story: Story
    ) -> None:
        name = story.world.queue.job.format("note")
        nobodys = [span for span in story.spans if span.name == name and "usage.customer.id" not in span.attributes]
        assert len(nobodys) == len(["too-soon", "outside", *FORGED])
        assert {span.parent_span_id for span in nobodys} == {None}
        assert len({span.trace_id for span in nobodys}) == len(nobodys)

    def test_what_a_job_says_of_the_customer_and_of_its_work_is_recorded(self, story: Story) -> None:
        (job,) = story.job("says", "says-outside")
        assert job.parent_span_id is None
        (event,) = job.events
        assert (event.name, event.attributes["usage.quantity"]) == ("usage.meter", 3)
        (step,) = [span for span in story.of("says-outside") if span.name == "work.step"]
        model = story.one("says-outside", "llm")
        assert (step.parent_span_id, model.parent_span_id) == (job.span_id, step.span_id)

    def test_the_workers_own_name_does_not_take_the_customers_place(self, story: Story) -> None:
        (job,) = story.job("says", "says")
        assert facts(job, *KNOWN[1:4]) == (2, "api_pro", "jwt")

    @pytest.mark.parametrize("case", FORGED)
    def test_what_nobody_of_ours_has_signed_for_the_job_is_not_believed_and_counted(
        self, story: Story, case: str
    ) -> None:
        assert not story.of("victim")
        (counted,) = _forgeries(story.world.queue)[case][2]
        assert story.world.refused(case).get(counted, 0) >= 1, story.world.refused(case)

    def test_a_job_within_its_caller_is_a_child_of_the_request_once(self, story: Story) -> None:
        story.can("at_once")
        request, (job,) = story.one("at-once", "request"), story.job("calls", "at-once")
        call = story.one("at-once", "upstream")
        assert (job.parent_span_id, call.parent_span_id) == (request.span_id, job.span_id)
        assert job.resource_attributes["service.name"] == "shop"
        assert request.attributes["usage.upstream.count"] == 1
        (failing,) = story.job("fails", "at-once-failing")
        assert failing.attributes["error.type"] == "work.Broken"

    def test_the_last_job_is_delivered_by_a_worker_that_is_told_to_end(self, story: Story) -> None:
        assert len(story.job("note", "last")) == 1

    def test_there_is_one_span_for_each_attempt_and_no_more(self, story: Story) -> None:
        once = {"note": 1 + 6 + 1 + 3 + 1 + 1, "calls": 1, "says": 2, "fails": 1, "flaky": 2, "nested": 1}
        names = Counter({story.world.queue.job.format(job): count for job, count in once.items()})
        names[story.world.queue.job.format("note")] += len(FORGED)
        if "chain" not in story.world.queue.cannot:
            names[story.world.queue.job.format("note")] += 2
        if "at_once" not in story.world.queue.cannot:
            names.update(story.world.queue.job.format(job) for job in ("calls", "fails"))
        assert Counter(span.name for span in story.world.jobs) == names

    def test_neither_arguments_nor_results_leave(self, story: Story) -> None:
        assert SECRET not in repr(story.spans)

    def test_the_broker_holds_what_was_signed(self, story: Story) -> None:
        assert "otel_usage" in story.held
        assert SECRET in story.held, "it was looked at"


def _customers(spans: list[ReceivedSpan]) -> set[Any]:
    return {span.attributes.get("usage.customer.id") for span in spans}


each_library = pytest.mark.parametrize(
    "queue", [queue for queue in QUEUES if queue.name in ("celery-solo", "rq-simple", "arq", "dramatiq")],
    ids=lambda queue: queue.library,
)  # fmt: skip


@each_library
def test_without_a_key_nothing_travels_and_a_job_is_a_span_all_the_same(
    queue: Queue, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with world(queue, "by-hand", tmp_path_factory.mktemp("world"), USAGE_BAGGAGE_KEY="") as here:
        with here.service() as service:
            ask(service, "enqueue", "note", "keyless")
            held = here.run("look")
            with here.worker():
                here.ran("keyless")
                here.ran("outside")
        assert SECRET in held
        assert "otel_usage" not in held
        jobs = [span for span in here.jobs if span.name == queue.job.format("note")]
        assert _customers(jobs) == {None}
        assert len(jobs) == 2


@each_library
def test_a_worker_without_usage_runs_what_carries_a_customer(
    queue: Queue, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with world(queue, "by-hand", tmp_path_factory.mktemp("world")) as here:
        with here.service() as service:
            ask(service, "enqueue", "note", "unobserved")
            assert "otel_usage" in here.run("look")
            with here.worker(USAGE_TELEMETRY="0"):
                here.ran("unobserved")
        assert not here.jobs


@each_library
def test_a_worker_with_usage_runs_what_was_enqueued_without(
    queue: Queue, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with world(queue, "by-hand", tmp_path_factory.mktemp("world")) as here:
        with here.service(USAGE_TELEMETRY="0") as service:
            ask(service, "enqueue", "note", "plain")
            assert "otel_usage" not in here.run("look")
            with here.worker():
                here.ran("plain")
        assert {None} <= _customers(here.jobs) <= {None, "says-outside"}
