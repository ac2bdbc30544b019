"""Sentences that explain a shown change: its values, its size, and whether it may be chance. Pure."""

from __future__ import annotations

import re

from karen_learner.improvement.tracking.effects import MIN_CONTROLS
from karen_learner.records.period_reports import Change, PeriodReport
from karen_learner.reports.wording import (
    NBSP,
    change_text,
    interval_text,
    metric_name,
    money,
    plural,
    unit_of,
    value_text,
)

NAMES = {"accuracy": "Right answers (of those that users confirmed or corrected)",
         "correction_rate": "Corrected answers (of those with feedback)"}  # fmt: skip
"""Metrics of measured effects whose name does not tell which answers count."""
ANSWERS = {"accuracy": "confirmed or corrected answers", "rating": "rated answers",
           "correction_rate": "answers with feedback"}  # fmt: skip
VERSIONS = re.compile(r"v0*(\d+)-\w+ replaces v0*(\d+)-\w+")
VISIBLE = 0.0005
"""A smaller difference of shares is not visible on the page."""


def effect_name(metric: str) -> str:
    """The name of a metric whose effects are measured: it tells which answers count."""
    return NAMES.get(metric) or metric_name(metric)


def cause_text(cause: str) -> str:
    """The title of a change; versions of a model by their number."""
    found = VERSIONS.fullmatch(cause)
    return cause if found is None else f"Version {found[1]} of the model replaced version {found[2]}"


def possible_bounds(one: Change) -> tuple[float | None, float | None, bool]:
    """The interval, cut where a share would be below 0 or above 1, and whether it is cut.

    The share without the change is `after - change`, so that the measured change is always in the interval.
    """
    if one.low is None or one.high is None or one.change is None or one.after is None:
        return one.low, one.high, False
    if unit_of(one.metric) != "share" or not 0.0 <= one.after <= 1.0:
        return one.low, one.high, False
    low = max(one.low, min(one.change, one.change - one.after))
    high = min(one.high, max(one.change, one.change - one.after + 1.0))  # rounding would exclude the change
    return low, high, (low, high) != (one.low, one.high)


def only_effect(report: PeriodReport) -> Change | None:
    """The effect of the single change of a tenant, if the page shows it; else None."""
    roi, effects = report.roi_estimate, [one for one in (*report.better, *report.worse) if one.effect]
    alone = roi is not None and roi.tickets == len(effects) == 1 and effects[0].metric == roi.metric
    return effects[0] if alone else None


def gain_range(report: PeriodReport) -> str | None:
    """The range of the gain of a single change, which is that of its effect; None for several."""
    roi, one = report.roi_estimate, only_effect(report)
    if roi is None or one is None or not roi.cumulative or not roi.roi.gain:
        return None
    low, high, _ = possible_bounds(one)
    if low is None or high is None:
        return None
    worth, currency = roi.roi.gain / roi.cumulative, report.report_metadata.currency
    first, last = sorted((low * worth, high * worth))
    return f"probably between {money(first, currency)} and {money(last, currency)}"


def period_gain(report: PeriodReport) -> tuple[int, float]:
    """Number and gain of the changes in use that were measured in the period, each alone."""
    metric = None if report.roi_estimate is None else report.roi_estimate.metric
    used = {one.ticket_id for one in report.tickets if (one.metric, one.status) == (metric, "measured")}
    start = report.report_metadata.analysis_period.start
    newest = {one.ticket_id: one for one in sorted(report.impacts, key=lambda one: one.measured_at)}
    gains = [
        one.roi.gain
        for name, one in newest.items()
        if name in used and one.effect is not None and one.measured_at >= start
    ]
    return len(gains), sum(gains)


def explain(one: Change, currency: str = "") -> list[str]:
    """Sentences: the compared values, whether chance explains their change, and the number of users."""
    return [*_values(one, currency), *_chance(one, currency), *_sample(one)]


def _values(one: Change, currency: str) -> list[str]:
    if one.before is None or one.after is None:
        return []
    unit, right = unit_of(one.metric), " right" if one.metric == "accuracy" else ""
    first, second = ("Without the change", "With it") if one.causal else ("Before", "After")
    sentences = [
        f"{first}: {value_text(one.before, unit, currency)}{right}.",
        f"{second}: {value_text(one.after, unit, currency)}{right}.",
    ]
    if one.change is not None and abs(one.after - one.before - one.change) > VISIBLE:
        controls = one.effect is not None and one.effect.controls >= MIN_CONTROLS
        reason = "for the change at other customers" if controls else "for how these users did before"
        sentences.append(f"The difference, corrected {reason}, is {change_text(one.change, unit, currency)}.")
    return sentences


def _chance(one: Change, currency: str) -> list[str]:
    low, high, is_cut = possible_bounds(one)
    if low is None or high is None:
        return ["Nothing tells whether this is chance."]
    between = f"the true change is probably {interval_text(low, high, unit_of(one.metric), currency)}"
    between += f", cut because a share ends at 0 and 100{NBSP}%." if is_cut else "."
    if low <= 0.0 <= high:
        return [f"It may be chance: {between}"]
    other = "" if one.causal else ", but something else at the same time may have caused it"
    return [f"Chance is an unlikely explanation{other}: {between}"]


def _sample(one: Change) -> list[str]:
    effect = one.effect
    if effect is None:
        return []
    counted = f"{effect.observations:,} {ANSWERS.get(effect.metric, 'answers')}"
    if one.measured is not None:
        counted += f", in {one.measured.days:.3g} days"
    if effect.causal:
        changed = plural(effect.users_changed, "user")
        kept = plural(effect.users_kept, "user")
        return [f"Compared: {changed} with the new version and {kept} with the old one, {counted}."]
    return [f"Measured: {plural(effect.users_changed, 'user')}, {counted}."]
