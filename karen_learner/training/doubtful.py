"""Feedback whose label is improbable: the model that serves does not learn it in this cycle. Pure.

A form of confident learning (Northcutt, Jiang and Chuang, *Journal of Artificial Intelligence Research* 70,
2021). The shadows predict feedback that they have not learned. A label that one person states is doubtful if

- its probability is at most IMPROBABLE, and that of another label at least SURE;
- no other text has it where the shadows predict that other label: repeated corrections are learned;
- the shadows recognise the label: they predict it for at least RECOGNISED texts that have it.

The example keeps its state. The next training decides again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from karen_learner.curation.folds import JudgedTexts
from karen_learner.records import CATEGORY_TASKS, DoubtfulLabel, Example
from karen_learner.records.training import Predicted

IMPROBABLE = 0.01
SURE = 0.5
RECOGNISED = 5


def doubtful_labels(judged: JudgedTexts, predicted: Sequence[Predicted]) -> tuple[DoubtfulLabel, ...]:
    """The doubtful labels of the judged examples, whose predictions are the first ones."""
    return tuple(one for task in range(len(CATEGORY_TASKS)) for one in _doubtful(task, judged, predicted))


def _doubtful(task: int, judged: JudgedTexts, predicted: Sequence[Predicted]) -> Iterator[DoubtfulLabel]:
    name = CATEGORY_TASKS[task]
    recognised: Counter[str] = Counter()
    pairs: Counter[tuple[str, str]] = Counter()
    disputed: list[tuple[Example, tuple[str, str]]] = []
    for example, one in zip(judged.examples, predicted, strict=False):
        stated, found = getattr(example, name), one.row[:2][task]
        if stated is None or found is None:
            continue
        if stated == found:
            recognised[stated] += 1
            continue
        pairs[found, stated] += 1
        right, sure = one.right[task], one.sure[task]
        is_sure = right is not None and sure is not None and right <= IMPROBABLE and sure >= SURE
        if is_sure and not example.is_gold and example.users == 1:
            disputed.append((example, (found, stated)))
    for example, (found, stated) in disputed:
        if pairs[found, stated] == 1 and recognised[stated] >= RECOGNISED:
            yield DoubtfulLabel(example_id=example.example_id, task=name, stated=stated, predicted=found)
