"""Sums of measured effects over tickets. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from karen_learner.improvement.roi import roi_of
from karen_learner.improvement.tracking.measurement import metric_of
from karen_learner.improvement.tracking.shrinkage import cumulative_effect
from karen_learner.metrics import Z_95
from karen_learner.records.improvement import ImpactReport, ROISummary, Ticket


def summarize(
    tickets: Sequence[Ticket], impacts: Sequence[ImpactReport], metric: str, *, answer_value: float
) -> ROISummary:
    """The shrunk sum of the effects on a metric, with its worth. `impacts` are oldest first.

    The newest measurement of a ticket counts. All of them tell the spread of effects; only those of measured
    tickets are added.
    """
    newest = {one.ticket_id: one for one in impacts}
    pairs = [(one, newest[one.ticket_id]) for one in tickets if one.ticket_id in newest]
    found = [(one, report, report.effect) for one, report in pairs if report.effect is not None]
    found = [(one, report, effect) for one, report, effect in found if effect.metric == metric]
    chosen = np.array([one.status == "measured" for one, _, _ in found], dtype=np.bool_)
    effects = np.array([effect.change for _, _, effect in found], dtype=np.float64)
    widths = np.array([effect.high - effect.low for _, _, effect in found], dtype=np.float64)
    errors = widths / (2.0 * Z_95)  # of the normal distribution with the same interval
    total = cumulative_effect(effects, errors, chosen)
    used = [triple for triple, is_used in zip(found, chosen, strict=True) if is_used]
    turns = np.array([float(report.evidence.numbers["turns"] or 0) for _, report, _ in used])
    gain = answer_value * metric_of(metric).worth * float(total.shrunk[chosen] @ turns)
    costs = [one.cost for one, _, _ in used if one.cost is not None]
    significant = [effect.change for _, _, effect in found if effect.low > 0.0 or effect.high < 0.0]
    return ROISummary(
        tickets=len(tickets),
        measured=len(found),
        causal=bool(used) and all(effect.causal for _, _, effect in used),
        metric=metric,
        cumulative=total.total if used else None,
        low=total.low if used else None,
        high=total.high if used else None,
        sum_of_significant=sum(significant) if found else None,
        roi=roi_of(
            gain,
            sum(costs) if costs or not used else None,
            days=max(1.0, sum(report.period.days for _, report, _ in used)),
        ),
        costs_recorded=len(costs),
        costs_missing=len(used) - len(costs),
        answer_value=answer_value,
    )
