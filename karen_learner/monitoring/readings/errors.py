"""The kind of error that has become more frequent: a pair of labels, or an error type of a domain."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from karen_learner.metrics import binomial_tail
from karen_learner.monitoring.readings.sources import Sources
from karen_learner.records import Outcome
from karen_learner.records.readings import Reading

LEVEL = 0.01
MIN_ERRORS = 5
"""Errors of one kind in the newer half, at least."""
MIN_OUTCOMES = 40
MAX_LABEL_CHARS = 200


def error_pattern(sources: Sources) -> Reading:
    """Share of the newer half of the outcomes with the kind of error that has grown most.

    The alarm is a binomial test of newer against older errors of each kind, with Bonferroni's correction.
    """
    told = [one for one in sources.outcomes if one.score is not None or one.success is not None]
    half = len(told) // 2
    if len(told) < MIN_OUTCOMES:
        return sources.reading(
            "error_pattern", None, unit="share", direction="higher_is_worse", observations=len(told)
        )
    older, newer = _errors(told[:half]), _errors(told[half:])
    tested = {kind: count for kind, count in newer.items() if count >= MIN_ERRORS}
    p_values = {kind: binomial_tail(count, count + older[kind]) for kind, count in tested.items()}
    worst = min(p_values, key=lambda kind: p_values[kind], default=None)
    p_value = 1.0 if worst is None else min(1.0, p_values[worst] * len(p_values))
    return sources.reading(
        "error_pattern",
        0.0 if worst is None else newer[worst] / (len(told) - half),
        unit="share",
        direction="higher_is_worse",
        reference=0.0 if worst is None else older[worst] / half,
        observations=len(told),
        alarm=p_value <= LEVEL,
        false_alarms_per_month=LEVEL * sources.windows_per_month([one.known_at for one in told]),
        detail={"p": p_value, "kind": worst},
    )


def _errors(outcomes: Sequence[Outcome]) -> Counter[str]:
    return Counter(kind for one in outcomes if (kind := _kind(one)) is not None)


def _kind(one: Outcome) -> str | None:
    """The name of an error; None for a success, and for an error without a name."""
    if one.success is False and one.error_type is not None:
        return f"{one.error_type} in {one.domain}" if one.domain else one.error_type
    labels = (one.predicted, one.actual)
    wrong = one.score is not None and one.score < 0.5
    if not wrong or not all(isinstance(label, str) and len(label) <= MAX_LABEL_CHARS for label in labels):
        return None
    return f"{one.predicted} instead of {one.actual}"
