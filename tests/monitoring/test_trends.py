"""Trends compare with SciPy, and forecast when a limit is passed."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import theilslopes

from karen_learner.monitoring.trends import MAX_POINTS, History, forecast, theil_sen
from karen_learner.records import utc_now

NOISE = np.random.default_rng(0).normal(0.0, 1.0, 60)


def test_slope_and_interval_are_those_of_scipy() -> None:
    days = np.arange(60) / 4
    values = 100 - 3 * days + NOISE
    trend = theil_sen(list(days), list(values))
    expected = theilslopes(values, days, alpha=0.95)
    assert trend is not None
    assert trend.slope == pytest.approx(expected.slope)
    assert (trend.low, trend.high) == pytest.approx((expected.low_slope, expected.high_slope), rel=0.01)
    assert trend.low > 0.0 or trend.high < 0.0


def test_a_fifth_of_wild_points_changes_little() -> None:
    days = np.arange(60.0)
    values = 100 - days + NOISE
    values[::5] = 1e6
    trend = theil_sen(list(days), list(values))
    assert trend is not None
    assert trend.slope == pytest.approx(-1.0, abs=0.15)


def test_a_forecast_says_when_a_falling_value_passes_its_limit() -> None:
    days = np.arange(20.0)
    trend = theil_sen(list(days), list(100 - 2 * days))
    assert trend is not None
    found = forecast(trend, 50, falling=True)
    assert found is not None
    assert found.days == pytest.approx(6.0)
    assert forecast(trend, 500, falling=False) is None
    passed = forecast(trend, 90, falling=True)
    assert passed is not None
    assert passed.days == 0.0


def test_noise_alone_has_no_forecast() -> None:
    trend = theil_sen(list(np.arange(60.0)), list(NOISE))
    assert trend is not None
    assert trend.low <= 0.0 <= trend.high
    assert forecast(trend, -100, falling=True) is None


@given(values=st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=40))
def test_any_values_have_a_trend_or_none(values: list[float]) -> None:
    with np.errstate(all="ignore"):
        trend = theil_sen(list(range(len(values))), values)
    assert trend is None or trend.points >= 8


def test_a_history_is_bounded_and_keeps_its_span() -> None:
    start, history = utc_now(), History(timedelta(hours=1))
    for hour in range(5_000):
        history.add(start + timedelta(hours=hour), float(hour))
        history.add(start + timedelta(hours=hour), 0.0)
    assert len(history.times) <= MAX_POINTS
    assert history.times[0] == start
    trend = history.trend()
    assert trend is not None
    assert trend.slope == pytest.approx(24.0)
