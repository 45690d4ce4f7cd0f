"""Each id is drawn once: by many threads, and on both sides of a fork."""

from __future__ import annotations

import os
import random
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from otel_usage.ids import new_ids, new_span_id

THREADS = 8


def new_trace_id() -> bytes:
    return new_ids()[0]


@pytest.fixture
def hurried() -> Iterator[None]:
    """Threads that take turns as often as the interpreter can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def drawn_by_threads(draw: Any, each: int) -> list[Any]:
    found: list[list[Any]] = [[] for _ in range(THREADS)]
    together = threading.Barrier(THREADS)

    def work(own: list[Any]) -> None:
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


def test_the_ids_of_one_draw_have_nothing_in_common(hurried: None) -> None:
    drawn = drawn_by_threads(new_ids, 2000)
    assert {tuple(map(len, one)) for one in drawn} == {(16, 8)}
    for ids in zip(*drawn, strict=True):
        assert len(set(ids)) == len(drawn)
    assert not any(span in trace for trace, span in drawn)


def test_what_an_application_seeds_repeats_no_id() -> None:
    drawn = set()
    for _ in range(100):
        random.seed(1)
        drawn |= {*new_ids(), new_span_id()}
    assert len(drawn) == 300


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize(("draw", "size"), [(new_trace_id, 16), (new_span_id, 8)])
@pytest.mark.parametrize("before", [0, 1, 1000])
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
