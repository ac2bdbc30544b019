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
from karen_learner.records import CATEGORY_TASKS, Example
from karen_learner.records.training import Predicted

IMPROBABLE = 0.01
SURE = 0.5
RECOGNISED = 5


def doubtful_examples(judged: JudgedTexts, predicted: Sequence[Predicted]) -> frozenset[str]:
    """The ids of the judged examples with a doubtful label; their predictions are the first ones."""
    tasks = range(len(CATEGORY_TASKS))
    return frozenset(one.example_id for at in tasks for one in _doubtful(at, judged, predicted))


def _doubtful(task: int, judged: JudgedTexts, predicted: Sequence[Predicted]) -> Iterator[Example]:
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
            yield example
