"""Nothing is lost, whatever the sink does: every fault, scaled down, against a service of real processes."""

from __future__ import annotations

import pytest

from tests.chaos import scenario
from tests.chaos.faults import FAULTS, TAKEN_WITHOUT_A_WORD, WIRE_FAULTS
from tests.chaos.scenario import Plan, Result

ONE_BATCH = 512
CUT_CONNECTIONS = frozenset({"refused", *WIRE_FAULTS})
"""Connections are cut at the moment when these begin. A batch that was taken just then is not known to be."""

MOST_RSS_GROWTH = 32 * 1024 * 1024
LONGEST_EXIT = 5.0
"""Seconds. 2 are delivery's at most, by default; the rest is the server's, on a busy machine."""


def plan(fault: str, **settings: object) -> Plan:
    """Scaled down: short phases, and a breaker that does not wait for minutes."""
    scaled = {"rate": 100.0, "healthy": 1.0, "faulty": 2.5, "after": 0.5, "patience": 6.0}
    quick = {"quick_breaker": (0.2, 0.5), "schedule_delay": 0.1}
    return Plan(variant="otel_usage", fault=fault, **{**scaled, **quick, **settings})


def assert_nothing_is_lost(result: Result) -> None:
    assert result.balanced, result.healths
    assert result.produced > 0
    assert result.lost == 0, f"{result.lost} of {result.produced}: {result.lost_ids[:10]} …; {result.log[-2000:]}"
    assert result.recorded_twice == 0


@pytest.mark.parametrize("fault", FAULTS)
def test_nothing_is_lost_in_a_fault(fault: str) -> None:
    result = scenario.fault(plan(fault))
    assert_nothing_is_lost(result)
    assert result.failed_requests == 0
    assert result.exit_seconds < LONGEST_EXIT
    assert not result.healths[-1]["ledger"]["dropped"]
    if fault not in TAKEN_WITHOUT_A_WORD:
        assert result.duplicated <= (ONE_BATCH if fault in CUT_CONNECTIONS else 0)


def test_what_the_sink_rejects_is_counted_as_rejected() -> None:
    result = scenario.fault(plan("partial"))
    assert_nothing_is_lost(result)
    assert result.rejected == result.healths[-1]["ledger"]["rejected"] > 0


def test_workers_of_one_service_lose_nothing_either() -> None:
    result = scenario.fault(plan("refused", workers=2))
    assert_nothing_is_lost(result)
    assert result.failed_requests == 0


def test_kill_9_in_an_outage_loses_no_more_than_the_last_second() -> None:
    assert_nothing_is_lost(scenario.kill9(plan("refused")))


def test_a_restart_in_an_outage_loses_nothing() -> None:
    result = scenario.restart(plan("refused"))
    assert_nothing_is_lost(result)
    assert result.duplicated <= ONE_BATCH
    assert result.exit_seconds < LONGEST_EXIT


def test_an_outage_longer_than_the_memory_queue_loses_nothing_and_takes_little_memory() -> None:
    result = scenario.outage(plan("refused", rate=500.0, faulty=20.0))  # 10,000 spans; the queue takes 8,192
    assert_nothing_is_lost(result)
    assert result.rss_growth < MOST_RSS_GROWTH
