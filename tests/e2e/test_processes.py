"""However a service is spread over processes, each request arrives once: real servers, signals and forks."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from otel_usage.testing import AxiomStub, Hang, Refuse, Status
from tests.conftest import TOKEN
from tests.servers import APPS, PROGRAMS, free_port, server_process

GUNICORN = ("opentelemetry-instrument", "gunicorn", "--graceful-timeout", "5")
UVICORN = ("opentelemetry-instrument", "uvicorn")
SANIC = (
    "opentelemetry-instrument", "sanic", "desk_sanic:app", "--workers", "2", "--host", "127.0.0.1", "--no-motd",
)  # fmt: skip
# uWSGI forks without Python's knowledge, unless it is told to. Of its workers, only those of a master end as Python's
# processes do. The hook, from its documentation, has SIGTERM let requests end first.
UWSGI = (
    "opentelemetry-instrument", "uwsgi", "--master", "--lazy-apps", "--enable-threads", "--threads", "4",
    "--py-call-uwsgi-fork-hooks", "--hook-master-start", "unix_signal:15 gracefully_kill_them_all",
)  # fmt: skip
SERVERS: dict[str, tuple[str, ...]] = {
    "gunicorn, preloaded, sync": (*GUNICORN, "--workers", "3", "--preload", "desk:wsgi"),
    "gunicorn, sync": (*GUNICORN, "--workers", "2", "desk:wsgi"),
    "gunicorn, preloaded, gthread": (*GUNICORN, "--workers", "2", "--threads", "4", "--preload", "desk:wsgi"),
    "gunicorn, uvicorn worker": (*GUNICORN, "--workers", "2", "-k", "uvicorn_worker.UvicornWorker", "desk:asgi"),
    "gunicorn, preloaded, uvicorn worker": (
        *GUNICORN, "--workers", "2", "-k", "uvicorn_worker.UvicornWorker", "--preload", "desk:asgi",
    ),
    "gunicorn, aiohttp worker": (*GUNICORN, "--workers", "2", "-k", "aiohttp.GunicornWebWorker", "desk_aiohttp:app"),
    "gunicorn, gevent": (*GUNICORN, "--workers", "2", "-k", "gevent", "desk:wsgi"),
    "gunicorn, recycled": (*GUNICORN, "--workers", "2", "--max-requests", "7", "desk:wsgi"),
    "uwsgi": (*UWSGI, "--processes", "2", "--module", "desk:wsgi"),
    "uvicorn, 4 workers": (*UVICORN, "--workers", "4", "desk:asgi"),
    "uvicorn, recycled": (*UVICORN, "--workers", "2", "--limit-max-requests", "20", "desk:asgi"),
    "hypercorn, 2 workers": ("opentelemetry-instrument", "hypercorn", "--workers", "2", "desk:asgi"),
    "granian, 2 workers": (
        "opentelemetry-instrument", "granian", "--workers", "2", "--interface", "asgi", "desk:asgi",
    ),
}  # fmt: skip


class Desk:
    """The service, as processes, and the ids of the requests that it has answered."""

    def __init__(self, port: int, process: subprocess.Popen[bytes], log: Path) -> None:
        self.port, self.process, self.log = port, process, log
        self.answered: list[str] = []
        self.pids: Counter[str] = Counter()

    def ask(self, request_id: str, path: str = "/work?seconds=0.02") -> None:
        """One request on a connection of its own. It counts where it is answered with 200."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request("GET", path, headers={"x-request-id": request_id})
            answer = connection.getresponse()
            body = answer.read().decode()
        except (OSError, http.client.HTTPException):
            return  # a worker that has been told to end
        finally:
            connection.close()
        if answer.status == 200:
            self.answered.append(request_id)
            self.pids[body] += 1

    def ask_many(self, count: int, prefix: str = "r") -> None:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(self.ask, [f"{prefix}{number:04d}" for number in range(count)]))

    def stop(self, seconds: float = 20.0) -> str:
        """SIGTERM to the first process, as a supervisor does it. What it has logged."""
        self.process.terminate()
        self.process.wait(seconds)
        return self.log.read_text()


@contextmanager
def desk(command: tuple[str, ...], tmp_path: Path, sink: AxiomStub, **environment: str) -> Iterator[Desk]:
    port = free_port()
    address = f"127.0.0.1:{port}"
    places = {"gunicorn": ("--bind", address), "hypercorn": ("--bind", address), "uwsgi": ("--http-socket", address)}
    where = places.get(command[1], ("--port", str(port)))
    settings = {"USAGE_TELEMETRY": "1", "USAGE_OTLP_ENDPOINT": sink.url, "AXIOM_API_TOKEN": TOKEN, **environment}
    with server_process([*command, *where], port, tmp_path, OTEL_SERVICE_NAME="desk", **settings) as (process, log):
        yield Desk(port, process, log)


