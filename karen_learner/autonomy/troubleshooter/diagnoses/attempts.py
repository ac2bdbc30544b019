"""Diagnoses of the attempts of agents."""

from __future__ import annotations

from itertools import takewhile

from karen_learner.autonomy.troubleshooter.situation import Situation
from karen_learner.metrics import wilson
from karen_learner.records.incidents import Examination

SUCCESS_MIN = 0.80
SUCCESS_CRITICAL = 0.05
ATTEMPTS_MIN = 20
FAILURES_MAX = 5


def low_success_rate(situation: Situation) -> Examination:
    """The success rate is certainly below 80 %; below 5 % it is critical."""
    attempts = situation.attempts[-200:]
    count, successes = len(attempts), sum(attempts)
    if count < ATTEMPTS_MIN:
        return Examination(present=None, reading="success_rate", facts={"attempts": count})
    rate, high = successes / count, wilson(successes, count)[1]
    return Examination(
        present=high < SUCCESS_MIN,
        severity="critical" if rate < SUCCESS_CRITICAL else "warning",
        reading="success_rate",
        value=rate,
        limit=SUCCESS_MIN,
        summary=f"{successes} of {count} attempts succeed",
        facts={"attempts": count},
    )


def consecutive_failures(situation: Situation) -> Examination:
    """More than five attempts in a row have failed."""
    attempts = situation.attempts
    failures = sum(1 for _ in takewhile(lambda success: not success, reversed(attempts)))
    is_short = failures <= FAILURES_MAX and failures == len(attempts)
    return Examination(
        present=None if is_short else failures > FAILURES_MAX,
        severity="critical",
        reading="consecutive_failures",
        value=float(failures),
        limit=float(FAILURES_MAX),
        summary=f"the last {failures} attempts have failed",
    )
