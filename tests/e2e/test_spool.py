"""What cannot be sent is kept on disk, whatever the disk does, and leaves it in order, by one process at a time."""

from __future__ import annotations

import gzip
import logging
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_usage.circuit_breaker import BreakerPolicy, CircuitBreaker
from otel_usage.config import SpoolMode, UsageConfig
from otel_usage.delivery.backlog import Backlog
from otel_usage.delivery.sender import Sent
from otel_usage.exporters.encoder import Encoder
from otel_usage.exporters.otlp_http import OtlpHttpExporter
from otel_usage.exporters.redacting import Redactor
from otel_usage.ledger import Account, Ledger
from otel_usage.local.receiver import Exchange
from otel_usage.payload import EncodedPayload, Payload
from otel_usage.processors.circuit_breaking import CircuitBreakingSpanProcessor
from otel_usage.spool.contract import Entry, Spool, SpoolError, SpoolReplaced, Turn
from otel_usage.spool.database import Database
from otel_usage.spool.disk import DiskSpool
from otel_usage.spool.memory import MemorySpool
from otel_usage.spool.opening import open_spool
from otel_usage.spool.place import FORMAT, Origin, default_directory
from otel_usage.spool.sheltered import ShelteredSpool
from otel_usage.testing import AxiomStub, Poison, Reset, Status
from tests.e2e.test_delivery import HEADERS, Clock, delivering, end, eventually, logged, numbered, span

ORIGIN = Origin("https://sink.example/v1/traces", "api_usage", "gateway")
DAY = 86400.0


def disk(directory: Path, **settings: Any) -> DiskSpool:
    return DiskSpool(
        Database(ORIGIN.file_in(directory), ORIGIN), **{"most_bytes": 1 << 30, "longest": DAY, "pause": 0.0, **settings}
    )


def payload(*names: str) -> EncodedPayload:
    made = Encoder(Redactor())([span(name) for name in names]).payload
    assert isinstance(made, EncodedPayload)
    return made


def names(found: EncodedPayload) -> list[str]:
    request = ExportTraceServiceRequest.FromString(found.request)
    return [one.name for resource in request.resource_spans for scope in resource.scope_spans for one in scope.spans]


def drained(spool: Any) -> list[str]:
    """The names of all spans in the spool, in order, taken out of it."""
    found: list[str] = []
    while True:
        with spool.turn() as turn:
            assert turn is Turn.MINE
            entry = spool.oldest(well=True)
            if entry is None:
                return found
            found += names(entry.payload)
            assert spool.replace(entry, None)


def quick_breaker() -> CircuitBreaker:
    return CircuitBreaker(time.monotonic, BreakerPolicy(first_delay=0.1))


@contextmanager
def spooling(stub: AxiomStub, spool: Any, **settings: Any) -> Iterator[CircuitBreakingSpanProcessor]:
    with delivering(OtlpHttpExporter(stub.endpoint, HEADERS, 1.0), spool=spool, **settings) as processor:
        yield processor


# -- the file ----------------------------------------------------------------------------------------------------------


def test_payloads_come_out_whole_in_the_order_in_which_they_went_in(tmp_path: Path) -> None:
    spool = disk(tmp_path)
    for number in range(20):
        spool.put(payload(f"{number:02d}a", f"{number:02d}b"))
    assert spool.kept().mine == spool.kept().spans == 40
    assert drained(spool) == [f"{number:02d}{letter}" for number in range(20) for letter in "ab"]
    assert spool.kept().spans == spool.kept().size == 0
    spool.close()


def test_nothing_is_made_before_something_has_to_be_kept(tmp_path: Path) -> None:
    spool = disk(tmp_path / "state" / "otel_usage")
    assert spool.kept().spans == 0
    assert not (tmp_path / "state").exists()


def test_the_file_is_this_users_alone(tmp_path: Path) -> None:
    directory = tmp_path / "state" / "otel_usage"
    before = os.umask(0)
    try:
        spool = disk(directory)
        spool.put(payload("a"))
        with spool.turn():
            spool.oldest(well=True)
        found = list(directory.iterdir())
    finally:
        os.umask(before)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert len(found) >= 2
    assert {stat.S_IMODE(path.stat().st_mode) for path in found} == {0o600}
    spool.close()


