"""gRPC's clients, sync and async, as real processes, in each way that usage is switched on: each call is one upstream
span, whatever becomes of it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import grpc
import pytest

from otel_usage.testing import AxiomStub, ReceivedSpan
from tests.conformance.faces import Face
from tests.conftest import TOKEN
from tests.outside import facts

FACES: Final = (Face("sync"), Face("async"))
MODES: Final = ("zero-code", "by-hand")
ROOT: Final = Path(__file__).parents[2]
CUSTOMER: Final = "acme-4711"
ONLY_SYNC: Final = ("called_with_its_call", "called_for_the_future", "streamed_by_one_thread", "joined_for_the_future")


class Service:
    """What is called, in this process, where usage is not on. It remembers the metadata of some calls."""

    def __init__(self) -> None:
        self.baggage: dict[bytes, list[str]] = {}
        self.kept: dict[bytes, Any] = {}
        self.calls: dict[str, int] = defaultdict(int)

    def echo(self, request: bytes, context: Any) -> bytes:
        self.calls["echo"] += 1
        return request * 2

    def seen(self, request: bytes, context: Any) -> bytes:
        metadata = context.invocation_metadata()
        self.baggage[request] = [item.value for item in metadata if item.key == "baggage"]
        self.kept[request] = dict(metadata).get("kept")
        return b""

    def missing(self, request: bytes, context: Any) -> bytes:
        context.abort(grpc.StatusCode.NOT_FOUND, "no such thing")
        raise AssertionError

    def unavailable(self, request: bytes, context: Any) -> bytes:
        context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
        raise AssertionError

    def count(self, request: bytes, context: Any) -> Iterator[bytes]:
        for n in range(int(request)):
            yield b"%05d" % n

    def broken_late(self, request: bytes, context: Any) -> Iterator[bytes]:
        yield b"first"
        raise LookupError

    def endless(self, request: bytes, context: Any) -> Iterator[bytes]:
        gone = threading.Event()
        context.add_callback(gone.set)
        yield b"12345"
        gone.wait(30)

    def join(self, requests: Iterator[bytes], context: Any) -> bytes:
        return b"+".join(requests)

    def double(self, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        return (request * 2 for request in requests)

    @contextmanager
    def served(self) -> Iterator[str]:
        """On a free port of loopback. Yields the address."""
        one, many = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
        handlers = {
            **{name: one(getattr(self, name)) for name in ("echo", "seen", "missing", "unavailable")},
            **{name: many(getattr(self, name)) for name in ("count", "broken_late", "endless")},
            "join": grpc.stream_unary_rpc_method_handler(self.join),
            "double": grpc.stream_stream_rpc_method_handler(self.double),
        }
        server = grpc.server(ThreadPoolExecutor(16))
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.Shop", handlers),))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            assert server.stop(None).wait(10)


@dataclass
class Run:
    """What has come of a program's calls."""

    spans: list[ReceivedSpan]
    trusted: Service
    elsewhere: Service
    log: str
    returned: int

    def of(self, case: str) -> list[ReceivedSpan]:
        """The spans of a case, by their start."""
        found = [span for span in self.spans if span.attributes.get("usage.provider") == case]
        return sorted(found, key=lambda span: span.start_time)


RunOf = Callable[[str, str], Run]


@pytest.fixture(scope="module")
def run_of(tmp_path_factory: pytest.TempPathFactory) -> RunOf:
    """The one run of a program in a mode, made when it is first asked for."""

    @cache
    def run(face: str, mode: str) -> Run:
        return performed(face, mode, tmp_path_factory.mktemp("calls"))

    return run


def performed(face: str, mode: str, place: Path) -> Run:
    trusted, elsewhere = Service(), Service()
    with AxiomStub(token=TOKEN, dataset="api_usage") as sink, trusted.served() as here, elsewhere.served() as there:
        programs = Path(sys.executable).parent
        instrument = [str(programs / "opentelemetry-instrument")] if mode == "zero-code" else []
        program = str(Path(__file__).parent / "grpc_calls.py")
        done = subprocess.run(
            [*instrument, sys.executable, program, face, mode, here, there],
            env={
                "PATH": f"{programs}{os.pathsep}{os.defpath}",
                "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
                "PYTHONDONTWRITEBYTECODE": "1",
                "XDG_STATE_HOME": str(place),
                "USAGE_TELEMETRY": "1",
                "USAGE_OTLP_ENDPOINT": sink.url,
                "AXIOM_API_TOKEN": TOKEN,
                "USAGE_BAGGAGE_KEY": "k1:0123456789abcdef0123456789abcdef",
                "USAGE_BAGGAGE_HOSTS": here,
                **{f"OTEL_{signal}_EXPORTER": "none" for signal in ("TRACES", "METRICS", "LOGS")},
            },
            capture_output=True, text=True, timeout=90, check=False, cwd=place,
        )  # fmt: skip
        return Run(sink.unique_spans, trusted, elsewhere, done.stdout + done.stderr, done.returncode)


every_run = pytest.mark.parametrize(("face", "mode"), [(face, mode) for face in FACES for mode in MODES])

OK: Final = (200, None, None)

