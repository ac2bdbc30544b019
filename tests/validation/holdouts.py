"""Small sets of judged texts with predictions, drawn from seeded generators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from karen_learner.curation.examples import new_example
from karen_learner.records import Example, LabelledText
from karen_learner.validation import Prediction

INTENTS = ("billing", "cancel", "refund", "upgrade")
SENTIMENTS = ("negative", "neutral", "positive")
SPANS = ((0, 5, "PLAN"), (6, 11, "DATE"), (12, 17, "PLAN"))


def gold(text: str = "hello", **labels: Any) -> Example:
    return new_example(LabelledText(text=text, **labels), source="seed", quality=1.0)


def word(number: int) -> str:
    """A word of letters. Texts that differ in a number alone are near-duplicates."""
    letters = ""
    while True:
        number, digit = divmod(number, 20)
        letters += "bcdfghjklmnpqrstvwxz"[digit]
        if not number:
            return f"text{letters}"


def holdout(count: int, *, seed: int = 0) -> list[Example]:
    """Texts; each has some of the labels."""
    rng = np.random.default_rng(seed)
    return [gold(f"alpha gamma {word(at)}", **_labels(rng)) for at in range(count)]


def _labels(rng: np.random.Generator) -> dict[str, Any]:
    labels: dict[str, Any] = {"intent": str(rng.choice(INTENTS))}
    if rng.random() < 0.7:
        labels["sentiment"] = str(rng.choice(SENTIMENTS))
    if rng.random() < 0.5:
        labels["entities"] = tuple(span for span in SPANS if rng.random() < 0.5)
    return labels


def answers(examples: Sequence[Example], *, right: float, seed: int) -> list[Prediction]:
    """Predictions; about the share `right` is correct."""
    rng = np.random.default_rng(seed)
    return [_answer(example, right, rng) for example in examples]


def _answer(example: Example, right: float, rng: np.random.Generator) -> Prediction:
    known = {(span.start, span.end, span.label) for span in example.entities or ()}
    return Prediction(
        intent=example.intent if rng.random() < right else str(rng.choice(INTENTS)),
        sentiment=example.sentiment if rng.random() < right else str(rng.choice(SENTIMENTS)),
        entities=tuple(span for span in SPANS if (span in known) == (rng.random() < right)),
    )
