"""Servers of gRPC, sync, async and async with sync handlers, as real processes, in each way that usage is switched on:
each RPC is one request span, whatever becomes of it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

import grpc
import pytest

from otel_usage.attribution import AttributionSigner
from otel_usage.baggage import UsageBaggage
from otel_usage.hosts import HostPatterns
from otel_usage.identity import UsageIdentity
from otel_usage.ledger import DropCounter
from otel_usage.testing import AxiomStub, ReceivedSpan
from tests.conformance.clients.upstream import upstream
from tests.conformance.faces import Face
from tests.conftest import TOKEN
from tests.outside import facts, outcome
from tests.servers import free_port, server_process

FACES: Final = (Face("sync"), Face("async"), Face("migrated"))
MODES: Final = ("zero-code", "by-hand")
SECRET: Final = "0123456789abcdef0123456789abcdef"
CALLER: Final = bytes.fromhex("0af7651916cd43dd8448eb211c80319c"), bytes.fromhex("b7ad6b7169203331")
TRACEPARENT: Final = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
CONCURRENT: Final = 12
LONGEST: Final = 20
"""Seconds that a call may take."""

Metadata = tuple[tuple[str, str], ...]
Call = Callable[["Client"], Any]


class Client:
    """A client on the other side: usage is not on in this process. Each case's calls carry its name as their id."""

    def __init__(self, channel: grpc.Channel, limited: grpc.Channel, case: str) -> None:
        self.channel, self.limited, self._case = channel, limited, case

    def told(self, *metadata: tuple[str, str]) -> dict[str, Any]:
        return {"metadata": (("x-request-id", self._case), *metadata), "timeout": LONGEST}

    def unary(self, method: str, *metadata: tuple[str, str], service: str = "Shop", request: bytes = b"abc") -> Any:
        """The answer, or the status that there is in its place."""
        try:
            return self.channel.unary_unary(f"/shop.{service}/{method}")(request, **self.told(*metadata))
        except grpc.RpcError as error:
            return error.code()

    def streamed(self, method: str, request: bytes = b"3") -> Any:
        try:
            return list(self.channel.unary_stream(f"/shop.Shop/{method}")(request, **self.told()))
        except grpc.RpcError as error:
            return error.code()


def signed() -> str:
    """Baggage as another service of ours writes it, beside what is the application's."""
    hosts = HostPatterns("X", ["rpc.internal"])
    writer = UsageBaggage(AttributionSigner({"k1": SECRET}, hosts), hosts, DropCounter())
    identity = UsageIdentity(customer_id="acme", tier=2, auth_kind="jwt", provenance="verified")
    return ",".join(writer.outgoing("own=1", "rpc.internal", 80, identity, CALLER))


def concurrent(client: Client) -> list[Any]:
    with ThreadPoolExecutor(CONCURRENT) as pool:
        return list(
            pool.map(lambda n: client.unary("echo", ("customer", f"c{n}"), request=b"x" * (100 + n)), range(CONCURRENT))
        )


def cancel(client: Client) -> Any:
    answers = client.channel.unary_stream("/shop.Shop/endless")(b"", **client.told())
    first = next(answers)
    answers.cancel()
    return first


def too_many(client: Client) -> Any:
    """While one is served, there is no room for another."""
    going_on = client.limited.unary_stream("/shop.Shop/endless")(b"", metadata=(("x-request-id", "going_on"),))
    next(going_on)
    try:
        client.limited.unary_unary("/shop.Shop/echo")(b"abc", **client.told())
    except grpc.RpcError as error:
        return error.code()
    finally:
        going_on.cancel()


def out_of_time(client: Client) -> Any:
    try:
        list(client.channel.unary_stream("/shop.Shop/endless")(b"", metadata=client.told()["metadata"], timeout=0.3))
    except grpc.RpcError as error:
        return error.code()


