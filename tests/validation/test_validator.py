"""The validator, and predictions as JSON."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from karen_learner.errors import SettingsError
from karen_learner.settings import Settings
from karen_learner.validation import ModelValidator, Prediction
from tests.validation.evidences import evidence
from tests.validation.holdouts import gold, word

spans = st.tuples(st.integers(0, 50), st.integers(0, 50), st.text())
predictions = st.builds(
    Prediction,
    st.none() | st.text(),
    st.none() | st.text(),
    st.none() | st.lists(spans, max_size=4).map(tuple),
)


@given(predictions)
def test_a_prediction_survives_json(prediction: Prediction) -> None:
    row = [prediction.intent, prediction.sentiment, prediction.entities]
    assert Prediction.from_row(json.loads(json.dumps(row))) == prediction


async def test_the_validator_reads_the_settings_at_each_call(settings: Settings) -> None:
    validator = ModelValidator(settings)
    examples = [gold(word(at), intent="billing") for at in range(20)]

    champion = [Prediction("billing")] * 10 + [Prediction("x")] * 10
    candidate = [Prediction("billing")] * 19 + [Prediction("x")]
    assert (await validator.judge(evidence(examples, candidate, champion))).accepted
    assert (await validator.judge(evidence(examples, candidate, None))).accepted

    settings.thresholds.update({"policy": "strict", "accuracy": 0.99})
    assert not (await validator.judge(evidence(examples, candidate, champion))).accepted


async def test_an_unknown_gate_is_an_error_that_names_the_known_gates(settings: Settings) -> None:
    validator = ModelValidator(settings)
    settings.gate.gates = ("improved", "nonsense")

    with pytest.raises(SettingsError, match=r"'nonsense'.*known are agreement, anchor, budgets"):
        ModelValidator(settings)
    with pytest.raises(SettingsError, match="nonsense"):
        await validator.judge(evidence([gold(intent="a")], [Prediction("a")], [Prediction("a")]))
