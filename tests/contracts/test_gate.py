"""Contract of `Gate`: a better candidate is accepted, a worse one is rejected, a first model is deployed."""

from collections.abc import Callable

import pytest

from karen_learner.contracts import Gate
from karen_learner.records import Example, Risk
from karen_learner.settings import load_settings
from karen_learner.validation import Evidence, ModelValidator, Prediction, ScoredTexts, score

TEXTS = 60
SETTINGS = load_settings(environment={})


def model_validator() -> Gate[Evidence]:
    return ModelValidator(SETTINGS)


@pytest.fixture(params=[model_validator])
def gate(request: pytest.FixtureRequest) -> Gate[Evidence]:
    make: Callable[[], Gate[Evidence]] = request.param
    return make()


def judged() -> tuple[Example, ...]:
    return tuple(
        Example(
            text=f"text {number}", intent=("a", "b")[number % 2], example_id=str(number), source="seed",
            quality=1.0, key=str(number), group=str(number), stratum="intent:a",
        )
        for number in range(TEXTS)
    )  # fmt: skip


def evidence(candidate: int, champion: int | None) -> Evidence:
    """The evidence of two models with so many correct intents."""

    def scored(right: int) -> ScoredTexts:
        predictions = [
            Prediction(intent=one.intent if number < right else "c") for number, one in enumerate(judged())
        ]
        return score(judged(), predictions, thresholds=SETTINGS.thresholds)

    return Evidence(
        examples=judged(),
        people=((),) * TEXTS,
        candidate=scored(candidate),
        champion=None if champion is None else scored(champion),
        risk=Risk(before=0.1, spent=0.01, after=0.09),
        taught=frozenset({"intent"}),
        trained=frozenset({"intent"}),
        taught_labels=frozenset({("intent", "a")}),
    )


async def test_a_first_model_is_accepted(gate: Gate[Evidence]) -> None:
    assert (await gate.judge(evidence(30, None))).accepted


async def test_a_better_candidate_is_accepted(gate: Gate[Evidence]) -> None:
    verdict = await gate.judge(evidence(60, 40))
    assert verdict.accepted
    assert verdict.decision == "accepted"
    assert verdict.improved == ("intent",)


async def test_a_worse_candidate_is_rejected_with_failed_checks(gate: Gate[Evidence]) -> None:
    verdict = await gate.judge(evidence(10, 60))
    assert not verdict.accepted
    assert verdict.decision == "worse"
    assert verdict.harmful
    assert any(not check.passed and check.detail for check in verdict.checks)


async def test_a_candidate_without_a_shown_gain_is_rejected_without_harm(gate: Gate[Evidence]) -> None:
    verdict = await gate.judge(evidence(41, 40))
    assert (verdict.accepted, verdict.harmful) == (False, False)
