"""Interleaved rounds: every configuration once a round, in random order, the bare application four times."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from typing import Final

from benchmarks.configurations import BARE, Configuration
from benchmarks.environments import run
from benchmarks.figures import Measurement
from benchmarks.sink import SinkProcess

PARTS: Final = 3


class Failed(Exception):
    """A run did not do what it is measured for."""


def order(bare: Configuration, others: Sequence[Configuration], chance: random.Random) -> list[Configuration]:
    """The others in random order, in three parts, with the bare one before, between and after."""
    shuffled = chance.sample(others, len(others))
    found = []
    for part in range(PARTS):
        found += [bare, *shuffled[len(others) * part // PARTS : len(others) * (part + 1) // PARTS]]
    return [*found, bare]


def run_rounds(
    configurations: Sequence[Configuration], variants: Sequence[str], rounds: range, requests: int
) -> Iterator[Measurement]:
    """Measure, and say on the way how far it is.

    Raises:
        Failed: a run failed, or not everything arrived that it recorded.
    """
    bare = next(each for each in configurations if each.name == BARE)
    others = [each for each in configurations if each.name != BARE]
    with SinkProcess() as sink:
        for number in rounds:
            for variant in variants:
                for each in order(bare, others, random.Random()):
                    yield run_one(each, variant, number, requests, sink)
                    print(".", end="", flush=True)
            print(f" round {number + 1}", flush=True)


def run_one(configuration: Configuration, variant: str, number: int, requests: int, sink: SinkProcess) -> Measurement:
    sink.reset()
    done = run(configuration.environment, "benchmarks.one", configuration.name, variant, str(requests), sink.url)
    if done.returncode:
        raise Failed(f"{configuration.name} failed in variant {variant}:\n{done.stderr[-3000:]}")
    measured, arrived = json.loads(done.stdout.splitlines()[-1]), sink.stats()
    records = arrived["spans"] + arrived["events"] + measured["counted"]
    expected = configuration.records[variant] * measured["served"]
    if records != expected:
        raise Failed(
            f"{configuration.name} recorded {records} of {expected} in variant {variant}: what it lost it did not pay "
            f"for.\n{done.stderr[-2000:]}"
        )
    return Measurement(
        round=number,
        variant=variant,
        configuration=configuration.name,
        cpu_us=measured["cpu_us"],
        request_thread_us=measured["request_thread_us"],
        records=records,
        wire_bytes=arrived["wire_bytes"] / measured["served"],
    )
