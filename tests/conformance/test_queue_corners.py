"""Corners of single task queues, within one process: the application's own objects, its serializers, other brokers."""

from __future__ import annotations

import asyncio
import json
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import dramatiq
import httpx
import pytest
import redis
from arq import ArqRedis, Worker, create_pool, func
from arq.connections import RedisSettings
from celery import Celery
from dramatiq.brokers.stub import StubBroker
from flask import Flask
from rq import Callback, Queue, SimpleWorker
from rq.job import Job

import otel_usage as usage
from otel_usage.guard import internal_errors
from otel_usage.testing import AxiomStub, ReceivedSpan
from tests.needs import needed_package
from tests.outside import Outside
from tests.servers import serve_wsgi

from .queues.worlds import KEY, broker


@pytest.fixture
def keyed(switch_on: Callable[..., None]) -> None:
    """Usage, with a key that jobs are signed with."""
    switch_on(baggage_key=KEY)


@contextmanager
def customer(name: str) -> Iterator[None]:
    """Work for a customer."""
    with usage.usage_span("shop.step"):
        usage.identify(customer_id=name, auth_kind="jwt")
        yield


def spans(stub: AxiomStub, name: str) -> list[ReceivedSpan]:
    """What has been recorded under a name. Usage is switched off first, so that nothing follows."""
    usage.uninstrument()
    found = [span for span in stub.unique_spans if span.name == name]
    return sorted(found, key=lambda span: span.start_time)


def customers(stub: AxiomStub, name: str) -> list[Any]:
    return [span.attributes.get("usage.customer.id") for span in spans(stub, name)]


@pytest.mark.filterwarnings("ignore:Call to deprecated close:DeprecationWarning")  # arq's worker closes so
class TestArq:
    async def _run(self, url: str, run_for: str | None = None, **serializing: Any) -> None:
        async def render(ctx: dict[str, Any], pages: int) -> int:
            return pages

        settings = RedisSettings.from_dsn(url)
        pool: ArqRedis = await create_pool(
            settings, **{key: value for key, value in serializing.items() if key == "job_serializer"}
        )
        with customer("acme"):
            await pool.enqueue_job("render", 3)
        both = {"job_serializer": None, "job_deserializer": None, **serializing}
        worker = Worker(
            [func(render, name="render")],
            redis_settings=settings,
            burst=True,
            poll_delay=0.01,
            handle_signals=False,
            **both,
        )
        functions = worker.functions
        with customer(run_for) if run_for is not None else nullcontext():
            await worker.main()
        assert worker.functions is functions
        assert worker.jobs_complete == 1
        await worker.close()
        await pool.aclose()

    def test_a_serializer_of_the_applications_own_takes_it_as_one_more_key(
        self, keyed: None, stub: AxiomStub, tmp_path: Path
    ) -> None:
        with broker(tmp_path) as url:
            asyncio.run(self._run(url, job_serializer=_to_json, job_deserializer=json.loads))
        assert customers(stub, "render") == ["acme"]

    def test_a_serializer_that_takes_no_other_key_than_arqs_has_its_job_run_for_nobody(
        self, keyed: None, stub: AxiomStub, tmp_path: Path
    ) -> None:
        def strict(job: dict[str, Any]) -> bytes:
            if "otel_usage" in job:
                raise TypeError("a key that is not known")
            return _to_json(job)

        with broker(tmp_path) as url:
            asyncio.run(self._run(url, job_serializer=strict, job_deserializer=json.loads))
        assert customers(stub, "render") == [None]

    def test_a_worker_that_a_request_runs_does_each_job_for_its_own_customer(
        self, keyed: None, stub: AxiomStub, tmp_path: Path
    ) -> None:
        with broker(tmp_path) as url:
            asyncio.run(self._run(url, run_for="globex"))
        assert customers(stub, "render") == ["acme"]

    def test_the_worker_alone_may_have_an_unpickler_of_its_own(
        self, keyed: None, stub: AxiomStub, tmp_path: Path
    ) -> None:
        with broker(tmp_path) as url:
            asyncio.run(self._run(url, job_deserializer=pickle.loads))
        assert customers(stub, "render") == ["acme"]

    def test_what_stands_behind_a_pickle_is_not_read_by_an_unpickler(self) -> None:
        """The promise of Python's documentation that a worker without usage rests on."""
        assert pickle.loads(pickle.dumps({"f": "render"}) + b"\notel_usage:k1.x") == {"f": "render"}


def _to_json(job: Any) -> bytes:
    return json.dumps(job).encode()


