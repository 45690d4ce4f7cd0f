"""``python -m benchmarks.collector.scale`` measures what it says, and reckons with it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from benchmarks.collector.scale import _read, measured
from benchmarks.collector.sizing import Measured, Step, added, table
from tests.needs import needed_collector, needed_program

PERFORMANCE = Path(__file__).parents[2] / "docs" / "performance.md"
STEP = Step(cpu=50e-6, memory=100 * 2**20, disk=700.0, wire=50.0)


def test_ten_thousand_requests_a_second_are_reckoned_with() -> None:
    found = Measured(2.0, 90.0, 700.0, STEP, STEP, STEP, STEP)
    rows = dict(line.strip("| ").split(" | ", 1) for line in table(found, 60e-6).splitlines()[2:])
    assert rows["services, all of them"] == "0.6 | - | - | - | - | 1.8 MB/s | -"
    # 20,000 spans a second of 50 µs are a core, of which each instance is planned to use 60 %.
    assert rows["agents"] == "1.0 | 2 | 100 MiB | 14.0 MB/s | 1.8 MB/s | 1.0 MB/s | 50 GB"
    assert rows["Kafka, each of 3 brokers"] == "1.0 | - | 100 MiB | 14.0 MB/s | 14.0 MB/s | 14.0 MB/s | 50 GB"
    assert rows["consumers"].endswith("| -")


def test_what_a_service_pays_is_that_of_the_page() -> None:
    assert 10e-6 < added(PERFORMANCE.read_text()) < 500e-6
    with pytest.raises(ValueError, match="does not say"):
        added("| A: one route | 1 |")


@pytest.mark.timeout(400)
def test_every_step_is_measured_to_its_end_and_can_be_read_again(tmp_path: Path) -> None:
    needed_program("java")
    needed_program("mvn")
    for manifest in ("builder.yaml", "builder-kafka.yaml"):
        needed_collector(manifest)
    found = measured(2000, requests=100)
    file = tmp_path / "measured.json"
    file.write_text(json.dumps(dataclasses.asdict(found)))
    assert _read(file) == found
    assert found.spans_per_request == pytest.approx(2.79)
    for each in (found.agent, found.gateway, found.kafka, found.consumer):
        assert each.cpu > 0
        assert each.memory > 2**20
        assert each.wire > 0
    assert found.plain > found.service_wire > 0
