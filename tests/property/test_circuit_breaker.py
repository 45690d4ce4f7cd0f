"""The breaker does what its policy says, in whatever order attempts end and time passes."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from otel_usage.circuit_breaker import BreakerPolicy, BreakerState, CircuitBreaker


class Clock:
    """A clock that a test moves by hand. Starts at 0 s."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Model:
    """The policy in its own words: it keeps every attempt for ever and counts anew each time."""

    def __init__(self) -> None:
        self.state = "closed"
        self.history: list[tuple[float, bool]] = []
        self.run = 0
        self.tries = 0
        self.opened_at = 0.0

    @property
    def delay(self) -> float:
        return min(5.0 * 2**self.tries, 60.0)

    def may_try(self, now: float) -> bool:
        if self.state == "closed":
            return True
        if self.state == "open" and now >= self.opened_at + self.delay:
            self.state = "half_open"
            return True
        return False

    def attempt(self, now: float, *, failed: bool) -> None:
        self.run = self.run + 1 if failed else 0
        if self.state == "half_open":
            self.state = "open" if failed else "closed"
            self.tries = self.tries + 1 if failed else 0
            self.opened_at = now
            self.history = []
            return
        self.history.append((now, failed))
        recent = [bad for when, bad in self.history if when > now - 300]
        too_many = len(recent) >= 20 and recent.count(True) / len(recent) > 0.05
        if failed and (self.run >= 5 or too_many):
            self.state, self.tries, self.opened_at = "open", 0, now


