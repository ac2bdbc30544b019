"""The evidence of a decision: judged texts, the results of candidate and champion, and the risk. Pure.

The risk bounds the chance of deployments without a gain: each decision spends a part of a wealth of 10 %.
Repeated decisions on the same texts raise the chance that one of them errs. So all decisions share a wealth,
as in alpha-investing (Foster and Stine, *Journal of the Royal Statistical Society B* 70, 2008). The
significance levels of all decisions on the same judged texts add up to at most the wealth. By Bonferroni's
inequality this bounds the chance of deploying a candidate without a gain. Fresh judged texts refill the
wealth.

The bound does not cover a person who chooses data or settings by the scores on the judged texts (Dwork et
al., *The reusable holdout*, Science 349, 2015), nor versions that serve before their decision.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from karen_learner.errors import InvalidInput
from karen_learner.records import Example, LabelledText, Risk, Task
from karen_learner.records.training import Predicted
from karen_learner.validation.results import TaskResult
from karen_learner.validation.scoring import ScoredTexts

WEALTH = 0.10
"""The initial wealth, which is also its upper bound."""
SPENT_SHARE = 0.10
"""The share of the wealth that a decision spends."""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Shares of `texts` recent texts for which a served model answers as its shadows."""

    candidate: float
    champion: float
    texts: int


def share_of_equal(one: Sequence[Predicted], other: Sequence[Predicted]) -> float:
    """The share of texts with the same intent and sentiment."""
    same = [mine.row[:2] == theirs.row[:2] for mine, theirs in zip(one, other, strict=True)]
    return sum(same) / len(same)


@dataclass(frozen=True, kw_only=True)
class Anchor:
    """The best version so far of a task, with its results on judged texts of that version."""

    version: str
    by_task: Mapping[Task, TaskResult]


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """The input of all gates.

    `examples` are the judged texts, gold and feedback. `people` are the ids of the people of each judged
    text; empty for seed gold. `candidate` and `champion` are out-of-fold results on the same texts, with
    positions in `examples`; `champion` is None for a first model. `anchors` hold results on a part of these
    positions.
    `taught` are the tasks and `taught_labels` the labels of the new examples. Without labels there are no new
    examples, and no gain is needed. The champion does not know `unknown_labels`. `trained` are the tasks of
    trained pipes; the other pipes are identical.
    `risk.spent` is the significance level of this decision. `quorum` is the number of people who change a
    meaning. `model_bytes` is the size of the saved candidate, `ms_per_text` its time for a text in
    milliseconds. On `disagreements` texts people disagree.

    Raises InvalidInput if `people` does not fit, or if the models were scored on different texts.
    """

    examples: tuple[Example, ...]
    people: tuple[tuple[str, ...], ...]
    candidate: ScoredTexts
    champion: ScoredTexts | None
    risk: Risk
    taught: frozenset[Task]
    trained: frozenset[Task]
    taught_labels: frozenset[tuple[Task, str]]
    unknown_labels: frozenset[tuple[Task, str]] = frozenset()
    anchors: Mapping[Task, Anchor] = field(default_factory=dict)
    agreement: Agreement | None = None
    model_bytes: int = 0
    ms_per_text: float | None = None
    disagreements: int = 0
    quorum: int = 3

    def __post_init__(self) -> None:
        if len(self.people) != len(self.examples):
            raise InvalidInput(f"people of {len(self.people)} texts for {len(self.examples)} judged texts")
        if self.champion is not None:
            _require_same_texts(self.candidate, self.champion)

    @cached_property
    def gold(self) -> NDArray[np.bool_]:
        """Which judged texts are gold: (texts,)."""
        return np.array([example.is_gold for example in self.examples], dtype=bool)

    def on_gold(self, task: Task) -> tuple[TaskResult, TaskResult] | None:
        """The results of candidate and champion on gold; None without such texts or champion."""
        if self.champion is None or task not in self.candidate.by_task:
            return None
        after, before = self.candidate.by_task[task], self.champion.by_task[task]
        gold = self.gold[after.positions]
        return (after.select(gold), before.select(gold)) if gold.any() else None

    @property
    def alpha(self) -> float:
        """The significance level of this decision; 0 without new examples."""
        return self.risk.spent


def labels_of(labelled: LabelledText, task: Task) -> frozenset[str]:
    """The labels of a text for a task; for entities those of its spans."""
    if task == "entities":
        return frozenset(span.label for span in labelled.entities or ())
    label = labelled.intent if task == "intent" else labelled.sentiment
    return frozenset() if label is None else frozenset((label,))


def _require_same_texts(candidate: ScoredTexts, champion: ScoredTexts) -> None:
    new, old = candidate.by_task, champion.by_task
    if new.keys() != old.keys() or any(
        not np.array_equal(new[task].positions, old[task].positions) for task in new
    ):
        raise InvalidInput("candidate and champion were scored on different texts: score both on the same")


def next_risk(last: Risk | None, judged: Iterable[Example], *, new_examples: bool) -> Risk:
    """The risk of the next decision. `last` is that of the last decision, None for the first one.

    `judged` are the judged texts; only gold counts. The wealth grows by `WEALTH` times the share of gold
    that is fresh, up to `WEALTH`: newer than the gold of the last decision, or reviewed since. Without new
    examples the decision spends nothing.
    """
    gold = [example.seq or 0 for example in judged if example.is_gold]
    before = WEALTH if last is None else _refilled(last, gold)
    spent = before * SPENT_SHARE if new_examples else 0.0
    newest, most = max(gold, default=0), len(gold)
    if last is not None:
        newest, most = max(newest, last.newest_seq), max(most, last.judged)
    return Risk(before=before, spent=spent, after=before - spent, judged=most, newest_seq=newest)


def _refilled(last: Risk, gold: list[int]) -> float:
    fresh = max(sum(seq > last.newest_seq for seq in gold), len(gold) - last.judged)
    return min(WEALTH, last.after + WEALTH * fresh / len(gold)) if gold else last.after
