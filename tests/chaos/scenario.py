"""One run: a service with its client of telemetry, a sink, a load, a fault; and the books at the end."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.chaos import service
from tests.chaos.faults import WIRE_FAULTS
from tests.chaos.load import Answer, Load, latencies, p99, produced
from tests.chaos.processes import Service
from tests.chaos.sink import Sink

WARM_UP: Final = 0.5
"""Seconds at the start of the healthy phase that count for delivery and not for latency."""

CERTAIN_BEFORE_KILL: Final = 1.0
"""Seconds before SIGKILL up to which everything must survive: what is younger may be lost, and is not counted."""

SLICES: Final = 4
"""Parts of the healthy phase whose p99 are compared, to know what a difference of p99 is worth."""

CATCH_UP_RATE: Final = 500.0
"""Spans per second that any client is given time for when it sends what has piled up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do, in seconds and requests per second."""

    variant: str
    fault: str
    """A name of ``faults.FAULTS``."""
    rate: float = 300.0
    healthy: float = 3.0
    faulty: float = 8.0
    after: float = 1.0
    patience: float | None = None
    """Seconds of silence after which nothing more is expected. None: what the variant may need (``patience_of``)."""
    workers: int = 1
    quick_breaker: tuple[float, float] | None = None
    """The breaker's first and longest delay, for ``otel_usage``. None: its defaults."""
    schedule_delay: float | None = None
    """For ``otel_usage``. None: its default."""
    spool: str | None = None
    """``USAGE_SPOOL``. None: a directory of the run."""

    @property
    def silence(self) -> float:
        return self.patience if self.patience is not None else patience_of(self.variant, self.fault, self.faulty)


def patience_of(variant: str, fault: str, outage: float) -> float:
    """Seconds in which a variant that has anything left sends something, by what its source says about its retries."""
    return {
        # The breaker's delay doubles from 5 s up to 60 s, so it is hardly longer than the outage was. A 401 pauses a
        # minute.
        "otel_usage": 65.0 if fault == "401" else min(65.0, outage + 15),
        # A batch each 5 s; 10 s for one export, retries included, and nothing is kept after that.
        "batch": 17.0,
        # Waits double from 1 s with a jitter of up to as much again, up to 128 s: 2 * 128 at most.
        "logfire": min(260.0, 2 * outage + 15),
        # A cycle each 15 s, with a tenth of jitter, and up to 10 s for a request.
        "apitally": 28.0,
    }.get(variant, 0.0)


@dataclass(slots=True)
class Result:
    """What became of a run."""

    plan: Plan
    scenario: str
    produced: int = 0
    """Requests that were answered with 200."""
    delivered: int = 0
    """Of those, the ones whose id is at the sink."""
    rejected: int = 0
    """Of those, the ones that the sink refused for good, and said so."""
    lost: int = 0
    """The rest."""
    duplicated: int = 0
    """Arrivals of a span that had arrived before."""
    recorded_twice: int = 0
    """Arrivals of a second span about the same request."""
    counted: int = 0
    """Requests by aggregated counts, of a client that sends such."""
    failed_requests: int = 0
    recovery: float | None = None
    """Seconds from healing to the first span taken. None: none was."""
    healthy_p99: float = float("nan")
    fault_p99: float = float("nan")
    noise: float = float("nan")
    """Spread of the p99 of ``SLICES`` parts of the healthy phase."""
    exit_seconds: float = float("nan")
    rss_growth: int = 0
    """Bytes, from the start of the fault phase to its highest sample."""
    youngest_lost: int = 0
    """Requests answered within ``CERTAIN_BEFORE_KILL`` before a SIGKILL that did not arrive. Not among ``lost``."""
    lost_ids: list[str] = field(default_factory=list)
    healths: list[dict[str, Any]] = field(default_factory=list)
    """What ``/health`` said at the end of the fault phase, and when all had arrived or was given up."""
    log: str = ""
    """What the service had to say."""

    @property
    def p99_added(self) -> float:
        return self.fault_p99 - self.healthy_p99

    @property
    def balanced(self) -> bool:
        """Whether every ledger that was seen added up. Of ``otel_usage`` only."""
        return all(each["ledger"]["balanced"] for each in self.healths if "ledger" in each)