class TestCelery:
    def test_a_worker_that_a_request_runs_does_each_task_for_its_own_customer(
        self, keyed: None, stub: AxiomStub
    ) -> None:
        from celery.app.trace import build_tracer

        app = Celery("jobs", broker="memory://", set_as_current=False)

        def render() -> int:
            return 7

        tracer = build_tracer("render", app.task(render, name="render"), app=app)
        with customer("globex"):
            assert tracer("1", (), {}, {"is_eager": False}).retval == 7
            assert tracer("2", (), {}, {"is_eager": True}).retval == 7
        assert customers(stub, "render") == [None, "globex"]

    @pytest.mark.parametrize("own", [{"x-own": "1"}, [("x-own", "1")]], ids=["mapping", "pairs"])
    def test_the_applications_headers_stay_as_they_are_and_travel_too(self, keyed: None, own: Any) -> None:
        app = Celery("jobs", broker="memory://", set_as_current=False)
        with customer("acme"):
            app.send_task("render", headers=own, ignore_result=True)
        assert dict(own) == {"x-own": "1"}
        with app.connection_for_read() as connection, connection.SimpleQueue("celery") as queue:
            message = queue.get(timeout=5)
            message.ack()
        assert message.headers["x-own"] == "1"
        assert message.headers["otel_usage"].startswith("k1.")
        assert message.headers["id"] == message.properties["correlation_id"]

    def test_a_tracer_that_was_built_while_usage_was_on_works_when_it_is_off(
        self, keyed: None, stub: AxiomStub
    ) -> None:
        from celery.app.trace import build_tracer

        app = Celery("jobs", broker="memory://", set_as_current=False)

        def render() -> int:
            return 7

        task = app.task(render, name="render")
        tracer = build_tracer("render", task, app=app, eager=True)
        assert tracer("1", (), {}, {}).retval == 7
        assert customers(stub, "render") == [None]
        assert tracer("2", (), {}, {}).retval == 7
        assert len(spans(stub, "render")) == 1


def _work(broker: StubBroker) -> None:
    """Do what is enqueued, on a worker's thread."""
    worker = dramatiq.Worker(broker, worker_timeout=50, worker_threads=1)
    worker.start()
    broker.join("default", timeout=10_000)
    worker.join()
    worker.stop()


class TestDramatiq:
    @pytest.fixture
    def stub_broker(self) -> Iterator[StubBroker]:
        before = dramatiq.broker.global_broker
        here = StubBroker()
        here.emit_after("process_boot")
        dramatiq.set_broker(here)
        yield here
        here.close()
        dramatiq.broker.global_broker = before

    def test_a_message_that_is_enqueued_for_two_customers_is_each_ones_and_stays_as_it_is(
        self, keyed: None, stub: AxiomStub, stub_broker: StubBroker
    ) -> None:
        @dramatiq.actor
        def render(pages: int) -> None:
            assert pages == 3

        message = render.message(3)
        for name in ("acme", "globex"):
            with customer(name):
                stub_broker.enqueue(message)
        assert message.options == {}
        _work(stub_broker)
        assert customers(stub, "render") == ["acme", "globex"]

    def test_a_request_of_a_wsgi_application_enqueues_for_its_customer(
        self, keyed: None, stub: AxiomStub, stub_broker: StubBroker
    ) -> None:
        @dramatiq.actor
        def render() -> None:
            pass

        app = Flask("shop")

        @app.post("/reports")
        def reports() -> str:
            usage.identify(customer_id="acme", auth_kind="jwt")
            render.send()
            return "later"

        with serve_wsgi(app) as url, httpx.Client(transport=Outside()) as client:
            assert client.post(f"{url}/reports").text == "later"
        _work(stub_broker)
        (job,) = spans(stub, "render")
        (request,) = [span for span in stub.unique_spans if span.kind == "server"]
        assert job.attributes["usage.customer.id"] == "acme"
        assert (job.trace_id, job.parent_span_id) == (request.trace_id, request.span_id)

    def test_a_message_to_rabbitmq_carries_it_too(self, keyed: None, monkeypatch: pytest.MonkeyPatch) -> None:
        needed_package("pika")
        from dramatiq.brokers.rabbitmq import RabbitmqBroker

        published: list[bytes] = []

        class Channel:
            """RabbitMQ's side, of which there is none here."""

            is_open = True

            def basic_publish(self, *, body: bytes, **_: Any) -> None:
                published.append(body)

        monkeypatch.setattr(RabbitmqBroker, "channel", property(lambda self: Channel()))
        monkeypatch.setattr(RabbitmqBroker, "declare_queue", lambda self, name, *, ensure=False: None)
        message = dramatiq.Message("default", "render", (3,), {}, {})
        with customer("acme"):
            RabbitmqBroker(url="amqp://127.0.0.1:1").enqueue(message)
        assert b'"otel_usage":"k1.' in published[0]
        assert message.options == {}