CASES: Final[dict[str, Call]] = {
    "echo": lambda client: client.unary("echo", ("customer", "acme")),
    "registered": lambda client: client.unary("echo", service="Registered"),
    "streamed": lambda client: client.streamed("count"),
    "written": lambda client: client.streamed("write"),
    "joined": lambda client: client.channel.stream_unary("/shop.Shop/join")(iter((b"ab", b"c")), **client.told()),
    "doubled": lambda client: list(
        client.channel.stream_stream("/shop.Shop/double")(iter((b"ab", b"c")), **client.told(("customer", "acme")))
    ),
    "missing": lambda client: client.unary("missing"),
    "unavailable": lambda client: client.unary("unavailable"),
    "forbidden": lambda client: client.unary("forbidden"),
    "rejected": lambda client: client.unary("rejected"),
    "broken": lambda client: client.unary("broken", ("customer", "acme")),
    "broken_late": lambda client: client.streamed("broken_late"),
    "unreadable": lambda client: client.unary("unreadable"),
    "unwritable": lambda client: client.unary("unwritable"),
    "unknown": lambda client: client.unary("nothing", service="Secret-4711"),
    "refused": lambda client: client.unary("echo", ("refuse", "1")),
    "refused_unknown": lambda client: client.unary("nothing", ("refuse", "1"), service="Secret-4711"),
    "upstream": lambda client: client.unary("upstream", ("customer", "acme")),
    "background": lambda client: client.unary("background", ("customer", "acme")),
    "traced": lambda client: client.unary("seen", ("traceparent", TRACEPARENT)),
    "untraced": lambda client: client.unary("seen"),
    "vouched": lambda client: client.unary("seen", ("baggage", signed())),
    "concurrent": concurrent,
    "cancelled": cancel,
    "out_of_time": out_of_time,
    "too_many": too_many,
}


def cannot(face: str, mode: str, case: str) -> str | None:
    """Why a case is not to be had, in whosever hands usage is. None: it is."""
    if face == "migrated" and case in ("cancelled", "out_of_time", "too_many"):
        return "gRPC's async server never ends where the client of a sync handler has left"
    if (face, mode, case) == ("async", "zero-code", "written"):
        return "the official instrumentation, which is on, takes a handler that writes for one that yields"
    return None


@dataclass
class Run:
    """What has come of the calls."""

    spans: list[ReceivedSpan] = field(default_factory=list)
    answers: dict[str, Any] = field(default_factory=dict)
    log: str = ""

    def requests(self, case: str) -> list[ReceivedSpan]:
        return [span for span in self.spans if span.attributes.get("usage.client.request_id") == case]

    def one(self, case: str) -> ReceivedSpan:
        (span,) = self.requests(case)
        return span


RunOf = Callable[[str, str], Run]


@pytest.fixture(scope="module")
def run_of(tmp_path_factory: pytest.TempPathFactory) -> RunOf:
    """The one run of a server in a mode, made when it is first asked for."""

    @cache
    def run(face: str, mode: str) -> Run:
        with pytest.MonkeyPatch.context() as patch:
            place = tmp_path_factory.mktemp("rpc")
            patch.setenv("XDG_STATE_HOME", str(place))
            return performed(face, mode, place)

    return run


