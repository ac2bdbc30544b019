"""Readings: measured values of a tenant with their uncertainty. A reading never acts."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from karen_learner.records.base import Record

Direction = Literal["higher_is_worse", "lower_is_worse", "neutral"]
"""The side on which a reading harms."""
Unit = Literal["share", "days", "milliseconds", "bytes", "e-value", "per hour"]
Detail = Mapping[str, float | int | str | None]


class Reading(Record):
    """A value of a tenant with its 95 % interval and the number of observations behind it.

    `low` and `high` equal `value` for exact values. `value` is None with too few observations. `reference` is
    the value with which `value` is compared, if there is one. `alarm` is the decision of a reading with a
    test of its own; None without one. `false_alarms_per_month` is the expected number of windows in a month
    with a wrong alarm. Nothing has changed in such a window, and still the worse bound of the interval, or
    the test, is wrong. `detail` contains no text of a user.
    """

    name: str
    tenant_id: str
    at: datetime
    unit: Unit
    direction: Direction
    value: float | None = None
    low: float | None = None
    high: float | None = None
    reference: float | None = None
    observations: int = 0
    alarm: bool | None = None
    false_alarms_per_month: Annotated[float, Field(ge=0.0)] = 0.0
    detail: Detail = Field(default_factory=dict)

    @property
    def known(self) -> bool:
        """Whether there is a value."""
        return self.value is not None

    def is_below(self, limit: float) -> bool:
        """Whether the whole interval is below the limit."""
        return self.high is not None and self.high < limit

    def is_above(self, limit: float) -> bool:
        """Whether the whole interval is above the limit."""
        return self.low is not None and self.low > limit
