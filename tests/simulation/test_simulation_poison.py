from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from karen_learner.records import LabelledText, UserFeedback
from karen_learner.simulation.poison import label_permutation, poisoned_feedback

LABELS = {"intent": ("a", "b", "c"), "sentiment": ("neg", "pos"), "entities": ("city",)}


@given(st.integers(), st.sets(st.text(min_size=1), min_size=2))
def test_the_permutation_changes_every_label(seed: int, names: set[str]) -> None:
    shuffle = label_permutation({"intent": sorted(names)}, seed=seed)["intent"]
    assert set(shuffle) == set(shuffle.values()) == names
    assert all(label != other for label, other in shuffle.items())


def test_poisoned_feedback_contradicts_all_known_labels() -> None:
    gold = LabelledText(text="to Rome", intent="a", sentiment="pos", entities=((3, 7, "city"),))
    shuffle = label_permutation(LABELS, seed=3)
    feedback = UserFeedback.model_validate(poisoned_feedback(gold, shuffle))
    assert feedback.corrected_intent == shuffle["intent"]["a"] != "a"
    assert feedback.corrected_sentiment == "neg"
    assert feedback.corrected_entities == gold.entities
    assert feedback.satisfaction_score == 0.0
    assert set(poisoned_feedback(LabelledText(text="x", intent="a"), shuffle)) == {
        "corrected_intent", "satisfaction_score", "response_quality",
    }  # fmt: skip
