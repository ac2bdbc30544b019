"""Contract of `Gate`: a better candidate is accepted, a worse one is rejected, a first model is deployed."""

from collections.abc import Callable, Sequence

import pytest

from karen_learner.contracts import Gate
from karen_learner.records import Example
from karen_learner.settings import load_settings
from karen_learner.validation import ModelValidator, Prediction, ScoredTexts

Implementation = tuple[Gate[ScoredTexts], ModelValidator]
TEXTS = 60


def model_validator() -> Implementation:
    validator = ModelValidator(load_settings(environment={}))
    return validator, validator


@pytest.fixture(params=[model_validator])
def implementation(request: pytest.FixtureRequest) -> Implementation:
    """A gate, and a validator that scores predictions for it."""
    make: Callable[[], Implementation] = request.param
    return make()


def holdout() -> list[Example]:
    return [
        Example(
            text=f"text {number}", intent=("a", "b")[number % 2], example_id=str(number), source="seed",
            quality=1.0, key=str(number), group=str(number), stratum="intent:a", split="holdout",
        )
        for number in range(TEXTS)
    ]  # fmt: skip


async def scored(validator: ModelValidator, right: int) -> ScoredTexts:
    """The scores of a model with `right` correct intents."""
    examples = holdout()
    predictions: Sequence[Prediction] = [
        Prediction(intent=one.intent if number < right else "c") for number, one in enumerate(examples)
    ]
    return await validator.score(examples, predictions)


async def test_a_first_model_is_accepted(implementation: Implementation) -> None:
    gate, validator = implementation
    assert (await gate.judge(await scored(validator, 30), None)).accepted


async def test_a_better_candidate_is_accepted(implementation: Implementation) -> None:
    gate, validator = implementation
    verdict = await gate.judge(await scored(validator, 60), await scored(validator, 40), taught={"intent"})
    assert verdict.accepted
    assert verdict.improved == ("intent",)


async def test_a_worse_candidate_is_rejected_with_failed_checks(implementation: Implementation) -> None:
    gate, validator = implementation
    verdict = await gate.judge(await scored(validator, 10), await scored(validator, 60), taught={"intent"})
    assert not verdict.accepted
    assert verdict.harmful
    assert any(not check.passed and check.detail for check in verdict.checks)
