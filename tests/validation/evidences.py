"""Evidence for tests: two models on the same texts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from karen_learner.records import TASKS, Example, Risk
from karen_learner.settings import load_settings
from karen_learner.validation import Evidence, Prediction, score

ALPHA = 0.01
RISK = Risk(before=0.1, spent=ALPHA, after=0.09)


def evidence(
    examples: Sequence[Example],
    candidate: Sequence[Prediction],
    champion: Sequence[Prediction] | None,
    *,
    people: Iterable[tuple[str, ...]] | None = None,
    alpha: float = ALPHA,
    **parts: Any,
) -> Evidence:
    """The evidence of a decision at a significance level; by default all tasks are taught and trained."""
    thresholds = load_settings(environment={}).thresholds
    known: dict[str, Any] = {
        "taught": frozenset(TASKS),
        "trained": frozenset(TASKS),
        "taught_labels": frozenset({("intent", "billing")}),
        **parts,
    }
    return Evidence(
        examples=tuple(examples),
        people=((),) * len(examples) if people is None else tuple(people),
        candidate=score(examples, candidate, thresholds=thresholds),
        champion=None if champion is None else score(examples, champion, thresholds=thresholds),
        risk=RISK.model_copy(update={"spent": alpha}),
        **known,
    )
