"""What the gateway has acknowledged arrives: after refusals, outages, its own death, and at another backend."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from otel_usage.testing import AxiomStub
from otel_usage.testing.faults import RateLimited, Refuse, Reset, Status

from .facts import Request, request
from .gateways import Gateway, gateway, times, wait_until
from .nginx import failover
from .otlp import key

REFUSALS = {
    "429 as Axiom says it": RateLimited(reset_seconds=1.0),
    "503": Status(503),
    "503 with Retry-After": Status(503, {"Retry-After": "1"}),
    "502": Status(502),
    "reset": Reset(),
}


def send(running: Gateway, batches: int, size: int = 50) -> set[tuple[str, str]]:
    """Send requests of customers of both kinds, and return the keys of those that were acknowledged: all of them."""
    acknowledged: set[tuple[str, str]] = set()
    for _ in range(batches):
        spans = [request(Request(tier=n % 4, bytes_in=n)) for n in range(size)]
        assert running.send(spans) == 200
        acknowledged.update(map(key, spans))
    return acknowledged


@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_backend_that_refuses_for_a_while_gets_everything_once(tmp_path: Path, refusal: str) -> None:
    with gateway(tmp_path) as running:
        usage, metrics = running.usage, running.metrics
        usage.fail_with(REFUSALS[refusal])
        metrics.status = 429
        sent = send(running, 10)
        usage.wait_for_requests(3, 60)
        metrics.wait_until(lambda: metrics.refused >= 2)
        usage.heal()
        metrics.status = 200
        wait_until(lambda: times(usage).keys() == sent, lambda: (len(sent), len(times(usage))))
        metrics.wait_until(lambda: metrics.total("usage.requests") >= len(sent))
        assert set(times(usage).values()) == {1}
        assert metrics.total("usage.requests") == len(sent)


def test_it_is_killed_in_an_outage_and_loses_nothing(tmp_path: Path) -> None:
    with gateway(tmp_path) as running:
        usage, metrics = running.usage, running.metrics
        usage.fail_with(Refuse())
        metrics.status = 503
        sent: set[tuple[str, str]] = set()
        for _ in range(3):
            sent |= send(running, 10)
            running.kill_and_start()
        usage.heal()
        metrics.status = 200
        wait_until(lambda: times(usage).keys() == sent, lambda: (len(sent), len(times(usage))))
        metrics.wait_until(lambda: metrics.total("usage.requests") >= len(sent))
        assert set(times(usage).values()) == {1}
        assert metrics.total("usage.requests") == len(sent)
        assert metrics.total("usage.request.bytes") == len(sent) / 50 * sum(range(50))


def test_it_is_killed_while_clients_send_and_what_they_were_told_is_taken_arrives(tmp_path: Path) -> None:
    with gateway(tmp_path) as running:
        usage, metrics = running.usage, running.metrics
        acknowledged: set[tuple[str, str]] = set()
        refused: set[tuple[str, str]] = set()
        ended = threading.Event()

        def client() -> None:
            while not ended.is_set():
                spans = [request(Request(tier=n % 4)) for n in range(20)]
                try:
                    taken = running.send(spans) == 200
                except OSError:
                    taken = False
                (acknowledged if taken else refused).update(map(key, spans))

        with ExitStack() as clients:
            clients.callback(ended.set)
            threads = [threading.Thread(target=client) for _ in range(4)]
            for thread in threads:
                thread.start()
                clients.callback(thread.join, 60)
            clients.callback(ended.set)
            for _ in range(3):
                before = len(acknowledged)
                wait_until(lambda before=before: len(acknowledged) > before + 400, lambda: len(acknowledged))
                running.kill_and_start()
        assert refused, "it was never killed while it was sent to"
        wait_until(lambda: acknowledged <= times(usage).keys(), lambda: len(acknowledged - times(usage).keys()))
        assert times(usage).keys() <= acknowledged | refused
        # A batch that was counted may have been refused: its client was not told, and would send it again.
        metrics.wait_until(lambda: metrics.total("usage.requests") >= len(acknowledged))
        assert metrics.total("usage.requests") <= len(acknowledged) + len(refused)


def test_the_second_backend_gets_everything_while_the_first_is_away(tmp_path: Path) -> None:
    first, second = AxiomStub(token="xaat-first"), AxiomStub(token="xaat-second")
    (tmp_path / "nginx").mkdir()
    with ExitStack() as all_of_it:
        all_of_it.enter_context(first)
        all_of_it.enter_context(second)
        url = all_of_it.enter_context(failover(tmp_path / "nginx", first.url, "xaat-first", second.url, "xaat-second"))
        running = all_of_it.enter_context(gateway(tmp_path, AXIOM_URL=url, AXIOM_PREMIUM_DATASET="api_usage"))
        at_first = send(running, 5)
        arrives(first, at_first)
        fallen: set[tuple[str, str]] = set()
        for outage in (Refuse(), Status(500), Status(503), Status(401)):
            first.fail_with(outage)
            fallen |= send(running, 5)
            arrives(second, fallen)
            first.heal()
        back = send(running, 5)
        arrives(first, at_first | back)
        # Neither is there: it stays on disk, also of a Collector that is killed, and then goes to the first.
        first.fail_with(Refuse())
        second.fail_with(Status(403))
        kept = send(running, 5)
        seen = len(second.requests)
        second.wait_for_requests(seen + 1, 60)
        running.kill_and_start()
        first.heal()
        arrives(first, at_first | back | kept)
        assert times(second).keys() == fallen
        assert {count for stub in (first, second) for count in times(stub).values()} == {1}


def arrives(stub: AxiomStub, sent: set[tuple[str, str]]) -> None:
    wait_until(lambda: times(stub).keys() == sent, lambda: (len(sent), len(times(stub))))


def test_a_full_queue_makes_clients_wait_and_keeps_what_it_took(tmp_path: Path) -> None:
    small = tmp_path / "small.yaml"
    small.write_text("exporters: {otlp_http/others: {sending_queue: {queue_size: 50000, batch: {min_size: 20000}}}}")
    with gateway(tmp_path, overlay=small) as running:
        usage = running.usage
        usage.fail_with(Refuse())
        batches = [[request(Request(tier=0)) for _ in range(50)] for _ in range(40)]
        with ThreadPoolExecutor(8) as clients:
            answers = [clients.submit(running.send, batch) for batch in batches]
            wait_until(lambda: any(answer.done() for answer in answers), lambda: answers)
            assert sum(answer.done() for answer in answers) < 10  # there is no room for more
            usage.heal()
            assert {answer.result(60) for answer in answers} == {200}
        wait_until(lambda: len(times(usage)) == 2000, lambda: len(times(usage)))
        assert set(times(usage).values()) == {1}