class BreakerMachine(RuleBasedStateMachine):
    """Drives the breaker as the worker does: an attempt is made only where it is allowed, and its end is told."""

    @initialize()
    def begin(self) -> None:
        self.clock = Clock()
        self.breaker = CircuitBreaker(self.clock)
        self.model = Model()

    @rule(seconds=st.sampled_from([0.0, 0.5, 4.0, 5.0, 10.0, 60.0, 290.0, 300.0]) | st.integers(0, 400).map(float))
    def time_passes(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule(failed=st.booleans())
    def attempt(self, failed: bool) -> None:
        self._attempt(failed=failed)

    @rule(count=st.integers(1, 40), apart=st.sampled_from([0.0, 1.0, 15.0, 16.0]))
    def many_succeed(self, count: int, apart: float) -> None:
        for _ in range(count):
            self.clock.now += apart
            self._attempt(failed=False)

    @rule(count=st.integers(1, 6), apart=st.sampled_from([0.0, 5.0, 60.0]))
    def many_fail(self, count: int, apart: float) -> None:
        for _ in range(count):
            self.clock.now += apart
            self._attempt(failed=True)

    @precondition(lambda self: self.model.state == "open")
    @rule(failed=st.booleans())
    def the_probe_ends(self, failed: bool) -> None:
        self.clock.now += self.breaker.wait
        self._attempt(failed=failed)

    @precondition(lambda self: self.model.state == "open")
    @rule()
    def the_probe_is_given_back(self) -> None:
        self.clock.now += self.breaker.wait
        assert self.breaker.allow()
        self.breaker.give_back()

    @precondition(lambda self: self.model.state == "open")
    @rule(asked=st.integers(1, 5))
    def only_one_gets_the_probe(self, asked: int) -> None:
        self.clock.now += self.breaker.wait
        assert [self.breaker.allow() for _ in range(asked)] == [True] + [False] * (asked - 1)
        self.model.may_try(self.clock.now)
        self._end(failed=True)

    @invariant()
    def both_are_in_the_same_state(self) -> None:
        assert self.breaker.state.value == self.model.state

    @invariant()
    def the_wait_is_never_longer_than_a_minute(self) -> None:
        left = self.model.opened_at + self.model.delay - self.clock.now if self.model.state == "open" else 0.0
        assert self.breaker.wait == max(0.0, left)
        assert self.breaker.wait <= 60.0

    def _attempt(self, *, failed: bool) -> None:
        allowed = self.breaker.allow()
        assert allowed is self.model.may_try(self.clock.now)
        if allowed:
            self._end(failed=failed)

    def _end(self, *, failed: bool) -> None:
        before = self.model.state
        self.model.attempt(self.clock.now, failed=failed)
        changed = self.breaker.fail() if failed else self.breaker.succeed()
        # Told once at each turn, which is what the one log line hangs on.
        if failed:
            assert changed is (before == "closed" and self.model.state == "open")
        else:
            assert changed is (before == "half_open")


TestBreaker = BreakerMachine.TestCase
TestBreaker.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def breaker(**policy: int) -> tuple[CircuitBreaker, Clock]:
    clock = Clock()
    return CircuitBreaker(clock, BreakerPolicy(**policy)), clock


def opened() -> tuple[CircuitBreaker, Clock]:
    made, clock = breaker()
    assert [made.fail() for _ in range(5)] == [False, False, False, False, True]
    return made, clock


def test_five_failures_in_a_row_open_it_however_far_apart_they_are() -> None:
    made, clock = breaker()
    for _ in range(4):
        assert not made.fail()
        clock.now += 3600
    assert made.state is BreakerState.CLOSED
    assert made.fail()
    assert made.state is BreakerState.OPEN


def test_a_success_ends_a_row_of_failures() -> None:
    made, _ = breaker(minimum_samples=1000)
    for _ in range(20):
        for _ in range(4):
            assert not made.fail()
        made.succeed()
    assert made.state is BreakerState.CLOSED


def test_exactly_5_percent_of_failures_are_tolerated_and_one_more_is_not() -> None:
    made, _ = breaker()
    for _ in range(38):
        made.succeed()
    assert not made.fail()
    made.succeed()
    assert not made.fail()  # 2 of 41
    assert made.state is BreakerState.CLOSED
    assert made.fail()  # 3 of 42
    assert made.state is BreakerState.OPEN


def test_a_share_of_failures_says_nothing_below_20_samples() -> None:
    made, _ = breaker()
    assert not made.fail()
    for _ in range(17):
        made.succeed()
    assert not made.fail()  # 2 of 19
    made.succeed()
    assert made.fail()  # 3 of 21


@pytest.mark.parametrize(("seconds", "opens"), [(299.9, True), (300.0, False)])
def test_a_sample_counts_for_5_minutes(seconds: float, opens: bool) -> None:
    made, clock = breaker()
    made.fail()
    made.fail()
    clock.now += seconds
    for _ in range(37):
        made.succeed()
    assert made.fail() is opens  # 3 of 40, or 1 of 38


def test_while_it_is_open_nothing_goes_through_until_its_delay_is_over() -> None:
    made, clock = opened()
    assert made.wait == 5.0
    clock.now += 4.999
    assert not made.allow()
    clock.now += 0.001
    assert made.wait == 0.0
    assert made.allow()


def test_a_half_open_breaker_lets_one_probe_through_and_no_second() -> None:
    made, clock = opened()
    clock.now += 5
    assert made.allow()
    assert made.state is BreakerState.HALF_OPEN
    clock.now += 3600
    assert not made.allow()


def test_the_delay_doubles_with_each_failed_probe_to_a_minute_and_no_further() -> None:
    made, clock = opened()
    delays = []
    for _ in range(7):
        delays.append(made.wait)
        clock.now += made.wait
        assert made.allow()
        assert not made.fail()
    assert delays == [5, 10, 20, 40, 60, 60, 60]


def test_a_success_closes_it_and_clears_the_window_and_the_delay() -> None:
    made, clock = opened()
    clock.now += 5
    made.allow()
    made.fail()
    clock.now += 10
    made.allow()
    assert made.succeed()
    assert made.state is BreakerState.CLOSED
    assert [made.fail() for _ in range(4)] == [False] * 4  # the five before are forgotten
    assert made.fail()
    assert made.wait == 5.0


def test_whenever_the_sink_recovers_it_is_closed_again_within_a_minute() -> None:
    made, clock = opened()
    for _ in range(20):  # the sink has been down for long
        clock.now += made.wait
        made.allow()
        made.fail()
    recovered = clock.now
    while made.state is not BreakerState.CLOSED:
        clock.now += made.wait
        assert made.allow()
        made.succeed()
    assert clock.now - recovered <= 60


def test_a_probe_that_never_reached_the_sink_can_be_had_again() -> None:
    made, clock = opened()
    clock.now += 5
    assert made.allow()
    made.give_back()
    assert made.state is BreakerState.OPEN
    assert made.allow()
    assert made.succeed()
    made.give_back()
    assert made.state is BreakerState.CLOSED


def test_a_renewed_breaker_is_closed_and_keeps_its_policy() -> None:
    made, _ = breaker(consecutive_failures=2)
    made.fail()
    assert made.fail()
    again = made.renewed()
    assert again.state is BreakerState.CLOSED
    assert [again.fail(), again.fail()] == [False, True]