def test_a_file_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    path = ORIGIN.file_in(tmp_path)
    path.touch(0o644)
    spool = disk(tmp_path)
    spool.put(payload("a"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    spool.close()


def test_a_link_in_the_place_of_the_file_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("precious")
    ORIGIN.file_in(tmp_path).symlink_to(target)
    with pytest.raises(SpoolError):
        disk(tmp_path).put(payload("a"))
    assert target.read_text() == "precious"


def test_another_sink_dataset_or_service_has_another_file(tmp_path: Path) -> None:
    origins = [ORIGIN, Origin("https://b/v1/traces", "api_usage", "gateway"), Origin(ORIGIN.endpoint, "b", "gateway")]
    origins.append(Origin(ORIGIN.endpoint, "api_usage", "b"))
    assert len({origin.file_in(tmp_path) for origin in origins}) == 4


def test_the_oldest_go_where_there_is_no_more_room(tmp_path: Path) -> None:
    payloads = [payload(f"{number:04d}") for number in range(10)]
    room = sum(one.size for one in payloads[-3:])
    spool = disk(tmp_path, most_bytes=room)
    assert sum(spool.put(one).mine.get("spool_full", 0) for one in payloads) == 7
    assert spool.kept().size == room
    assert drained(spool) == ["0007", "0008", "0009"]
    spool.close()


def test_what_is_too_old_goes_when_something_new_comes(tmp_path: Path) -> None:
    clock = Clock()
    spool = disk(tmp_path, longest=100.0, clock=clock)
    spool.put(payload("old", "old"))
    clock.now += 60
    spool.put(payload("younger"))
    clock.now += 41
    assert dict(spool.put(payload("new")).mine) == {"spool_expired": 2}
    assert drained(spool) == ["younger", "new"]
    spool.close()


@pytest.mark.parametrize("on_disk", [True, False])
def test_what_made_room_while_it_was_sent_is_counted_once(tmp_path: Path, on_disk: bool) -> None:
    payloads = [payload(f"{number:04d}", f"{number:04d}") for number in range(4)]
    room = 2 * payloads[0].size + 20
    spool: Spool = disk(tmp_path, most_bytes=room) if on_disk else MemorySpool(most_bytes=room)
    ledger = Ledger()
    backlog = Backlog(spool, ledger)

    def keep(one: EncodedPayload) -> None:
        ledger.queue.extend(range(one.count))
        ledger.take(one.count)
        backlog.keep(one, Account.IN_FLIGHT)

    def send(taken: Payload) -> Sent:
        for one in payloads[2:]:
            keep(one)
        return Sent(Counter({Account.ACCEPTED: taken.count}))

    for one in payloads[:2]:
        keep(one)
    assert backlog.replay(send, well=True)
    found = ledger.snapshot()
    assert found.balanced
    assert found.spooled == spool.kept().mine == 4
    assert found.accepted + found.dropped.get("spool_full", 0) == 4
    backlog.close()


def test_many_small_payloads_of_one_process_come_out_as_one_batch(tmp_path: Path) -> None:
    mine, other = disk(tmp_path, batch=10), disk(tmp_path)
    for number in range(7):
        mine.put(payload(f"{number}a", f"{number}b"))
    other.put(payload("x"))
    mine.put(payload("last"))
    sizes = []
    while True:
        with mine.turn():
            entry = mine.oldest(well=True)
            if entry is None:
                break
            sizes.append((entry.payload.count, entry.mine))
            assert mine.replace(entry, None)
    assert sizes == [(10, True), (5, True), (1, False)]
    assert mine.kept().spans == 0
    mine.close()
    other.close()


def test_what_is_left_of_a_batch_of_many_stays_in_its_place(tmp_path: Path) -> None:
    spool = disk(tmp_path, batch=3)
    for name in "abcd":
        spool.put(payload(name))
    with spool.turn():
        entry = spool.oldest(well=True)
        assert entry is not None
        _, rest = entry.payload.halves()
        assert spool.replace(entry, rest)
    assert drained(spool) == ["b", "c", "d"]
    spool.close()


def test_the_file_shrinks_when_the_outage_is_over(tmp_path: Path) -> None:
    spool = disk(tmp_path)
    for _ in range(50):
        spool.put(EncodedPayload(gzip.compress(os.urandom(20_000)), 1))
    path = ORIGIN.file_in(tmp_path)
    assert path.stat().st_size > 1_000_000
    while True:
        with spool.turn():
            entry = spool.oldest(well=True)
            if entry is None:
                break
            spool.replace(entry, None)
    assert path.stat().st_size < 100_000
    spool.close()


def test_two_processes_share_a_file_and_know_what_is_whose(tmp_path: Path) -> None:
    one, other = disk(tmp_path), disk(tmp_path)
    one.put(payload("a"))
    other.put(payload("b", "c"))
    assert (one.kept().mine, one.kept().spans) == (1, 3)
    assert (other.kept().mine, other.kept().spans) == (2, 3)
    with other.turn():
        entry = other.oldest(well=True)
        assert entry is not None
        assert not entry.mine
        assert other.replace(entry, None)
        assert other.replace(entry, None) == 0
    assert one.kept().mine == 0
    one.close()
    other.close()


def test_one_at_a_time_has_the_turn(tmp_path: Path) -> None:
    one, other = disk(tmp_path), disk(tmp_path)
    with one.turn() as first, other.turn() as second:
        assert (first, second) == (Turn.MINE, Turn.NOT_NOW)
    with other.turn() as third:
        assert third is Turn.MINE


def test_a_turn_in_which_the_sink_took_something_is_followed_by_a_pause(tmp_path: Path) -> None:
    one, other = disk(tmp_path, pause=60.0), disk(tmp_path, pause=60.0)
    one.put(payload("a"))
    for turns_before in range(2):
        with one.turn() as turn:
            assert turn is Turn.MINE, turns_before
    with one.turn():
        entry = one.oldest(well=True)
        assert entry is not None
        one.replace(entry, None)
    with one.turn() as turn:
        assert turn is Turn.NOT_NOW
    with other.turn() as turn:
        assert turn is Turn.OTHERS


HOLDER = """
import sys, time
from pathlib import Path
from otel_usage.spool.turn import ReplayTurn
with ReplayTurn(Path(sys.argv[1])).take(0.0) as turn:
    print(turn.name, flush=True)
    time.sleep(60)
"""


def test_the_turn_of_a_process_that_is_killed_is_free(tmp_path: Path) -> None:
    spool = disk(tmp_path)
    lock = ORIGIN.file_in(tmp_path).with_name(ORIGIN.file_in(tmp_path).name + ".lock")
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(lock)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "MINE\n"
        with spool.turn() as turn:
            assert turn is Turn.NOT_NOW
        holder.kill()
    with spool.turn() as turn:
        assert turn is Turn.MINE


# -- a disk that does not do -------------------------------------------------------------------------------------------


def damaged(path: Path) -> None:
    """A file whose pages are not SQLite's any more, past the first ones."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 40_000] = os.urandom(40_000)
    path.write_bytes(data)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def garbage(path: Path) -> None:
    path.write_bytes(b"this is no database " * 5000)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def without_tables(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("DROP TABLE payloads")
    db.close()


def of_another_version(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version = {FORMAT + 1}")
    db.close()


@pytest.mark.parametrize("harm", [damaged, truncated, garbage, emptied, without_tables, of_another_version])
def test_a_file_that_cannot_be_used_is_set_aside_and_said_and_the_rest_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, harm: Callable[[Path], None]
) -> None:
    path = ORIGIN.file_in(tmp_path)
    before = disk(tmp_path)
    for number in range(100):
        before.put(EncodedPayload(gzip.compress(os.urandom(5_000) + f"{number:03d}".encode()), 1))
    before.close()
    harm(path)
    spool = ShelteredSpool(disk(tmp_path))
    for number in range(3):
        spool.put(payload(f"new {number}"))
        spool.put(payload(f"new {number}"))
    kept = spool.kept()
    assert spool.perishable == 0
    assert spool.trouble is None
    found = []
    while True:
        with spool.turn() as turn:
            assert turn is Turn.MINE
            entry = spool.oldest(well=True)
            if entry is None and spool.kept().spans == 0:
                break
            if entry is None:
                continue  # it was found to be damaged just now
            assert isinstance(entry.payload, EncodedPayload)
            if entry.payload.intact:
                found += [entry.payload.request] * entry.payload.count
            with suppress(SpoolReplaced):
                spool.replace(entry, None)
    assert len(found) >= 6
    assert kept.spans >= 6
    if harm in (damaged, truncated):
        assert len(found) > 30, "what could be read was not taken over"
    if harm is not emptied:
        errors = logged(caplog, logging.ERROR)
        assert any(str(path) in message and ".aside" in message for message in errors)
        assert list(tmp_path.glob("*.aside"))
    spool.close()


def test_a_payload_that_is_damaged_in_a_sound_file_is_dropped_and_counted(
    tmp_path: Path, stub: AxiomStub, caplog: pytest.LogCaptureFixture
) -> None:
    stub.fail_with(Status(503))
    with spooling(stub, disk(tmp_path)) as processor:
        for name in ("a", "b", "c"):
            end(processor, name)
            processor.force_flush(2000)
        with sqlite3.connect(ORIGIN.file_in(tmp_path)) as db:
            body = db.execute("SELECT body FROM payloads WHERE id = 2").fetchone()[0]
            db.execute("UPDATE payloads SET body = ? WHERE id = 2", (body[:-8] + bytes([body[-8] ^ 1]) + body[-7:],))
        db.close()
        stub.heal()
        assert processor.force_flush(5000)
        ledger = processor.ledger()
    assert (ledger.accepted, ledger.dropped) == (2, {"spool_damaged": 1})
    assert [one.name for one in stub.spans] == ["a", "c"]
    assert any("damaged" in message for message in logged(caplog, logging.ERROR))


def test_a_file_of_another_version_is_left_as_it_is_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = ORIGIN.file_in(tmp_path)
    other = path.with_name(path.name.replace(f".v{FORMAT}.", f".v{FORMAT + 1}."))
    other.write_bytes(b"of the future")
    spool = disk(tmp_path)
    spool.put(payload("a"))
    assert other.read_bytes() == b"of the future"
    assert [message for message in logged(caplog, logging.WARNING) if str(other) in message]
    spool.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    place = tmp_path / "small"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = f"a small file system cannot be mounted here: {error}"
        if "CI" in os.environ:
            pytest.fail(reason)  # where it must not be missed
        pytest.skip(reason)
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_full_disk_costs_durability_and_nothing_else(
    small_disk: Path, stub: AxiomStub, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    filler = small_disk / "filler"
    filler.write_bytes(b"x" * 150_000)
    stub.fail_with(Status(503))
    clock = Clock()
    spool = ShelteredSpool(disk(small_disk), clock)
    with spooling(stub, spool, breaker=quick_breaker()) as processor:
        for batch in range(40):
            for number in range(5):
                processor.on_end(span(f"{batch:02d}.{number}", **{"usage.plan": os.urandom(600).hex()}))
            processor.force_flush(2000)
        assert spool.trouble == "the disk is full"
        assert processor.ledger().spooled == 200
        assert 0 < spool.perishable < 200
        filler.unlink()
        clock.now += 5  # until then the disk is left alone
        end(processor, "last")
        processor.force_flush(2000)
        assert (spool.trouble, spool.perishable) == (None, 0)
        stub.heal()
        time.sleep(0.2)
        deadline = time.monotonic() + 20
        while processor.ledger().left and time.monotonic() < deadline:
            processor.force_flush(500)
            clock.now += 5
        assert processor.ledger().accepted == 201
    assert [one.name for one in stub.unique_spans] == [f"{b:02d}.{n}" for b in range(40) for n in range(5)] + ["last"]
    said = [message for message in logged(caplog) if str(small_disk) in message]
    assert "the disk is full" in said[0]
    assert "again" in said[1]


def test_what_is_on_a_full_disk_can_leave_it(small_disk: Path, stub: AxiomStub) -> None:
    stub.fail_with(Status(503))
    with spooling(stub, ShelteredSpool(disk(small_disk)), breaker=quick_breaker()) as processor:
        for batch in range(10):
            for number in range(5):
                processor.on_end(span(f"{batch:02d}.{number}", **{"usage.plan": os.urandom(600).hex()}))
            processor.force_flush(2000)
        with (small_disk / "filler").open("wb", buffering=0) as filler, suppress(OSError):
            while filler.write(b"x" * 512):
                pass
        stub.heal()
        time.sleep(0.2)
        deadline = time.monotonic() + 10
        while processor.ledger().left and time.monotonic() < deadline:
            processor.force_flush(500)
            time.sleep(0.05)
        ledger = processor.ledger()
        assert (ledger.accepted, ledger.left) == (50, 0)
        assert ledger.balanced
    assert len(stub.spans) == len(stub.unique_spans) == 50


def test_a_disk_that_is_well_again_gets_what_waited_also_without_anything_new(tmp_path: Path, stub: AxiomStub) -> None:
    clock, path = Clock(), ORIGIN.file_in(tmp_path)
    stub.fail_with(Status(503))
    spool = ShelteredSpool(disk(tmp_path), clock)
    with spooling(stub, spool, schedule_delay=0.05) as processor:
        spool.put(payload("before"))
        with sqlite3.connect(path, isolation_level=None) as other:
            other.execute("BEGIN EXCLUSIVE")
            end(processor, "waits")
            eventually(lambda: spool.perishable == 1)
            assert spool.trouble == "another process holds it"
        other.close()
        clock.now += 5
        eventually(lambda: spool.perishable == 0)
        assert spool.trouble is None


def test_the_end_of_a_process_is_the_last_chance_of_a_disk(tmp_path: Path, stub: AxiomStub) -> None:
    stub.fail_with(Status(503))
    spool = ShelteredSpool(disk(tmp_path), Clock())  # a clock that stands still: the disk is not due
    with spooling(stub, spool) as processor:
        spool.put(payload("before"))
        with sqlite3.connect(ORIGIN.file_in(tmp_path), isolation_level=None) as other:
            other.execute("BEGIN EXCLUSIVE")
            end(processor, "waits")
            processor.force_flush(3000)
            assert spool.perishable == 1
        other.close()
    assert processor.ledger().spooled == 1
    assert processor.ledger().dropped == {}


def test_a_disk_that_is_held_does_not_hold_up_a_sink_that_is_well(tmp_path: Path, stub: AxiomStub) -> None:
    stub.fail_with(Status(503), times=1)
    left = disk(tmp_path)
    left.put(payload("left"))
    left.close()
    with sqlite3.connect(ORIGIN.file_in(tmp_path), isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        with spooling(stub, ShelteredSpool(disk(tmp_path)), schedule_delay=0.05) as processor:
            for number in range(40):
                end(processor, f"{number:02d}")
                time.sleep(0.05)
            eventually(lambda: len(stub.unique_spans) == 40)
            assert len(stub.spans) == 40
    other.close()


def test_what_goes_with_a_file_is_lost_and_not_handed_over(tmp_path: Path, stub: AxiomStub) -> None:
    stub.fail_with(Status(503))
    with spooling(stub, ShelteredSpool(disk(tmp_path)), schedule_delay=0.05) as processor:
        end(processor, *numbered(7))
        processor.force_flush(2000)
        assert processor.ledger().spooled == 7
        file = ORIGIN.file_in(tmp_path)
        damaged = file.stat().st_ino

        def lost() -> bool:
            # Again where a write that was under way has put its pages over the noise: it is the same file, and well.
            with suppress(FileNotFoundError):
                if file.read_bytes().startswith(b"SQLite") and file.stat().st_ino == damaged:
                    file.write_bytes(b"noise" * 5000)
            return processor.ledger().spooled == 0

        eventually(lost, 20)
        assert processor.ledger().dropped == {"spool_lost": 7}
        assert processor.ledger().balanced


def test_a_payload_that_always_fails_blocks_nothing_and_is_kept(tmp_path: Path, stub: AxiomStub) -> None:
    class Allergic:
        def strike(self, exchange: Exchange) -> Any:
            poisoned = any(received.name == "poison" for received in exchange.spans)
            return Status(500 if poisoned else 200, body=b"").strike(exchange) if poisoned else taken.strike(exchange)

    taken = Poison(lambda received: False)
    stub.fail_with(Allergic())
    for spool in (disk(tmp_path), MemorySpool(most_bytes=1 << 20)):
        stub.clear()
        with spooling(stub, spool, schedule_delay=0.02, breaker=quick_breaker()) as processor:
            end(processor, "poison")
            processor.force_flush(2000)
            for number in range(30):
                end(processor, f"{number:02d}")
                time.sleep(0.03)
            eventually(lambda: len(stub.unique_spans) == 30, timeout=15)
            assert processor.ledger().spooled == 1
            assert processor.ledger().balanced


def test_what_fails_for_one_span_is_cut_in_halves_until_that_is_alone(tmp_path: Path) -> None:
    clock = Clock()
    for spool in (disk(tmp_path, clock=clock), MemorySpool(most_bytes=1 << 20, clock=clock)):
        ledger = Ledger()
        backlog = Backlog(spool, ledger)
        ledger.queue.extend(range(8))
        ledger.take(8)
        backlog.keep(payload(*"abcdXfgh"), Account.IN_FLIGHT)

        def send(taken: Payload) -> Sent:
            assert isinstance(taken, EncodedPayload)
            if "X" in names(taken):
                return Sent(left=taken)
            return Sent(Counter({Account.ACCEPTED: taken.count}))

        for _ in range(60):
            backlog.replay(send, well=True)
            clock.now += 61
        found = ledger.snapshot()
        assert (found.accepted, found.spooled) == (7, 1)
        assert found.balanced
        backlog.close()


def test_a_lock_that_cannot_be_had_does_not_end_delivery(tmp_path: Path, stub: AxiomStub) -> None:
    lock = ORIGIN.file_in(tmp_path).with_name(ORIGIN.file_in(tmp_path).name + ".lock")
    lock.symlink_to(tmp_path / "nowhere")
    stub.fail_with(Status(503), times=1)
    with spooling(stub, ShelteredSpool(disk(tmp_path)), schedule_delay=0.05) as processor:
        for number in range(20):
            end(processor, f"{number:02d}")
            time.sleep(0.05)
        eventually(lambda: processor.hindrance is None)
        assert len(stub.unique_spans) > 5
        assert processor.ledger().balanced


def test_a_read_only_disk_costs_durability_and_nothing_else(
    small_disk: Path, stub: AxiomStub, caplog: pytest.LogCaptureFixture
) -> None:
    before = disk(small_disk)
    before.put(payload("from before"))
    before.close()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    stub.fail_with(Status(503))
    spool = ShelteredSpool(disk(small_disk))
    with spooling(stub, spool) as processor:
        end(processor, "a")
        processor.force_flush(2000)
        assert spool.trouble is not None
        assert processor.ledger().spooled == 1
        stub.heal()
        assert processor.force_flush(5000)
        assert processor.force_flush(5000)
    # What is on the disk cannot be taken off it, so it is not sent either: it would be sent for ever.
    assert [one.name for one in stub.spans] == ["a"]
    assert len([message for message in logged(caplog, logging.ERROR) if str(small_disk) in message]) == 1
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    after = disk(small_disk)
    assert drained(after) == ["from before"]
    after.close()


def test_a_place_that_cannot_be_made_costs_durability_and_nothing_else(
    tmp_path: Path, stub: AxiomStub, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    stub.fail_with(Status(503))
    with spooling(stub, ShelteredSpool(disk(tmp_path / "file" / "state"))) as processor:
        end(processor, "a")
        processor.force_flush(2000)
        stub.heal()
        assert processor.force_flush(5000)
    assert [one.name for one in stub.spans] == ["a"]
    assert len(logged(caplog, logging.ERROR)) == 1


def test_what_the_disk_did_not_take_is_counted_as_lost_with_the_process(tmp_path: Path, stub: AxiomStub) -> None:
    (tmp_path / "file").write_text("")
    stub.fail_with(Status(503))
    with spooling(stub, ShelteredSpool(disk(tmp_path / "file" / "state"))) as processor:
        end(processor, "a")
    assert processor.ledger().dropped == {"shutdown": 1}


def test_a_file_that_is_removed_under_a_running_process_is_made_anew(tmp_path: Path) -> None:
    spool = disk(tmp_path)
    spool.put(payload("a"))
    ORIGIN.file_in(tmp_path).unlink()
    assert spool.kept().mine == 0
    spool.put(payload("b"))
    assert drained(spool) == ["b"]
    spool.close()


# -- replay ------------------------------------------------------------------------------------------------------------


def test_a_restart_delivers_what_the_process_before_has_left(tmp_path: Path, stub: AxiomStub) -> None:
    stub.fail_with(Status(503))
    with spooling(stub, disk(tmp_path)) as first:
        end(first, *numbered(5))
        first.force_flush(2000)
    assert first.ledger().spooled == 5
    assert first.ledger().balanced
    stub.heal()
    with spooling(stub, disk(tmp_path)) as second:
        end(second, "new")
        assert second.force_flush(5000)
        deadline = time.monotonic() + 5
        while second.ledger().accepted < 6 and time.monotonic() < deadline:
            second.force_flush(100)
            time.sleep(0.05)
        ledger = second.ledger()
    assert (ledger.produced, ledger.adopted, ledger.accepted) == (1, 5, 6)
    assert sorted(one.name for one in stub.spans) == sorted(["new", *numbered(5)])


def test_an_application_that_starts_delivers_what_was_left_without_a_request(tmp_path: Path, stub: AxiomStub) -> None:
    left = disk(tmp_path)
    left.put(payload("left"))
    left.close()
    with spooling(stub, disk(tmp_path), schedule_delay=0.01) as processor:
        processor.start()
        stub.wait_for(1)


def test_a_start_with_nothing_left_starts_no_thread(tmp_path: Path, stub: AxiomStub) -> None:
    with spooling(stub, disk(tmp_path)) as processor:
        before = threading.active_count()
        processor.start()
        assert threading.active_count() == before


def test_another_process_takes_over_and_both_ledgers_balance(tmp_path: Path, stub: AxiomStub) -> None:
    stub.fail_with(Status(503))
    with spooling(stub, disk(tmp_path)) as one:
        end(one, *numbered(4))
        one.force_flush(2000)
        stub.heal()
        with spooling(stub, disk(tmp_path), schedule_delay=0.05) as other:
            end(other, "x")
            eventually(lambda: other.ledger().adopted == 4)
            theirs = other.ledger()
        one.force_flush(1000)
        mine = one.ledger()
    assert (mine.produced, mine.accepted, mine.spooled, mine.handed_over) == (4, 0, 0, 4)
    assert (theirs.produced, theirs.adopted, theirs.accepted) == (1, 4, 5)
    assert mine.balanced
    assert theirs.balanced
    assert mine.delivered
    assert theirs.delivered


def test_a_process_that_never_gets_the_turn_recovers_by_what_is_new(tmp_path: Path, stub: AxiomStub) -> None:
    stub.fail_with(Status(503), times=1)
    other = disk(tmp_path)
    other.put(payload("the other's"))
    with other.turn() as turn:
        assert turn is Turn.MINE
        entry = other.oldest(well=True)
        assert entry is not None
        other.replace(entry, None)
    with spooling(stub, disk(tmp_path)) as processor, other.turn():
        end(processor, "spooled by the failure")
        processor.force_flush(2000)
        end(processor, "spooled before it is tried")
        processor.force_flush(2000)
        assert (processor.hindrance, len(stub.requests)) == ("http_503", 1)
        end(processor, "new")
        processor.force_flush(2000)
        assert processor.hindrance is None
        assert [one.name for one in stub.spans] == ["new"]
        assert processor.ledger().spooled == 2
    other.close()


def test_what_was_taken_and_not_said_is_sent_once_more_and_nothing_else_is(tmp_path: Path, stub: AxiomStub) -> None:
    stub.fail_with(Reset(accepted=True), times=1)
    with spooling(stub, disk(tmp_path)) as processor:
        end(processor, *numbered(3))
        processor.force_flush(2000)
        end(processor, "later")
        assert processor.force_flush(5000)
    assert len(stub.spans) == 7
    assert len(stub.unique_spans) == 4


def test_a_part_that_was_taken_is_not_sent_again_with_the_rest(tmp_path: Path, stub: AxiomStub) -> None:
    spool = disk(tmp_path)
    spool.put(payload("a", "b", "c", "d"))
    with spool.turn():
        entry = spool.oldest(well=True)
        assert entry is not None
        _, second = entry.payload.halves()
        assert spool.replace(entry, second)
        rest = spool.oldest(well=True)
        assert rest is not None
        assert isinstance(rest.payload, EncodedPayload)
        assert names(rest.payload) == ["c", "d"]
        assert spool.kept().spans == 2
    spool.close()


def test_replay_is_in_order_and_no_faster_than_it_should_be(tmp_path: Path, stub: AxiomStub) -> None:
    stub.fail_with(Status(503))
    with spooling(stub, disk(tmp_path, pause=0.1), schedule_delay=0.01, batch_size=10) as processor:
        end(processor, *numbered(10))
        processor.force_flush(2000)
        for start in range(10, 100, 10):
            end(processor, *numbered(10, start))
            processor.force_flush(2000)
        assert processor.ledger().spooled == 100
        stub.clear()
        stub.heal()
        started = time.monotonic()
        deadline = started + 30
        while processor.ledger().left and time.monotonic() < deadline:
            time.sleep(0.02)
        assert time.monotonic() - started >= 0.9  # nine pauses between ten payloads
    assert [one.name for one in stub.spans] == numbered(100)


# -- a sink that comes and goes, and a queue that fills ----------------------------------------------------------------


def test_from_the_first_failure_spans_are_on_disk_before_they_are_sent(tmp_path: Path, stub: AxiomStub) -> None:
    stub.fail_with(Status(503))
    with spooling(stub, disk(tmp_path)) as processor:
        end(processor, "first")
        processor.force_flush(2000)
        stub.clear()
        end(processor, "second")
        processor.force_flush(2000)
        watcher = disk(tmp_path)
        assert watcher.kept().spans == 2
        watcher.close()
        stub.heal()
        assert processor.force_flush(5000)
    assert [one.name for one in stub.spans] == ["first", "second"]


def test_while_an_attempt_hangs_the_queue_goes_to_disk(tmp_path: Path) -> None:
    with AxiomStub(token=None) as stub:
        from otel_usage.testing import Hang

        stub.fail_with(Hang(60))
        exporter = OtlpHttpExporter(stub.endpoint, HEADERS, 5.0)
        with delivering(exporter, spool=disk(tmp_path), queue_size=100, batch_size=10) as processor:
            end(processor, *numbered(10))
            deadline = time.monotonic() + 10
            sent = 10
            while processor.ledger().spooled < 300 and time.monotonic() < deadline:
                if processor.ledger().queued < 90:
                    end(processor, *numbered(10, sent))
                    sent += 10
                time.sleep(0.01)
            ledger = processor.ledger()
            assert ledger.dropped == {}
            assert ledger.spooled >= 300
            assert ledger.balanced


# -- what the settings ask for -----------------------------------------------------------------------------------------


def test_the_default_is_the_users_state_directory(state_home: Path) -> None:
    spool = open_spool(UsageConfig(otlp_endpoint="http://127.0.0.1:1"), "gateway")
    spool.put(payload("a"))
    (found,) = (state_home / "otel_usage").glob("*.sqlite3")
    assert found.name == Origin("http://127.0.0.1:1/v1/traces", "api_usage", "gateway").file_in(Path()).name
    spool.close()


def test_a_home_that_is_not_absolute_is_no_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_directory({"XDG_STATE_HOME": "relative"}) == tmp_path / ".local" / "state" / "otel_usage"
    assert default_directory({}) == tmp_path / ".local" / "state" / "otel_usage"


def test_without_a_home_spans_are_kept_in_memory_and_it_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setattr(Path, "home", homeless)
    assert isinstance(open_spool(UsageConfig(), "gateway"), MemorySpool)
    assert [message for message in logged(caplog) if "USAGE_SPOOL" in message]


def test_memory_and_off_write_nothing(state_home: Path) -> None:
    for mode in (SpoolMode.MEMORY, SpoolMode.OFF):
        spool = open_spool(UsageConfig(spool=mode), "gateway")
        spool.put(payload("a"))
        assert spool.perishable == 1
    assert not list(state_home.iterdir())


def test_memory_is_bounded_in_bytes_and_the_oldest_go() -> None:
    payloads = [payload(f"{number:04d}") for number in range(5)]
    spool = MemorySpool(most_bytes=sum(one.size for one in payloads[-2:]))
    assert sum(spool.put(one).mine.get("spool_full", 0) for one in payloads) == 3
    assert drained(spool) == ["0003", "0004"]


def test_an_entry_that_made_room_while_it_was_sent_is_not_taken_for_another() -> None:
    spool = MemorySpool(most_bytes=payload("a").size + 10)
    spool.put(payload("a"))
    entry = spool.oldest(well=True)
    assert isinstance(entry, Entry)
    spool.put(payload("b"))
    assert not spool.replace(entry, None)
    assert drained(spool) == ["b"]


# -- fork --------------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_in_an_outage_leaves_parent_and_child_a_whole_spool(tmp_path: Path, stub: AxiomStub) -> None:
    stub.fail_with(Status(503))
    with spooling(stub, disk(tmp_path)) as processor:
        end(processor, "parent")
        processor.force_flush(2000)
        children = []
        for number in range(5):
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    signal.alarm(20)
                    end(processor, f"child {number}")
                    processor.force_flush(2000)
                    ledger = processor.ledger()
                    processor.shutdown()
                    status = 0 if (ledger.produced, ledger.spooled) == (1, 1) and ledger.balanced else 1
                finally:
                    os._exit(status)
            children.append(child)
            end(processor, f"parent {number}")
            processor.force_flush(2000)
        assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 5
        stub.heal()
        deadline = time.monotonic() + 20
        while processor.ledger().accepted < 11 and time.monotonic() < deadline:
            processor.force_flush(200)
            time.sleep(0.02)
        ledger = processor.ledger()
        assert ledger.balanced
        assert (ledger.produced, ledger.adopted, ledger.accepted) == (6, 5, 11)
    expected = ["parent", *(f"{who} {number}" for who in ("child", "parent") for number in range(5))]
    assert sorted(one.name for one in stub.spans) == sorted(expected)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_that_lives_on_does_not_keep_the_turn_that_its_parent_had(tmp_path: Path) -> None:
    spool = disk(tmp_path)
    spool.put(payload("a"))
    reader, writer = os.pipe()
    said, say = os.pipe()
    with spool.turn() as turn:
        assert turn is Turn.MINE
        child = os.fork()
        if child == 0:
            spool.renewed()
            os.close(writer)
            os.write(say, b"x")
            os.read(reader, 1)
            os._exit(0)
        os.read(said, 1)
    try:
        with disk(tmp_path).turn() as again:
            assert again is Turn.MINE
    finally:
        os.close(writer)
        for end_of_pipe in (reader, said, say):
            os.close(end_of_pipe)
        os.waitpid(child, 0)
    spool.close()