def a_report(pages: int) -> int:
    return pages


def a_failure() -> None:
    raise ValueError


class Gone:
    """What a worker of another version cannot unpickle."""

    def __reduce__(self) -> tuple[Callable[[], None], tuple[()]]:
        return a_failure, ()


def told(job: Job, connection: redis.Redis, result: Any) -> None:
    with usage.usage_span("shop.told"):
        pass


class TestRq:
    def test_an_id_that_is_used_again_does_not_bring_back_who_used_it_before(
        self, keyed: None, stub: AxiomStub, tmp_path: Path
    ) -> None:
        with broker(tmp_path) as url, redis.Redis.from_url(url) as connection:
            queue = Queue("jobs", connection=connection)
            with customer("acme"):
                queue.enqueue(a_report, 3, job_id="nightly")
            SimpleWorker([queue], connection=connection).work(burst=True)
            queue.enqueue(
                a_report, 3, job_id="nightly"
            )  # the hash of the first is still there, until its result expires
            SimpleWorker([queue], connection=connection).work(burst=True)
        assert customers(stub, f"{__name__}.a_report") == ["acme", None]

    def test_a_job_that_is_requeued_or_repeated_is_still_who_enqueued_it(
        self, keyed: None, stub: AxiomStub, tmp_path: Path
    ) -> None:
        with broker(tmp_path) as url, redis.Redis.from_url(url) as connection:
            queue = Queue("jobs", connection=connection)
            with customer("acme"):
                job = queue.enqueue(a_failure)
            SimpleWorker([queue], connection=connection).work(burst=True)
            job.requeue()
            SimpleWorker([queue], connection=connection).work(burst=True)
        assert customers(stub, f"{__name__}.a_failure") == ["acme", "acme"]

    def test_what_a_job_carries_is_beside_its_meta_and_outlives_what_the_application_saves(
        self, keyed: None, stub: AxiomStub, tmp_path: Path
    ) -> None:
        with broker(tmp_path) as url, redis.Redis.from_url(url) as connection:
            queue = Queue("jobs", connection=connection)
            with customer("acme"):
                job = queue.enqueue(a_report, 3, meta={"own": 1})
            assert job.meta == {"own": 1}
            found = queue.fetch_job(job.id)
            assert found is not None
            found.meta = {}
            found.save()
            SimpleWorker([queue], connection=connection).work(burst=True)
        assert customers(stub, f"{__name__}.a_report") == ["acme"]

    def test_a_worker_that_a_request_runs_does_each_job_for_its_own_customer(
        self, keyed: None, stub: AxiomStub, tmp_path: Path
    ) -> None:
        with broker(tmp_path) as url, redis.Redis.from_url(url) as connection:
            queue = Queue("jobs", connection=connection)
            with customer("acme"):
                queue.enqueue(a_report, 3)
            queue.enqueue(a_report, 3)
            with customer("globex"):
                SimpleWorker([queue], connection=connection).work(burst=True)
        assert customers(stub, f"{__name__}.a_report") == ["acme", None]

    def test_a_job_that_cannot_be_unpickled_is_no_attempt_and_no_error_of_ours(
        self, keyed: None, stub: AxiomStub, tmp_path: Path
    ) -> None:
        with broker(tmp_path) as url, redis.Redis.from_url(url) as connection:
            queue = Queue("jobs", connection=connection)
            with customer("acme"):
                queue.enqueue(a_report, Gone())
            SimpleWorker([queue], connection=connection).work(burst=True)
        usage.uninstrument()
        assert [span.name for span in stub.unique_spans] == ["shop.step"]
        assert internal_errors() == {}

    def test_what_is_called_for_its_success_is_within_the_job(
        self, keyed: None, stub: AxiomStub, tmp_path: Path
    ) -> None:
        with broker(tmp_path) as url, redis.Redis.from_url(url) as connection:
            queue = Queue("jobs", connection=connection)
            with customer("acme"):
                queue.enqueue(a_report, 3, on_success=Callback(told))
            SimpleWorker([queue], connection=connection).work(burst=True)
        (job,), (within,) = spans(stub, f"{__name__}.a_report"), spans(stub, "shop.told")
        assert within.parent_span_id == job.span_id
        assert within.attributes["usage.customer.id"] == "acme"
