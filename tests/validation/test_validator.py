"""The validator, and predictions as JSON."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from karen_learner.settings import Settings
from karen_learner.validation import ModelValidator, Prediction
from tests.validation.holdouts import gold

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
    examples = [gold(f"text {at}", intent="billing") for at in range(10)]

    champion = await validator.score(examples, [Prediction("billing")] * 6 + [Prediction("x")] * 4)
    candidate = await validator.score(examples, [Prediction("billing")] * 7 + [Prediction("x")] * 3)
    assert (await validator.judge(candidate, champion)).accepted
    assert (await validator.judge(candidate, None)).accepted

    settings.thresholds.update({"policy": "strict"})
    assert not (await validator.judge(candidate, champion)).accepted