def ids(sink: AxiomStub) -> list[str]:
    return sorted(span.attributes["usage.client.request_id"] for span in sink.unique_spans if span.kind == "server")


@pytest.mark.parametrize("server", SERVERS)
def test_each_request_arrives_once_whatever_process_has_served_it(server: str, tmp_path: Path, stub: AxiomStub) -> None:
    with desk(SERVERS[server], tmp_path, stub) as running:
        for again in range(10):  # the first process that is ready may serve everything before there is another
            running.ask_many(60, f"r{again}-")
            if len(running.pids) > 1:
                break
        logged = running.stop()
    assert len(running.answered) >= 55, logged
    assert len(running.pids) > 1, "one process has served everything, so this shows nothing"
    assert set(running.answered) <= set(ids(stub)), logged
    assert len(stub.spans) == len(stub.unique_spans)
    assert "Traceback" not in logged


def test_sanics_own_workers_deliver_when_they_are_told_to_end(tmp_path: Path, stub: AxiomStub) -> None:
    with desk(SANIC, tmp_path, stub) as running:
        running.ask_many(20)
        deadline = time.monotonic() + 20
        # Told to end before it has heard of its workers, Sanic hangs, be usage on or off. By then it has heard.
        while len(ids(stub)) < len(running.answered):
            assert time.monotonic() < deadline, running.log.read_text()
            time.sleep(0.05)
        running.ask_many(40, "last")
        logged = running.stop()
    assert len(running.answered) == 60, logged
    assert len(running.pids) > 1, "one process has served everything, so this shows nothing"
    assert ids(stub) == sorted(running.answered), logged
    assert "Traceback" not in logged


@pytest.mark.parametrize(
    "server",
    [
        "gunicorn, preloaded, gthread",
        "gunicorn, aiohttp worker",
        "uvicorn, 4 workers",
        "gunicorn, gevent",
        "hypercorn, 2 workers",
        "granian, 2 workers",
        "uwsgi",
    ],
)
def test_sigterm_in_the_middle_of_traffic_loses_nothing_that_was_answered(
    server: str, tmp_path: Path, stub: AxiomStub
) -> None:
    with desk(SERVERS[server], tmp_path, stub) as running:
        traffic = threading.Thread(target=running.ask_many, args=(400,))
        traffic.start()
        while len(running.answered) < 100:
            time.sleep(0.005)
        logged = running.stop()
        traffic.join(60)
    assert len(running.answered) >= 100
    assert set(running.answered) <= set(ids(stub)), logged


ENDS = {
    "uvicorn, no lifespan": (*UVICORN, "--lifespan", "off", "desk:asgi"),
    "gunicorn, its own worker for ASGI": (*GUNICORN, "-k", "asgi", "desk:asgi"),
}


@pytest.mark.parametrize("server", ENDS)
def test_what_was_recorded_is_delivered_at_the_end_of_one_process(server: str, tmp_path: Path, stub: AxiomStub) -> None:
    with desk(ENDS[server], tmp_path, stub) as running:
        running.ask_many(20)
        logged = running.stop()
    assert len(running.answered) == 20, logged
    assert sorted(running.answered) == ids(stub), logged


@pytest.mark.parametrize("server", ["gunicorn, preloaded, sync", "uvicorn, 4 workers", "gunicorn, gevent"])
def test_an_outage_at_the_end_is_over_for_the_next_start(server: str, tmp_path: Path, stub: AxiomStub) -> None:
    stub.fail_with(Status(503))
    with desk(SERVERS[server], tmp_path, stub) as running:
        running.ask_many(60)
        logged = running.stop()
    assert not stub.spans
    first = set(running.answered)
    stub.heal()
    with desk(SERVERS[server], tmp_path, stub) as again:
        again.ask_many(10, "again")
        stub.wait_for(len(first) + len(again.answered), timeout=20)
        again.stop()
    assert first | set(again.answered) <= set(ids(stub)), logged
    assert len(stub.spans) == len(stub.unique_spans)


def test_kill_9_of_a_worker_in_an_outage_costs_at_most_its_last_second(tmp_path: Path, stub: AxiomStub) -> None:
    stub.fail_with(Refuse())
    with desk(SERVERS["uvicorn, 4 workers"], tmp_path, stub) as running:
        running.ask_many(80)
        time.sleep(2.5)  # a first attempt that fails, and what is written after it
        safe = set(running.answered)
        for pid in running.pids:
            os.kill(int(pid), signal.SIGKILL)
        stub.heal()
        deadline = time.monotonic() + 30
        while not safe <= set(ids(stub)) and time.monotonic() < deadline:
            running.ask("poke")  # of the workers that its supervisor starts in their place
            time.sleep(0.2)
        logged = running.stop()
    assert safe <= set(ids(stub)), logged


