"""Contract of `Clock`: timezone-aware UTC, never decreasing."""

from datetime import timedelta

import pytest

from karen_learner.contracts import Clock
from karen_learner.records import utc_now


@pytest.mark.parametrize("clock", [utc_now])
def test_a_clock_is_aware_and_does_not_decrease(clock: Clock) -> None:
    first, second = clock(), clock()
    assert first.utcoffset() == timedelta(0)
    assert first <= second
