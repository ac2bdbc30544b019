"""Return on investment: the gain of a change in relation to its cost. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping

from karen_learner.errors import InvalidInput
from karen_learner.records.improvement import ROIAnalysis

DAYS = 7.0
"""Length of the compared periods, unless `days` is given."""
COST, VALUE, INVESTMENT, LENGTH = "cost", "value", "implementation_cost", "days"

Amounts = Mapping[str, float | None]


def roi_of(gain: float, cost: float | None, *, days: float) -> ROIAnalysis:
    """The return of a change that brought `gain` in `days` days, and cost `cost` once (one currency).

    With an unknown cost (None), net and percentage are None; with a cost of 0 the percentage is. Without a
    gain nothing pays the cost back. Raises InvalidInput for amounts that are not finite, a negative cost, and
    a period without length.
    """
    for name, amount in (("gain", gain), ("cost", 0.0 if cost is None else cost), ("days", days)):
        if isinstance(amount, bool) or not isinstance(amount, (int, float)) or not math.isfinite(amount):
            raise InvalidInput(f"{name} must be a finite number, not {amount!r:.40}")
    if (cost is not None and cost < 0) or days <= 0:
        raise InvalidInput("the cost must be at least 0, and the period longer than 0 days")
    net = None if cost is None else gain - cost
    percentage = None if cost is None or net is None else _ratio(100.0 * net, cost)
    return ROIAnalysis(
        gain=gain,
        cost=cost,
        net=net,
        roi_percentage=percentage,
        payback_days=None if cost is None else _ratio(cost * days, gain),
        explanation=_explanation(gain, cost, days, percentage),
    )


def calculate_roi(before: Amounts, after: Amounts) -> ROIAnalysis:
    """The return of a change from the amounts of a period before it and one of equal length after it.

    The keys: `cost` and `value` are totals of each period. In `after`, `implementation_cost` is the cost of
    the change (unknown if it is missing). `days` is the length of a period, by default 7. Another missing
    amount is 0. Raises InvalidInput.
    """
    for period in (before, after):
        if not isinstance(period, Mapping):
            raise InvalidInput(f"before and after are mappings of amounts, not {type(period).__name__}")
    saved = _amount(before, COST) - _amount(after, COST)
    earned = _amount(after, VALUE) - _amount(before, VALUE)
    days = after.get(LENGTH)
    cost = None if after.get(INVESTMENT) is None else _amount(after, INVESTMENT)
    return roi_of(saved + earned, cost, days=DAYS if days is None else days)


def _amount(amounts: Amounts, name: str) -> float:
    amount = amounts.get(name)
    if isinstance(amount, bool) or not isinstance(amount, (int, float, type(None))):
        raise InvalidInput(f"{name} must be a number, not {type(amount).__name__}")
    return 0.0 if amount is None else float(amount)


def _ratio(amount: float, by: float) -> float | None:
    """The quotient; None if the divisor is not positive, or the quotient is not finite."""
    found = amount / by if by > 0 else math.inf
    return found if math.isfinite(found) else None


def _explanation(gain: float, cost: float | None, days: float, percentage: float | None) -> str:
    if not cost:
        return f"The change has no recorded cost, so there is nothing to divide by: it brought {gain:,.2f}."
    if percentage is None:
        return "The return is too large for a percentage."
    if gain <= 0:
        return f"The change cost {cost:,.2f} and brought {gain:,.2f}: nothing pays it back."
    return f"The change cost {cost:,.2f} and brought {gain:,.2f} in {days:g} days."
