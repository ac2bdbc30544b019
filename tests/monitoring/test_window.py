"""Sums of outcomes over a window."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from karen_learner.monitoring.window import MAX_KEYS, OTHER, Key, Sample, Window

KEY = Key("agent", None, None)
NOW = 6000.0


def window_of(minutes: int, samples: Iterable[Sample]) -> Window:
    window = Window(minutes)
    for one in samples:
        window.add(one)
    return window


def test_means_and_totals() -> None:
    samples = [
        Sample(NOW, Key("a", "llm", "billing"), success=True, duration_ms=100.0, cost=0.5, tokens=10),
        Sample(NOW, Key("a", "llm", "travel"), success=False, is_error=True, duration_ms=300.0, cost=0.25),
        Sample(NOW, Key("b", None, "travel"), score=0.5, rating=0.8),
        Sample(NOW, Key("b", None, "travel"), score=1.0),
    ]
    metrics = window_of(60, samples).metrics(NOW)
    assert (metrics.outcomes, metrics.attempts, metrics.scored, metrics.window_minutes) == (4, 2, 2, 60)
    assert (metrics.avg_accuracy, metrics.success_rate, metrics.error_rate) == (0.75, 0.5, 0.5)
    assert (metrics.cost, metrics.tokens, metrics.avg_rating) == (0.75, 10, 0.8)
    assert set(metrics.by_agent) == {"a", "b"}
    assert set(metrics.by_strategy) == {"llm"}
    assert metrics.by_domain["travel"].outcomes == 3
    assert metrics.by_agent["b"].success_rate is None


def test_an_empty_window_has_no_means() -> None:
    metrics = Window(60).metrics(NOW)
    assert metrics.outcomes == 0
    assert (metrics.avg_accuracy, metrics.latency_p95_ms) == (None, None)


def test_old_and_future_outcomes_leave_the_window() -> None:
    window = window_of(2, [Sample(NOW - 200, KEY), Sample(NOW - 60, KEY), Sample(NOW, KEY), Sample(9e9, KEY)])
    assert window.metrics(NOW).outcomes == 2
    assert window.metrics(NOW + 60).outcomes == 1
    assert window.metrics(NOW - 3600).outcomes == 0, "after the clock went back"


@given(st.lists(st.floats(1.0, 1e7), min_size=1, max_size=200))
def test_quantiles_have_a_small_relative_error(latencies: list[float]) -> None:
    window = window_of(5, [Sample(NOW, KEY, duration_ms=one) for one in latencies])
    metrics = window.metrics(NOW)
    ordered = sorted(latencies)
    for share, found in ((0.5, metrics.latency_p50_ms), (0.95, metrics.latency_p95_ms)):
        expected = ordered[max(0, -int(-share * len(ordered) // 1) - 1)]
        assert found == pytest.approx(expected, rel=0.03)


def test_many_kinds_count_together() -> None:
    rng = random.Random(0)
    window = window_of(1, [Sample(NOW, Key(f"a{rng.random()}", None, None)) for _ in range(3 * MAX_KEYS)])
    metrics = window.metrics(NOW)
    assert metrics.outcomes == 3 * MAX_KEYS
    assert len(metrics.by_agent) == MAX_KEYS + 1
    assert metrics.by_agent[OTHER].outcomes == 2 * MAX_KEYS


KEYS = st.sampled_from([Key("a", None, "x"), Key("a", "s", None), Key("b", "s", "x")])
STEPS = st.tuples(
    st.floats(-300.0, 90.0), KEYS, st.booleans() | st.none(), st.floats(0.0, 1e13) | st.none(), st.booleans()
)


@given(st.lists(STEPS, max_size=60))
def test_a_window_that_moves_has_the_sums_of_a_new_one(
    steps: list[tuple[float, Key, bool | None, float | None, bool]],
) -> None:
    window, kept, now = Window(3), list[Sample](), NOW
    for offset, key, success, latency, moves in steps:
        one = Sample(now + offset, key, success=success, duration_ms=latency, score=0.25, cost=0.1)
        kept.append(one)
        window.add(one)
        if moves:
            now += 45.0
            window.metrics(now)
            last = int(now // 60)
            kept = [one for one in kept if last - 3 < int(one.at // 60) <= last + 1]
    found, expected = window.metrics(now).to_dict(), window_of(3, kept).metrics(now).to_dict()
    assert found.pop("cost") == pytest.approx(expected.pop("cost"))
    for part in ("by_agent", "by_strategy", "by_domain"):
        for name, measures in expected[part].items():
            assert found[part][name].pop("cost") == pytest.approx(measures.pop("cost"))
    assert found == expected


def test_a_late_outcome_joins_its_closed_minute() -> None:
    window = window_of(5, [Sample(NOW - 120, KEY)])
    assert window.metrics(NOW).outcomes == 1
    window.add(Sample(NOW - 120, KEY))
    assert window.metrics(NOW).outcomes == 2
    assert window.metrics(NOW + 200).outcomes == 0