@pytest.mark.parametrize("server", ["gunicorn, preloaded, sync", "uvicorn, 4 workers"])
def test_a_service_ends_in_about_two_seconds_while_the_sink_hangs(server: str, tmp_path: Path, stub: AxiomStub) -> None:
    stub.fail_with(Hang(60))
    with desk(SERVERS[server], tmp_path, stub) as running:
        running.ask_many(20)
        started = time.monotonic()
        running.stop()
        took = time.monotonic() - started
    assert took < 6.0  # a bound against a hang: two seconds are delivery's, the rest is the server's and the machine's


PROGRAM = """
import multiprocessing, os, sys, time
import otel_usage as usage

def work(name):
    with usage.usage_span(name):
        pass

def child(name):
    usage.instrument()
    work(name)

if __name__ == "__main__":
    usage.instrument()
    work("before")
    how = sys.argv[1]
    if how == "os.fork":
        pids = []
        for number in range(3):
            pid = os.fork()
            if pid == 0:
                work(f"child {number}")
                sys.exit(0)
            pids.append(pid)
        for pid in pids:
            os.waitpid(pid, 0)
    else:
        context = multiprocessing.get_context(how)
        children = [context.Process(target=child, args=(f"child {number}",)) for number in range(3)]
        for one in children:
            one.start()
        for one in children:
            one.join()
    work("after")
"""


@pytest.mark.parametrize("how", ["os.fork", "fork", "spawn", "forkserver"])
@pytest.mark.parametrize("outage", [False, True])
def test_children_deliver_or_spool_their_own_and_so_does_the_parent(
    how: str, outage: bool, tmp_path: Path, stub: AxiomStub
) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    environment = {
        **os.environ,
        "USAGE_TELEMETRY": "1",
        "USAGE_OTLP_ENDPOINT": stub.url,
        "AXIOM_API_TOKEN": TOKEN,
        "PYTHONWARNINGS": "ignore:.*fork:DeprecationWarning",
    }
    if outage:
        stub.fail_with(Status(503))
    subprocess.run([sys.executable, str(program), how], env=environment, check=True, timeout=60)
    expected = ["after", "before", *(f"child {number}" for number in range(3))]
    if outage:
        stub.heal()
        command = [str(PROGRAMS / "otel-usage"), "spool", "replay"]
        subprocess.run(command, env=environment, check=True, timeout=60, capture_output=True)
    assert sorted(span.name for span in stub.spans) == expected


GEVENT_LATE = """
import otel_usage as usage
usage.instrument()
with usage.usage_span("before"):
    pass
import gevent.monkey
gevent.monkey.patch_all()
import gevent

def work(number):
    for _ in range(20):
        with usage.usage_span("work"):
            gevent.sleep(0.001)

with gevent.Timeout(20):
    gevent.joinall([gevent.spawn(work, number) for number in range(20)])
    assert usage.flush(5.0).complete, usage.health()
print("done")
"""


def test_gevent_may_come_after_usage(tmp_path: Path, stub: AxiomStub) -> None:
    ended = run_gevent(GEVENT_LATE, stub)
    assert ended.stdout == "done\n", ended.stderr
    assert len(stub.spans) == 401


def test_gevent_may_come_before_usage(tmp_path: Path, stub: AxiomStub) -> None:
    first = "import gevent.monkey\ngevent.monkey.patch_all()\n"
    ended = run_gevent(first + GEVENT_LATE, stub)
    assert ended.stdout == "done\n", ended.stderr
    assert len(stub.spans) == 401


def test_under_gevent_a_sink_that_hangs_holds_up_nobody(stub: AxiomStub) -> None:
    stub.fail_with(Hang(60))
    program = GEVENT_LATE.replace("assert usage.flush(5.0).complete, usage.health()", "pass")
    started = time.monotonic()
    ended = run_gevent("import gevent.monkey\ngevent.monkey.patch_all()\n" + program, stub)
    assert ended.stdout == "done\n", ended.stderr
    assert time.monotonic() - started < 15


def run_gevent(program: str, stub: AxiomStub) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "USAGE_TELEMETRY": "1",
        "USAGE_OTLP_ENDPOINT": stub.url,
        "AXIOM_API_TOKEN": TOKEN,
    }
    return subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        timeout=60,
        capture_output=True,
        text=True,
        cwd=APPS,
        check=False,
    )