class Run:
    """The parts of a run that is under way, with the moves that scenarios are made of."""

    def __init__(self, plan: Plan, scenario: str, directory: Path, sink: Sink) -> None:
        self.plan = plan
        self.sink = sink
        self.result = Result(plan, scenario)
        self._directory = directory
        self._loads: list[Load] = []
        self.service = self._serve()

    def _serve(self) -> Service:
        return Service(environment(self.plan, self._directory, self.sink), self._log, workers=self.plan.workers)

    @property
    def _log(self) -> Path:
        return self._directory / "service.log"

    @property
    def answers(self) -> list[Answer]:
        return [answer for load in self._loads for answer in load.answers]

    def start_load(self) -> None:
        load = Load(self.service.port, self.plan.rate, f"r{len(self._loads)}")
        self._loads.append(load)
        load.start()

    def stop_load(self) -> None:
        self._loads[-1].stop()

    def healthy_phase(self) -> None:
        """Traffic and a sink that is well."""
        self.start_load()
        time.sleep(WARM_UP)
        began = time.monotonic()
        time.sleep(self.plan.healthy)
        ended = time.monotonic()
        self.result.healthy_p99 = p99(latencies(self.answers, began, ended))
        part = (ended - began) / SLICES
        parts = [p99(latencies(self.answers, began + n * part, began + (n + 1) * part)) for n in range(SLICES)]
        self.result.noise = max(parts) - min(parts)

    def fault_phase(self) -> None:
        """Traffic goes on, and the sink does what it is told."""
        rss = [self.service.rss]
        self.sink.fail_with(self.plan.fault)
        began = time.monotonic()
        while (left := began + self.plan.faulty - time.monotonic()) > 0:
            time.sleep(min(0.5, left))
            rss.append(self.service.rss)
        self.result.fault_p99 = p99(latencies(self.answers, began, time.monotonic()))
        self.result.rss_growth = max(rss) - rss[0]
        self.look()

    def look(self) -> None:
        """Remember what ``/health`` says now."""
        self.result.healths.append(self.service.health())

    def start_anew(self) -> None:
        """The service again, with everything that the last one left on disk."""
        self.service = self._serve()

    def wait_for(self, wanted: set[str]) -> None:
        """Until the sink has accounted for ``wanted``, or has been silent for long, or the time that catching up may
        take is over.
        """
        began = time.monotonic()
        ends = began + 2 * self.plan.silence + len(wanted) / CATCH_UP_RATE
        while time.monotonic() < ends:
            summary = self.sink.summary()
            if summary["unique"] + summary["rejected"] >= len(wanted) and not self._missing(wanted):
                return
            if time.monotonic() - max(began, summary["last"]) > self.plan.silence:
                return
            time.sleep(0.25)

    def _missing(self, wanted: set[str]) -> set[str]:
        taken, rejected = self.sink.ids()
        return wanted - taken - rejected

    def terminate(self) -> None:
        self.result.exit_seconds = self.service.terminate()

    def account(self, wanted: set[str]) -> Result:
        """Close the books: what became of ``wanted``."""
        taken, rejected = self.sink.ids()
        summary, result = self.sink.summary(), self.result
        lost = wanted - taken - rejected
        result.produced = len(wanted)
        result.delivered = len(wanted & taken)
        result.rejected = len(wanted & rejected)
        result.lost, result.lost_ids = len(lost), sorted(lost)
        result.youngest_lost = len(produced(self.answers) - wanted - taken)
        result.duplicated = summary["duplicates"]
        result.recorded_twice = summary["recorded_twice"]
        result.counted = summary["counted"]
        result.recovery = summary["recovery"]
        result.failed_requests = sum(answer.status != 200 for answer in self.answers)
        result.log = self._log.read_text(errors="replace")
        return result


