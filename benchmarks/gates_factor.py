"""Two constants of the gates, measured with models that refit in moments (LinearSVC on clinc150).

The factor of standard errors: out-of-fold differences of five shadows against the true difference of the
served models on texts outside of all trainings. The allowance for feedback: the gain that a candidate without
new knowledge shows on texts that the champion answered wrongly.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import accuracy_text
import numpy as np
from accuracy_text import Texts
from numpy.typing import NDArray
from peers import make_linear_svc

from karen_learner.records import Example, Risk
from karen_learner.settings import load_settings
from karen_learner.validation import Evidence, Prediction, ScoredTexts, score
from karen_learner.validation.comparison import ALLOWANCE, OVERLAP, compare_feedback

LABELS, GOLD, MORE, FOLDS = 20, 300, 100, 5
CORRECTIONS, CONFIRMATIONS, USERS = 100, 300, 30
LEVEL = 0.01


@dataclass(frozen=True)
class Draw:
    """Gold of a tenant, further training texts, and texts outside of all trainings."""

    gold: Texts
    more: Texts
    rest: Texts


def draws(data: Path, replicates: int) -> list[Draw]:
    texts = list(accuracy_text.read(data / "clinc150" / "train.jsonl", "intent"))
    names = sorted({label for _, label in texts})
    found = []
    for seed in range(replicates):
        rng = random.Random(seed)
        kept = set(rng.sample(names, LABELS))
        part = [one for one in texts if one[1] in kept]
        rng.shuffle(part)
        found.append(Draw(part[:GOLD], part[GOLD : GOLD + MORE], part[GOLD + MORE :]))
    return found


def answers(train: Texts, texts: Texts) -> NDArray[np.str_]:
    model = make_linear_svc().fit([text for text, _ in train], [label for _, label in train])
    return np.array(model.predict([text for text, _ in texts]))


def right(train: Texts, texts: Texts) -> NDArray[np.float64]:
    return (answers(train, texts) == np.array([label for _, label in texts])).astype(float)


def print_factor(data: Path, replicates: int) -> None:
    """The spread of (measured - true difference) in naive standard errors."""
    served, shadows = [], []
    for draw in draws(data, replicates):
        folds = np.arange(GOLD) % FOLDS
        difference, of_shadows = np.zeros(GOLD), []
        for fold in range(FOLDS):
            kept = [one for one, of in zip(draw.gold, folds, strict=True) if of != fold]
            judged = [one for one, of in zip(draw.gold, folds, strict=True) if of == fold]
            sides = [[*kept, *draw.more], kept]
            texts = [*judged, *draw.rest]
            both = [right(train, texts) for train in sides]
            difference[folds == fold] = (both[0] - both[1])[: len(judged)]
            of_shadows.append(float((both[0] - both[1])[len(judged) :].mean()))
        true = float((right([*draw.gold, *draw.more], draw.rest) - right(draw.gold, draw.rest)).mean())
        error = float(difference.std(ddof=1)) / GOLD**0.5
        served.append((difference.mean() - true) / error)
        shadows.append((difference.mean() - np.mean(of_shadows)) / error)
    print(
        f"\nout-of-fold difference less the true one, in standard errors; {replicates} tenants, {GOLD} texts"
    )
    for name, values in (("served models", served), ("shadows", shadows)):
        print(f"  {name:14} mean {np.mean(values):+.2f}, standard deviation {np.std(values, ddof=1):.2f}")
    print(f"  the factor of the gates is {OVERLAP}")


def print_feedback(data: Path, replicates: int) -> None:
    """Feedback on errors of the served champion, judged by shadows of candidates without and with a gain."""
    runs = {"without a gain": [], "with more texts": []}
    for draw in draws(data, replicates):
        kept = draw.gold[: GOLD - GOLD // FOLDS]
        replaced = [*kept[: round(0.9 * len(kept))], *draw.more[: len(kept) - round(0.9 * len(kept))]]
        predicted = {
            name: answers(train, draw.rest)
            for name, train in (
                ("served", draw.gold), ("champion", kept),
                ("without a gain", replaced), ("with more texts", [*kept, *draw.more]),
            )
        }  # fmt: skip
        for name, run in runs.items():
            run.append(
                [_compared(draw, predicted, name, confirmations) for confirmations in (0, CONFIRMATIONS)]
            )
    print(f"\nfeedback of {USERS} people, {CORRECTIONS} corrections: better at {LEVEL:.0%}, of {replicates}")
    for name, run in runs.items():
        few, many = (np.array([one[at] for one in run]) for at in (0, 1))
        print(
            f"  {name:16} gain without confirmations {few[:, 0].mean():+.3f}, shown {few[:, 1].mean():4.0%}; "
            f"with {CONFIRMATIONS}: {many[:, 0].mean():+.3f}, shown {many[:, 1].mean():4.0%}"
        )
    print(f"  the allowance of the gates is {ALLOWANCE}")


def _compared(
    draw: Draw, predicted: dict[str, NDArray[np.str_]], candidate: str, confirmations: int
) -> tuple[float, bool]:
    labels = np.array([label for _, label in draw.rest])
    correct = predicted["served"] == labels
    wrong, fine = np.flatnonzero(~correct)[:CORRECTIONS], np.flatnonzero(correct)[:confirmations]
    chosen = [(at, "correction") for at in wrong] + [(at, "rating") for at in fine]
    examples = tuple(_example(draw.rest[at], source) for at, source in chosen)
    rng = random.Random(0)
    evidence = Evidence(
        examples=examples,
        people=tuple((f"user {rng.randrange(USERS)}",) for _ in examples),
        candidate=_scored(examples, predicted[candidate][[at for at, _ in chosen]]),
        champion=_scored(examples, predicted["champion"][[at for at, _ in chosen]]),
        risk=Risk(before=0.1, spent=LEVEL, after=0.09),
        taught=frozenset({"intent"}),
        trained=frozenset({"intent"}),
        taught_labels=frozenset(("intent", str(label)) for label in set(labels)),
    )
    accuracy = float((predicted["champion"] == labels).mean())
    found = compare_feedback(evidence, "intent", accuracy=accuracy, gold=GOLD)
    if found is None:
        return 0.0, False
    return found.gain, found.p_better <= LEVEL


def _example(text: tuple[str, str], source: str) -> Example:
    return Example.model_construct(
        text=text[0], intent=text[1], sentiment=None, entities=None, example_id=text[0], key=text[0],
        group=text[0], source=source, stratum="",
    )  # fmt: skip


def _scored(examples: Sequence[Example], predicted: Sequence[str]) -> ScoredTexts:
    thresholds = load_settings(environment={}).thresholds
    return score(examples, [Prediction(str(label)) for label in predicted], thresholds=thresholds)