def performed(face: str, mode: str, place: Path) -> Run:
    port, found = free_port(), Run()
    with AxiomStub(token=TOKEN, dataset="api_usage") as sink, upstream() as called:
        instrument = ["opentelemetry-instrument"] if mode == "zero-code" else []
        command = [*instrument, "python", "rpc.py", face, mode, str(port), called.url]
        environment = {
            "USAGE_TELEMETRY": "1",
            "USAGE_OTLP_ENDPOINT": sink.url,
            "AXIOM_API_TOKEN": TOKEN,
            "USAGE_BAGGAGE_KEY": f"k1:{SECRET}",
            "USAGE_BAGGAGE_AUDIENCE": "rpc.internal",
            "USAGE_PERSONAL": "client.address,user_agent.original",
            **{f"OTEL_{signal}_EXPORTER": "none" for signal in ("TRACES", "METRICS", "LOGS")},
            **({"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "grpc_aio_server"} if face == "migrated" else {}),
        }
        with server_process(command, port, place, **environment) as (process, log):
            with (
                grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
                grpc.insecure_channel(f"127.0.0.1:{port + 1}") as limited,
            ):
                for case, call in CASES.items():
                    if not cannot(face, mode, case):
                        found.answers[case] = call(Client(channel, limited, case))
                _wait_for_the_last(sink)
            process.terminate()
            assert process.wait(15) == 0, log.read_text()
            found.log = log.read_text()
        found.spans = sink.unique_spans
    return found


def _wait_for_the_last(sink: AxiomStub) -> None:
    """The work in the background, which nobody waits for."""
    deadline = time.monotonic() + 10
    while not any(span.attributes.get("http.response.body.size") == 50 for span in sink.spans):
        assert time.monotonic() < deadline
        time.sleep(0.02)


every_run = pytest.mark.parametrize(("face", "mode"), [(face, mode) for face in FACES for mode in MODES])

Outcome = tuple[Any, ...]

OK: Final = (200, "ok", None, None)
CRASHED: Final = (500, "unhandled_exception", None, "LookupError")

EXPECTED: Final[dict[str, tuple[Any, str | None, Outcome, tuple[int, int]]]] = {
    "echo": (b"abcabc", "/shop.Shop/echo", OK, (3, 6)),
    "registered": (b"abcabc", "/shop.Registered/echo", OK, (3, 6)),
    "streamed": ([b"00000", b"00001", b"00002"], "/shop.Shop/count", OK, (1, 15)),
    "written": ([b"00000", b"00001", b"00002"], "/shop.Shop/write", OK, (1, 15)),
    "joined": (b"ab+c", "/shop.Shop/join", OK, (3, 4)),
    "doubled": ([b"abab", b"cc"], "/shop.Shop/double", OK, (3, 6)),
    "missing": (grpc.StatusCode.NOT_FOUND, "/shop.Shop/missing", (404, "not_found", None, None), (3, 0)),
    "unavailable": (
        grpc.StatusCode.UNAVAILABLE, "/shop.Shop/unavailable", (503, "server_error", None, "UNAVAILABLE"), (3, 0),
    ),
    "forbidden": (grpc.StatusCode.PERMISSION_DENIED, "/shop.Shop/forbidden", (403, "auth_403", None, None), (3, 0)),
    "rejected": (grpc.StatusCode.PERMISSION_DENIED, "/shop.Shop/rejected", (403, "tier_403", None, None), (3, 0)),
    "broken": (grpc.StatusCode.UNKNOWN, "/shop.Shop/broken", CRASHED, (3, 0)),
    "broken_late": (grpc.StatusCode.UNKNOWN, "/shop.Shop/broken_late", CRASHED, (1, 5)),
    "unwritable": (
        None, "/shop.Shop/unwritable", (500, "unhandled_exception", None, "ValueError"), (3, 0),
    ),
    "unreadable": (None, "/shop.Shop/unreadable", (500, "malformed_request", None, "INTERNAL"), (3, 0)),
    "unknown": (grpc.StatusCode.UNIMPLEMENTED, None, (404, "unknown_route", None, None), (0, 0)),
    "refused": (grpc.StatusCode.UNAUTHENTICATED, "/shop.Shop/echo", (401, "auth_401", None, None), (3, 0)),
    "refused_unknown": (grpc.StatusCode.UNAUTHENTICATED, None, (401, "auth_401", None, None), (3, 0)),
    "upstream": (b"x" * 100, "/shop.Shop/upstream", OK, (3, 100)),
    "background": (b"", "/shop.Shop/background", OK, (3, 0)),
    "cancelled": (b"12345", "/shop.Shop/endless", (499, "client_aborted", True, None), (0, 5)),
    "out_of_time": (
        grpc.StatusCode.DEADLINE_EXCEEDED, "/shop.Shop/endless", (499, "client_aborted", True, None), (0, 5),
    ),
    "too_many": (grpc.StatusCode.RESOURCE_EXHAUSTED, "/shop.Shop/echo", (429, "rate_limit_429", None, None), (0, 0)),
}  # fmt: skip
"""By case: the client's answer (None: it differs between servers), route, outcome, and bytes both ways."""


@every_run
@pytest.mark.parametrize("case", EXPECTED)
def test_an_rpc_is_one_request_with_its_outcome_and_its_bytes(run_of: RunOf, face: str, mode: str, case: str) -> None:
    run = run_of(face, mode)
    if cannot(face, mode, case):
        assert run.requests(case) == []
        return
    answer, route, outcome_, sizes = EXPECTED[case]
    span = run.one(case)
    assert answer is None or run.answers[case] == answer
    assert (span.kind, span.name) == ("server", f"POST {route}" if route else "POST"), run.log
    assert facts(span, "http.route", "http.request.method") == (route, "POST")
    assert outcome(span) == outcome_
    assert facts(span, "http.request.body.size", "http.response.body.size") == sizes


@every_run
def test_it_says_who_called_from_where_and_by_what(run_of: RunOf, face: str, mode: str) -> None:
    span = run_of(face, mode).one("echo")
    assert facts(span, "usage.customer.id", "usage.tier", "usage.auth.kind", "usage.identity.provenance") == (
        "acme", 1, "user_api_key", "verified",
    )  # fmt: skip
    assert facts(span, "client.address", "usage.domain") == ("127.0.0.1", "shop.Shop")
    assert str(span.attributes["user_agent.original"]).startswith("grpc-python/")
    assert 0 < float(str(span.attributes["usage.time_to_first_byte"])) * 1e9 <= span.duration


@every_run
def test_an_interceptor_may_say_who_called(run_of: RunOf, face: str, mode: str) -> None:
    assert run_of(face, mode).one("refused").attributes["usage.customer.id"] == "refused"


@every_run
def test_rpcs_at_the_same_time_are_not_mixed_up(run_of: RunOf, face: str, mode: str) -> None:
    run = run_of(face, mode)
    found = {facts(span, "usage.customer.id", "http.request.body.size") for span in run.requests("concurrent")}
    assert found == {(f"c{n}", 100 + n) for n in range(CONCURRENT)}
    assert [len(answer) for answer in run.answers["concurrent"]] == [2 * (100 + n) for n in range(CONCURRENT)]


@every_run
@pytest.mark.parametrize(("case", "size"), [("upstream", 100), ("background", 50)])
def test_what_it_calls_is_the_callers_too(run_of: RunOf, face: str, mode: str, case: str, size: int) -> None:
    run = run_of(face, mode)
    request = run.one(case)
    (call,) = [span for span in run.spans if span.parent_span_id == request.span_id]
    assert call.trace_id == request.trace_id
    assert facts(call, "usage.provider", "usage.customer.id", "usage.route", "http.response.body.size") == (
        "pricing", "acme", f"/shop.Shop/{case}", size,
    )  # fmt: skip
    if case == "upstream":
        assert facts(request, "usage.upstream.count", "usage.upstream.response.size") == (1, 100)


@every_run
def test_it_is_in_the_callers_trace_or_in_that_of_the_service_itself(run_of: RunOf, face: str, mode: str) -> None:
    run = run_of(face, mode)
    assert run.one("traced").trace_id == TRACEPARENT.split("-")[1]
    theirs = run.answers["untraced"].decode().rpartition("|")[2]
    if mode == "zero-code" and face != "migrated":  # whose handlers the official instrumentation takes for async ones
        assert run.one("untraced").trace_id == theirs, "the official instrumentation is on, and its span is current"
        assert run.one("untraced").links
    else:
        assert set(theirs) == {"0"}


@every_run
def test_a_service_of_ours_vouches_for_the_customer_and_the_application_does_not_see_that(
    run_of: RunOf, face: str, mode: str
) -> None:
    run = run_of(face, mode)
    span = run.one("vouched")
    assert (span.trace_id, span.parent_span_id) == (CALLER[0].hex(), CALLER[1].hex())
    assert facts(span, "usage.customer.id", "usage.tier", "usage.identity.provenance") == ("acme", 2, "verified")
    header, ambient, _ = run.answers["vouched"].decode().split("|")
    assert header == "baggage=own=1"
    assert ambient in ("", "own")


@every_run
def test_there_is_no_other_span(run_of: RunOf, face: str, mode: str) -> None:
    run = run_of(face, mode)
    cases = Counter(
        str(span.attributes["usage.client.request_id"])
        for span in run.spans
        if span.attributes["usage.kind"] == "request"
    )
    performed = {case: CONCURRENT if case == "concurrent" else 1 for case in run.answers}
    assert cases == performed | ({"going_on": 1} if "too_many" in performed else {})
    assert len(run.spans) == cases.total() + 2, "and the two upstream calls"


@every_run
def test_no_error_of_ours_was_met(run_of: RunOf, face: str, mode: str) -> None:
    assert "otel_usage" not in run_of(face, mode).log
