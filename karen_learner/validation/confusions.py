"""What a model takes for what: the most frequent errors, with a few of their texts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence

from karen_learner.records import TASKS, Confusion, Example, Task
from karen_learner.validation.outcomes import gold_spans
from karen_learner.validation.predictions import Prediction, Triple

NOTHING = "(none)"
"""Stands for gold where something spurious was found, and for the prediction where nothing was."""

OTHER_BOUNDS = "(other bounds)"
MOST_ROWS = 20
MOST_TEXTS = 3
MOST_CHARACTERS = 200

Error = tuple[Task, str, str]


def confusions(
    examples: Sequence[Example], predictions: Sequence[Prediction], *, tasks: Collection[Task] = TASKS
) -> tuple[Confusion, ...]:
    """The 20 most frequent confusions, the most frequent first, each with up to three texts.

    An entity that overlaps a gold one was taken for it: with another label, or with other bounds. One
    that overlaps none is spurious, and a gold one that was taken for nothing is missed.
    """
    counts: dict[Error, int] = defaultdict(int)
    texts: dict[Error, list[str]] = defaultdict(list)
    for example, prediction in zip(examples, predictions, strict=True):
        for error in _errors(example, prediction, tasks):
            counts[error] += 1
            shown = _cut(example.text)
            if len(texts[error]) < MOST_TEXTS and shown not in texts[error]:
                texts[error].append(shown)
    most = sorted(counts, key=lambda error: (-counts[error], error))[:MOST_ROWS]
    return tuple(
        Confusion(
            task=error[0], gold=error[1], predicted=error[2], count=counts[error], texts=tuple(texts[error])
        )
        for error in most
    )


def _errors(example: Example, prediction: Prediction, tasks: Collection[Task]) -> Iterator[Error]:
    if "intent" in tasks and example.intent not in (None, prediction.intent):
        yield "intent", str(example.intent), prediction.intent or NOTHING
    if "sentiment" in tasks and example.sentiment not in (None, prediction.sentiment):
        yield "sentiment", str(example.sentiment), prediction.sentiment or NOTHING
    if "entities" in tasks and example.entities is not None:
        for gold, predicted in _entity_errors(example, prediction):
            yield "entities", gold, predicted


def _entity_errors(example: Example, prediction: Prediction) -> Iterator[tuple[str, str]]:
    gold = sorted(set(gold_spans(example)) - set(prediction.entities or ()))
    found = sorted(set(prediction.entities or ()) - set(gold_spans(example)))
    for span in gold:
        taken = next((other for other in found if _overlap(span, other)), None)
        if taken is None:
            yield span[2], NOTHING
            continue
        found.remove(taken)
        yield span[2], taken[2] if taken[2] != span[2] else f"{span[2]} {OTHER_BOUNDS}"
    for span in found:
        yield NOTHING, span[2]


def _overlap(one: Triple, other: Triple) -> bool:
    return one[0] < other[1] and other[0] < one[1]


def _cut(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else text[: MOST_CHARACTERS - 1] + "…"