def environment(plan: Plan, directory: Path, sink: Sink) -> dict[str, str]:
    """Everything that any variant reads. Temporary files stay in the run's directory and outlive its services."""
    temporary = directory / "tmp"
    temporary.mkdir(exist_ok=True)
    found = {
        **os.environ,
        service.VARIANT: plan.variant,
        service.SINK: sink.url,
        "TMPDIR": str(temporary),
        "OTEL_SERVICE_NAME": "chaos",
        "USAGE_TELEMETRY": "1",
        "USAGE_OTLP_ENDPOINT": sink.url,
        "USAGE_SPOOL": plan.spool or str(directory / "spool"),
        "APITALLY_OTLP_ENDPOINT": sink.url,
        "APITALLY_WRITE_TOKEN": "apt_" + "0" * 24,
    }
    if plan.fault in WIRE_FAULTS:
        # One certificate, and the variables by which the variants are told to trust it: Python's, requests', OTLP's.
        trust = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "OTEL_EXPORTER_OTLP_CERTIFICATE")
        found |= dict.fromkeys(trust, str(sink.ca_file))
    if plan.quick_breaker is not None:
        first, longest = map(str, plan.quick_breaker)
        found |= {service.FIRST_DELAY: first, service.LONGEST_DELAY: longest}
    if plan.schedule_delay is not None:
        found[service.SCHEDULE_DELAY] = str(plan.schedule_delay)
    found.pop("PYTEST_CURRENT_TEST", None)  # Apitally does nothing where it sees a test
    return found


@contextmanager
def running(plan: Plan, scenario: str) -> Iterator[Run]:
    """A sink and a service; both are gone afterwards, whatever happened, and so are their files."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        directory = Path(name)
        with Sink(directory, tls=plan.fault in WIRE_FAULTS) as sink:
            run = Run(plan, scenario, directory, sink)
            try:
                yield run
            finally:
                for load in run._loads:
                    load.stop()
                run.service.kill()


def fault(plan: Plan) -> Result:
    """The sink fails and recovers while requests come; the service lives on and ends in peace."""
    with running(plan, plan.fault) as run:
        run.healthy_phase()
        run.fault_phase()
        run.sink.heal()
        time.sleep(plan.after)
        run.stop_load()
        run.wait_for(produced(run.answers))
        run.look()
        run.terminate()
        return run.account(produced(run.answers))


def kill9(plan: Plan) -> Result:
    """SIGKILL in an outage, with requests under way; the sink recovers; the service is started anew."""
    with running(plan, "kill9") as run:
        run.healthy_phase()
        run.fault_phase()
        killed = time.monotonic()
        run.service.kill()
        run.stop_load()
        wanted = produced(run.answers, until=killed - CERTAIN_BEFORE_KILL)
        run.sink.heal()
        run.start_anew()
        run.wait_for(wanted)
        run.look()
        run.terminate()
        return run.account(wanted)


def restart(plan: Plan) -> Result:
    """SIGTERM in an outage, with requests under way, and a start anew before the sink recovers."""
    with running(plan, "restart") as run:
        run.healthy_phase()
        run.fault_phase()
        run.terminate()
        run.stop_load()
        wanted = produced(run.answers)
        run.start_anew()
        run.sink.heal()
        run.wait_for(wanted)
        run.look()
        run.service.terminate()  # the exit that is measured is the one in the outage
        return run.account(wanted)


def outage(plan: Plan) -> Result:
    """``fault`` by another name: long, and a matter of memory and of catching up."""
    result = fault(plan)
    result.scenario = "outage"
    return result


SCENARIOS: Final = {"kill9": kill9, "restart": restart, "outage": outage}
"""What is more than a fault; each in an outage in which connections are refused, unless the plan says otherwise."""
