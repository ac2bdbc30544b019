"""Reports of measured effects, with their worth and a conclusion in one sentence. Pure."""

from __future__ import annotations

import shlex
from datetime import datetime

from karen_learner.improvement.roi import roi_of
from karen_learner.improvement.tracking.effects import MIN_CONTROLS, MIN_USERS, Estimate
from karen_learner.improvement.tracking.measurement import metric_of
from karen_learner.records.improvement import AnalysisPeriod, Effect, ImpactReport, Support, Ticket

LATER = 2
"""A holdback lasts this number of periods. At its end the effect is measured again."""


def impact_report(
    ticket: Ticket,
    period: AnalysisPeriod,
    estimate: Estimate | None,
    *,
    turns: int,
    answer_value: float,
    counts: bool,
    now: datetime,
) -> ImpactReport:
    """The report of an estimate. `turns` had the change, `answer_value` is the worth of one right answer."""
    effect = None if estimate is None else _effect(ticket, estimate)
    change = 0.0 if effect is None else effect.change
    gain = answer_value * metric_of(ticket.metric).worth * change * turns
    roi = roi_of(gain, ticket.cost, days=max(period.days, 1e-6))
    return ImpactReport(
        ticket_id=ticket.ticket_id,
        recommendation_id=ticket.recommendation_id,
        implementation_details=ticket.implementation_details,
        measured_at=now,
        period=period,
        before_metrics={ticket.metric: None if effect is None else effect.before},
        after_metrics={ticket.metric: None if effect is None else effect.after},
        effect=effect,
        roi=roi,
        roi_estimate=roi.roi_percentage,
        conclusion=_conclusion(ticket, effect, estimate, counts),
        counts=counts,
        evidence=Support(
            numbers={
                "turns": turns,
                "values": 0 if effect is None else effect.observations,
                "users_changed": 0 if effect is None else effect.users_changed,
                "users_kept": 0 if effect is None else effect.users_kept,
                "smallest_effect": None if estimate is None else estimate.smallest_effect,
                "expected_effect": ticket.expected_effect,
            },
            query=shlex.join(["karen-learner", "improvements", ticket.tenant_id, "show", ticket.ticket_id]),
        ),
    )


def _effect(ticket: Ticket, estimate: Estimate) -> Effect:
    low, high = estimate.interval
    held = ticket.holdback is not None
    return Effect(
        metric=ticket.metric,
        change=estimate.change,
        low=low,
        high=high,
        standard_error=estimate.standard_error,
        before=estimate.before,
        after=estimate.after,
        design="holdback" if held else "interrupted_series",
        causal=held,
        users_changed=estimate.users_changed,
        users_kept=estimate.users_kept,
        observations=estimate.observations,
        controls=estimate.controls,
    )


def _conclusion(ticket: Ticket, effect: Effect | None, estimate: Estimate | None, counts: bool) -> str:
    if effect is None or estimate is None:
        sides = "side" if ticket.holdback is not None else "period"
        found = f"Not measurable: fewer than {MIN_USERS} users with values of {ticket.metric} on a {sides}"
    else:
        bounds = f"95 % interval {_points(effect.low)} to {_points(effect.high)} points"
        if effect.low > 0.0 or effect.high < 0.0:
            word = "rose" if effect.change > 0 else "fell"
            found = f"The {ticket.metric} {word} by {_points(abs(effect.change))} points ({bounds})"
        else:
            visible = _points(estimate.smallest_effect)
            found = f"No effect on {ticket.metric} is shown ({bounds}); {visible} points would be visible"
        found += f"; {_cause(effect)}"
    return f"{found}." if counts else f"Preliminary, does not count: {found}."


def _cause(effect: Effect) -> str:
    if effect.causal:
        return "compared with users who kept the former version"
    if effect.controls >= MIN_CONTROLS:
        return f"not causal: compared with the time before and with {effect.controls} other tenants"
    return "not causal: compared with the time before alone"


def _points(share: float) -> str:
    return f"{100 * share:.1f}"
