"""The circuit breaker opens after a run of failures that its measured rate makes improbable."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from karen_learner.orchestrator.breaker import IMPROBABLE, MAX_WAIT_S, CircuitBreaker


def failures_until_open(breaker: CircuitBreaker) -> int:
    count = 0
    while not breaker.is_open:
        assert breaker.allows()
        breaker.record(False)
        count += 1
    return count


def test_the_rarer_failures_are_the_fewer_open_it():
    reliable, unreliable = CircuitBreaker(), CircuitBreaker()
    for number in range(1_000):
        reliable.record(True)
        unreliable.record(number % 2 == 0)
    unreliable.record(True)
    assert failures_until_open(CircuitBreaker()) == 3
    assert failures_until_open(reliable) == 2
    assert failures_until_open(unreliable) == 10


def test_one_trial_in_each_wait_and_a_success_closes_it():
    now = [0.0]
    breaker = CircuitBreaker(clock=lambda: now[0])
    failures_until_open(breaker)
    waits = []
    for _ in range(8):
        begun = now[0]
        while not breaker.allows():
            now[0] += 0.5
        assert not breaker.allows()
        waits.append(now[0] - begun)
        breaker.record(False)
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
    now[0] += MAX_WAIT_S
    assert breaker.allows()
    breaker.record(True)
    assert not breaker.is_open
    assert breaker.allows()


def test_failures_of_calls_that_began_before_it_opened_do_not_lengthen_the_wait():
    now = [0.0]
    breaker = CircuitBreaker(clock=lambda: now[0])
    assert all(breaker.allows() for _ in range(10))
    for _ in range(10):
        breaker.record(False)
    now[0] = 1.0
    assert breaker.allows()
    breaker.record(False)
    breaker.record(False)
    now[0] = 3.0
    assert breaker.allows()


def test_an_abandoned_trial_is_repeated():
    now = [0.0]
    breaker = CircuitBreaker(clock=lambda: now[0])
    failures_until_open(breaker)
    now[0] = 1.0
    assert breaker.allows()
    now[0] = 2.0
    assert breaker.allows()


@given(results=st.lists(st.booleans(), max_size=60))
def test_it_is_open_exactly_after_an_improbable_run(results):
    breaker = CircuitBreaker(clock=lambda: 0.0)
    for success in results:
        rate = breaker.failure_rate
        breaker.record(success)
        run = next((at for at, one in enumerate(reversed(results)) if one), len(results))
        assert 0.0 < rate < 1.0
    if not results or results[-1]:
        assert not breaker.is_open
    elif not breaker.is_open:
        assert breaker.failure_rate**run > IMPROBABLE
