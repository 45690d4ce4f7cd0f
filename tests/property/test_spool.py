"""Whatever two processes do with one spool file, it is the list that it should be: a model, step by step."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_usage.payload import EncodedPayload
from otel_usage.spool.contract import Turn
from otel_usage.spool.database import Database
from otel_usage.spool.disk import DiskSpool
from otel_usage.spool.place import Origin
from tests.e2e.test_delivery import Clock

ORIGIN = Origin("https://sink.example/v1/traces", "api_usage", "gateway")
PROCESSES = st.integers(0, 1)
BATCH = 6
LONGEST = 50.0


def payload(first: int, count: int) -> EncodedPayload:
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    for number in range(first, first + count):
        scope.spans.add(name=str(number))
    return EncodedPayload.of(request.SerializeToString(), count)


def numbers(found: EncodedPayload) -> list[int]:
    request = ExportTraceServiceRequest.FromString(found.request)
    return [int(span.name) for part in request.resource_spans for scope in part.scope_spans for span in scope.spans]


class TwoProcesses(RuleBasedStateMachine):
    """The model is a list of (owner, numbers, time, attempts)."""

    @initialize()
    def begin(self) -> None:
        self.directory = Path(tempfile.mkdtemp())
        self.clock = Clock()
        self.spools = [self.open(), self.open()]
        self.names = [0, 1]
        self.rows: list[tuple[int, list[int], float, int]] = []
        self.next_number = 0
        self.next_name = 2

    def open(self) -> DiskSpool:
        path = ORIGIN.file_in(self.directory)
        return DiskSpool(
            Database(path, ORIGIN), most_bytes=1 << 30, longest=LONGEST, batch=BATCH, pause=0.0, clock=self.clock
        )

    @rule(who=PROCESSES, count=st.integers(1, 4))
    def put(self, who: int, count: int) -> None:
        made = payload(self.next_number, count)
        evicted = self.spools[who].put(made)
        old = []
        while self.rows and self.rows[0][2] < self.clock.now - LONGEST:
            old.append(self.rows.pop(0))
        mine = sum(len(row[1]) for row in old if row[0] == self.names[who])
        others = sum(len(row[1]) for row in old) - mine
        assert sum(evicted.mine.values()) == mine
        assert sum(evicted.others.values()) == others
        self.rows.append((self.names[who], numbers(made), self.clock.now, 0))
        self.next_number += count

    @rule(seconds=st.floats(0, 30))
    def time_passes(self, seconds: float) -> None:
        self.clock.now += seconds

    @precondition(lambda self: self.rows)
    @rule(who=PROCESSES, keep=st.booleans())
    def replay(self, who: int, keep: bool) -> None:
        with self.spools[who].turn() as turn:
            assert turn is Turn.MINE
            entry = self.spools[who].oldest(well=True)
            assert entry is not None
            taken = [self.rows.pop(0)]
            for row in [row for row in self.rows if row[0] == taken[0][0] and row[3] == taken[0][3] == 0]:
                if sum(len(one[1]) for one in taken) + len(row[1]) > BATCH:
                    break
                taken.append(row)
                self.rows.remove(row)
            assert isinstance(entry.payload, EncodedPayload)
            assert numbers(entry.payload) == [number for row in taken for number in row[1]]
            assert entry.mine == (taken[0][0] == self.names[who])
            left = None
            if keep and entry.payload.count > 1:
                _, left = entry.payload.halves()
                self.rows.insert(0, (taken[0][0], numbers(left), taken[0][2], taken[0][3] + 1))
            assert self.spools[who].replace(entry, left) == entry.payload.count

    @rule(who=PROCESSES)
    def dies_and_starts_anew(self, who: int) -> None:
        self.spools[who].close()
        self.spools[who] = self.open()
        self.names[who], self.next_name = self.next_name, self.next_name + 1

    @invariant()
    def both_see_what_is_there(self) -> None:
        for who, spool in enumerate(self.spools):
            kept = spool.kept()
            assert kept.spans == sum(len(row[1]) for row in self.rows)
            assert kept.mine == sum(len(row[1]) for row in self.rows if row[0] == self.names[who])
            assert (kept.size > 0) == bool(self.rows)

    def teardown(self) -> None:
        for spool in self.spools:
            spool.close()
        shutil.rmtree(self.directory)


TwoProcesses.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestTwoProcesses = TwoProcesses.TestCase
