"""Mode and start conditions of a cycle."""

from datetime import timedelta

import pytest

from karen_learner.cycle.policy import (
    examples_apart,
    harmful_decisions,
    last_full_training,
    resolve_mode,
    skip_reason,
    undecided_examples,
)
from karen_learner.records import (
    CycleRow,
    LearningCycleResult,
    ModelVersion,
    ValidationResult,
    Verdict,
    utc_now,
)
from tests.memory.memory_specimens import NOON, make_example, make_result

CHAMPION = ModelVersion(
    tenant_id="t", version="v0001", path=".", digest="d", parent=None, cycle_id=None, created_at=utc_now()
)
NOTHING_SCORED = ValidationResult(
    accuracy=None,
    precision=None,
    recall=None,
    f1_score=None,
    intent_accuracy=None,
    sentiment_accuracy=None,
    entity_accuracy=None,
    passed_threshold=False,
)


@pytest.mark.parametrize(
    ("mode", "examples", "expected"),
    [
        ("auto", 149, "incremental"),
        ("auto", 150, "full"),
        ("auto", 1000, "full"),
        ("auto", 1001, "incremental"),
        ("incremental", 500, "incremental"),
        ("full", 101, "full"),
    ],
)
def test_auto_is_full_when_the_examples_have_grown(mode: str, examples: int, expected: str) -> None:
    sizes = {"examples": examples, "last_full": 100, "most": 1000, "refit_below": 0}
    assert resolve_mode(mode, CHAMPION, growth=1.5, **sizes) == expected


def test_a_cycle_without_champion_is_full() -> None:
    assert (
        resolve_mode("incremental", None, examples=1, last_full=0, growth=1.5, most=10, refit_below=0)
        == "full"
    )


def test_auto_is_never_full_without_growth() -> None:
    sizes = {"examples": 9, "last_full": 1, "most": 10, "refit_below": 0}
    assert resolve_mode("auto", CHAMPION, growth=0.0, **sizes) == "incremental"


@pytest.mark.parametrize(
    ("mode", "examples", "expected"),
    [("auto", 99, "full"), ("auto", 100, "incremental"), ("incremental", 99, "incremental")],
)
def test_auto_is_full_for_few_examples(mode: str, examples: int, expected: str) -> None:
    sizes = {"examples": examples, "last_full": None, "most": 1000, "refit_below": 100}
    assert resolve_mode(mode, CHAMPION, growth=0.0, **sizes) == expected


def row(mode: str, examples: int, *, trained: bool) -> CycleRow:
    result = LearningCycleResult(
        cycle_id="c",
        tenant_id="t",
        mode=mode,
        reason=None,
        status="rejected" if trained else "skipped",
        training_examples=examples,
        replay_examples=5,
        validation=NOTHING_SCORED if trained else None,
        started_at=utc_now(),
    )
    return CycleRow(
        cycle_id="c", tenant_id="t", mode=mode, reason=None, stage="finished", token=1,
        started_at=utc_now(), result=result,
    )  # fmt: skip


def test_the_last_full_training_is_the_newest_that_was_scored() -> None:
    rows = [
        row("incremental", 50, trained=True),
        row("full", 90, trained=False),
        row("full", 70, trained=True),
        row("full", 40, trained=True),
    ]
    assert last_full_training(rows) == 75
    assert last_full_training(rows[:2]) is None


@pytest.mark.parametrize(
    ("new", "learned", "mode", "force", "expected"),
    [
        (0, 0, "full", True, "nothing has been curated"),
        (0, 9, "incremental", True, "nothing new"),
        (0, 9, "full", True, None),
        (4, 9, "incremental", False, "min_data_threshold is 5"),
        (4, 9, "incremental", True, None),
        (5, 9, "incremental", False, None),
    ],
)
def test_reasons_to_skip_a_cycle(
    new: int, learned: int, mode: str, force: bool, expected: str | None
) -> None:
    reason = skip_reason(new, learned, mode, 5, force)
    assert (reason is None) if expected is None else (reason is not None and expected in reason)


def decided(pending: int, **verdict: bool) -> LearningCycleResult:
    """The result of a decision that took ten seconds from NOON."""
    decision = Verdict(accepted=False, harmful=False, improved=(), checks=()).model_copy(update=verdict)
    result = make_result(status="rejected")
    return result.model_copy(update={"duration_s": 10.0, "pending_examples": pending, "verdict": decision})


def test_examples_of_a_rejection_without_harm_are_undecided() -> None:
    assert undecided_examples(None) == 0
    assert undecided_examples(decided(60)) == 60
    assert (
        undecided_examples(decided(60, accepted=True)) == undecided_examples(decided(60, harmful=True)) == 0
    )


def test_examples_that_waited_for_a_new_label_are_not_undecided() -> None:
    apart = {"new_labels": ("music",), "status": "rejected", "training_examples": 20}
    rejected = decided(60).model_copy(update=apart)
    assert (examples_apart(rejected), undecided_examples(rejected)) == (40, 20)
    assert examples_apart(decided(60)) == 0
    assert examples_apart(rejected.model_copy(update={"status": "failed"})) == 0


def test_gold_that_stays_after_repeated_harm_is_undecided() -> None:
    """No quarantine removes it: each scheduled cycle would train on it again."""
    harmful = decided(60, harmful=True)
    assert undecided_examples(harmful, harmful=1) == 0, "a first harmful batch is tried again"
    assert undecided_examples(harmful, harmful=2) == 60
    others_left = harmful.model_copy(update={"quarantined_examples": 20})
    assert undecided_examples(others_left, harmful=2) == 0, "the rest was not judged alone"
    results = [harmful, make_result(status="skipped"), harmful, decided(9), harmful]
    assert [harmful_decisions(results[at:]) for at in range(len(results))] == [2, 1, 1, 0, 1]


def test_examples_that_left_or_came_since_the_decision_are_not_undecided() -> None:
    old = [make_example(f"old {n}", created_at=NOON) for n in range(20)]
    new = [make_example(f"new {n}", created_at=NOON + timedelta(seconds=11)) for n in range(50)]
    assert undecided_examples(decided(500), [*old, *new]) == 20  # 480 were withdrawn
    assert undecided_examples(decided(50), new) == 0  # the selection is full
    assert skip_reason(70, 100, "incremental", 50, False, undecided=20) is None
