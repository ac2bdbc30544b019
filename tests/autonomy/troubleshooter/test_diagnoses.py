"""Diagnoses of situations that are made without a home."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import pytest

from karen_learner.autonomy.troubleshooter.diagnoses.learning import drift, small_judging_set
from karen_learner.autonomy.troubleshooter.situation import Situation
from karen_learner.records import HomeHealth, LearningCycleResult, TenantStatus, ValidationResult, Verdict
from karen_learner.records.health import DiskUse, TenantHealth
from karen_learner.records.readings import Reading
from karen_learner.records.reports import TenantCounts
from karen_learner.settings import load_settings

NOW = datetime(2026, 3, 1, tzinfo=timezone.utc)


def situation(*, judged: int, gold: int, verdict: Verdict) -> Situation:
    scores = dict.fromkeys(
        (
            "accuracy",
            "precision",
            "recall",
            "f1_score",
            "intent_accuracy",
            "sentiment_accuracy",
            "entity_accuracy",
        )
    )
    result = LearningCycleResult(
        cycle_id="c", tenant_id="acme", mode="full", reason=None, status="rejected", started_at=NOW,
        validation=ValidationResult(**scores, passed_threshold=False, counts={"intent": judged}),
        verdict=verdict,
    )  # fmt: skip
    status = TenantStatus(
        tenant_id="acme", champion=None, counts=TenantCounts(gold=gold), labels={}, running_cycle=None,
        last_cycle=result, ready_to_learn=False, advice="", health=TenantHealth(served_by="fallback"),
    )  # fmt: skip
    home = HomeHealth(disk=DiskUse(home=Path("home"), by_kind={}, free=1, size=1))
    return Situation(
        tenant_id="acme", now=NOW, settings=load_settings(), home=home, status=status, results=(result,)
    )


WORSE = Verdict(accepted=False, harmful=True, improved=(), checks=(), decision="worse")
ACCEPTED = Verdict(accepted=True, harmful=False, improved=(), checks=())


@pytest.mark.parametrize(
    ("judged", "gold", "verdict", "present"),
    [
        (18, 18, ACCEPTED, True),
        (18, 18, WORSE, True),
        (72, 72, WORSE, False),
        (24, 72, ACCEPTED, True),
        pytest.param(24, 72, WORSE, None, id="the rejected feedback contradicts gold"),
    ],
)
def test_little_judged_gold_is_told_unless_rejected_feedback_contradicts_it(
    judged: int, gold: int, verdict: Verdict, present: bool | None
) -> None:
    assert small_judging_set(situation(judged=judged, gold=gold, verdict=verdict)).present is present


@pytest.mark.parametrize(
    ("name", "value", "reference", "present"),
    [
        ("input_drift", 0.6, 0.5, False),
        ("input_drift", 0.7, 0.5, True),
        ("vocabulary", 0.15, 0.1, False),
        ("vocabulary", 0.3, 0.1, True),
        ("degradation", 0.2, 0.15, True),
        ("label_distribution", 0.1, None, True),
    ],
)
def test_a_change_of_inputs_needs_an_effect(
    name: str, value: float, reference: float | None, present: bool
) -> None:
    reading = Reading(
        name=name, tenant_id="acme", at=NOW, unit="share", direction="neutral", value=value,
        reference=reference, observations=600, alarm=True,
    )  # fmt: skip
    found = situation(judged=72, gold=72, verdict=ACCEPTED)
    assert drift(replace(found, readings={name: reading})).present is present