EXPECTED: Final[dict[str, tuple[tuple[Any, ...], str, tuple[int, int]]]] = {
    "called": (OK, "echo", (3, 6)),
    "called_with_its_call": (OK, "echo", (3, 6)),
    "called_for_the_future": (OK, "echo", (3, 6)),
    "streamed": (OK, "count", (1, 15)),
    "streamed_by_one_thread": (OK, "count", (1, 15)),
    "joined": (OK, "join", (3, 4)),
    "joined_for_the_future": (OK, "join", (3, 4)),
    "doubled": (OK, "double", (3, 6)),
    "serialized": (OK, "echo", (6, 12)),
    "missing": ((404, "NOT_FOUND", None), "missing", (3, 0)),
    "unknown": ((501, "UNIMPLEMENTED", None), "nothing", (3, 0)),
    "broken_late": ((500, "UNKNOWN", None), "broken_late", (3, 5)),
    "refused": ((503, "UNAVAILABLE", None), "echo", (3, 0)),
    "timed_out": ((504, "DEADLINE_EXCEEDED", True), "endless", (3, 5)),
    "cancelled": ((499, "CANCELLED", True), "endless", (3, 5)),
    "dropped": ((499, "CANCELLED", True), "endless", (3, 5)),
}
"""By case: status, error and whether it was cut off; method; and bytes both ways."""


@every_run
@pytest.mark.parametrize("case", EXPECTED)
def test_a_call_is_one_upstream_span_with_its_status_and_its_bytes(
    run_of: RunOf, face: str, mode: str, case: str
) -> None:
    run = run_of(face, mode)
    if face == "async" and case in ONLY_SYNC:
        assert run.of(case) == []
        return
    outcome, method, sizes = EXPECTED[case]
    (span,) = run.of(case) or pytest.fail(run.log)
    assert facts(span, "http.response.status_code", "error.type", "usage.aborted") == outcome
    assert facts(span, "http.request.body.size", "http.response.body.size") == sizes
    assert facts(span, "usage.operation", "server.address", "http.request.method") == (
        f"shop.Shop/{method}", "127.0.0.1", "POST",
    )  # fmt: skip
    assert (span.kind, span.status_code == "error") == ("client", outcome != OK)
    assert 0 < float(str(span.attributes["usage.time_to_first_byte"])) * 1e9 <= span.duration


@every_run
def test_each_time_that_an_interceptor_calls_is_an_attempt(run_of: RunOf, face: str, mode: str) -> None:
    statuses = [span.attributes["http.response.status_code"] for span in run_of(face, mode).of("again")]
    assert statuses == [503] * 3


@every_run
def test_calls_at_the_same_time_are_not_mixed_up(run_of: RunOf, face: str, mode: str) -> None:
    spans = run_of(face, mode).of("concurrent")
    found = {facts(span, "usage.operation", "http.request.body.size", "http.response.body.size") for span in spans}
    assert len(spans) == 8
    assert found == {(f"call-{n}", 100 + n, 200 + 2 * n) for n in range(8)}


@every_run
def test_a_call_that_nobody_names_is_named_for_host_and_method(run_of: RunOf, face: str, mode: str) -> None:
    (span,) = run_of(face, mode).of("127.0.0.1")
    assert span.attributes["usage.operation"] == "shop.Shop/echo"


@every_run
def test_the_customer_is_told_to_a_trusted_host_and_to_no_other(run_of: RunOf, face: str, mode: str) -> None:
    run = run_of(face, mode)
    *own, ours = run.trusted.baggage[b"told"]
    members = dict(member.split("=", 1) for member in ours.split(","))
    assert (members["usage.customer.id"], members["usage.tier"]) == (CUSTOMER, "2")
    assert members["usage.signature"].startswith("k1.")
    others = {
        member for lines in (own, run.elsewhere.baggage[b"untold"]) for line in lines for member in line.split(",")
    }
    assert others
    assert others <= {"own=1", "team=blue"}, "the application's own, and what the official instrumentation injects"
    assert (run.trusted.kept[b"told"], run.elsewhere.kept[b"untold"]) == ("1", "1")
    for case in ("told", "untold"):
        (span,) = run.of(case)
        assert span.attributes["usage.customer.id"] == CUSTOMER
        assert span.parent_span_id in {each.span_id for each in run.spans if each.name == "work"}


@every_run
def test_no_call_is_recorded_that_no_case_has_made(run_of: RunOf, face: str, mode: str) -> None:
    """None is seen twice, none that was suppressed, and none after usage was switched off."""
    run = run_of(face, mode)
    left_out = ONLY_SYNC if face == "async" else ()
    cases = {*EXPECTED, "again", "concurrent", "told", "untold", "127.0.0.1"} - set(left_out)
    assert {span.attributes.get("usage.provider") for span in run.spans} == {*cases, None}
    assert len(run.spans) == len(cases) + 7 + 2 + 2, "eight at a time, three attempts, and two pieces of work"
    assert run.trusted.calls["echo"] >= 4


@every_run
def test_the_program_ends_well_and_says_nothing(run_of: RunOf, face: str, mode: str) -> None:
    run = run_of(face, mode)
    assert run.returned == 0, run.log
    assert "usage" not in run.log
