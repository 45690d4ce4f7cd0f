"""Ids that are drawn in batches are each drawn once: by many threads, and on both sides of a fork."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_usage import ids
from otel_usage.ids import new_span_id, new_trace_id

THREADS = 8


@pytest.fixture
def hurried() -> Iterator[None]:
    """Threads that take turns as often as the interpreter can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def drawn_by_threads(draw: Any, each: int) -> list[bytes]:
    found: list[list[bytes]] = [[] for _ in range(THREADS)]
    together = threading.Barrier(THREADS)

    def work(own: list[bytes]) -> None:
        together.wait(10)
        own.extend(draw() for _ in range(each))

    threads = [threading.Thread(target=work, args=(own,)) for own in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [len(own) for own in found] == [each] * THREADS, "a thread has failed"
    return [one for own in found for one in own]


@pytest.mark.parametrize(("draw", "size"), [(new_trace_id, 16), (new_span_id, 8)])
def test_ids_are_of_their_size_and_all_different_whichever_thread_draws_them(
    draw: Any, size: int, hurried: None
) -> None:
    drawn = drawn_by_threads(draw, 4000)
    assert {(type(one), len(one)) for one in drawn} == {(bytes, size)}
    assert len(set(drawn)) == len(drawn)


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_so_they_are_where_threads_wait_for_each_others_batches_all_the_time(
    batch: int, hurried: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ids, "_BATCH", batch)
    drawn = drawn_by_threads(ids._Supply(16), 2000)
    assert len(set(drawn)) == len(drawn)


def test_a_batch_that_others_have_emptied_meanwhile_still_gave_its_drawer_an_id() -> None:
    supply = ids._Supply(8)

    class Emptied:
        """What the drawer's batch is put in place of: the others take all of it at once."""

        def __set__(self, owner: Any, batch: Iterator[tuple[bytes]]) -> None:
            list(batch)

        def __get__(self, owner: Any, of: type) -> tuple[()]:
            return ()

    robbed = type("Robbed", (ids._Supply,), {"_drawn": Emptied()})
    supply = robbed(8)
    assert len({supply() for _ in range(10)}) == 10


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 300), max_size=6), st.integers(1, 32))
def test_no_number_of_draws_meets_a_batchs_end_in_a_special_way(counts: list[int], size: int) -> None:
    supply = ids._Supply(size)
    for count in counts:
        drawn = [supply() for _ in range(count)]
        assert {len(one) for one in drawn} <= {size}
        assert size < 8 or len(set(drawn)) == count
        supply.forget()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize(("draw", "size"), [(new_trace_id, 16), (new_span_id, 8)])
@pytest.mark.parametrize("before", [0, 1, 127, 128])
def test_a_forked_child_draws_others_than_its_parent_and_its_sibling(draw: Any, size: int, before: int) -> None:
    count = 300
    drawn = [draw() for _ in range(before)]
    for _ in range(2):
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.write(write, b"".join(draw() for _ in range(count)))
            finally:
                os._exit(0)
        os.close(write)
        with os.fdopen(read, "rb") as pipe:
            sent = pipe.read()
        os.waitpid(child, 0)
        assert len(sent) == count * size
        drawn += [sent[at : at + size] for at in range(0, len(sent), size)]
    drawn += [draw() for _ in range(count)]
    assert len(set(drawn)) == len(drawn) == before + 3 * count
