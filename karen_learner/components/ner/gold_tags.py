"""What an example teaches about entities: a tag for each token, or that nothing is known."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from spacy.attrs import ENT_IOB, ENT_TYPE, ORTH, SPACY
from spacy.tokens import Doc
from spacy.training import Example

from karen_learner.components.ner.tags import (
    BEGIN_IOB,
    INSIDE_IOB,
    MISSING_IOB,
    OUTSIDE_IOB,
    tags_of,
)

Ints = NDArray[np.int64]
NO_LABEL = -1
_CODES = {"B": BEGIN_IOB, "U": BEGIN_IOB, "I": INSIDE_IOB, "L": INSIDE_IOB, "O": OUTSIDE_IOB}


def gold_tags(example: Example, label_index: Mapping[int, int]) -> Ints:
    """The tag of each token of `example.predicted`; UNKNOWN where there is no annotation or it does not fit.

    `label_index` has the index of each label by its hash. A token of an entity with any other label is
    unknown; one that is blocked is outside.
    """
    iob, labels = _annotation(example, label_index)
    starts = np.zeros(len(iob), dtype=bool)
    starts[:1] = True
    return tags_of(iob, labels, starts)


def is_annotated(example: Example) -> bool:
    """Whether anything is said about entities, if only that there are none."""
    return bool(example.reference.has_annotation("ENT_IOB"))


def _annotation(example: Example, label_index: Mapping[int, int]) -> tuple[Ints, Ints]:
    """spaCy's IOB codes and indices of labels, both of shape (tokens,)."""
    if not is_annotated(example):
        length = len(example.predicted)
        return np.full(length, MISSING_IOB), np.full(length, NO_LABEL)
    if _same_tokens(example.predicted, example.reference):
        return _as_annotated(example.reference, label_index)
    return _aligned(example, label_index)


def _same_tokens(one: Doc, other: Doc) -> bool:
    if one is other:
        return True
    return len(one) == len(other) and bool((_words(one) == _words(other)).all())


def _words(doc: Doc) -> NDArray[np.uint64]:
    return np.asarray(doc.to_array([ORTH, SPACY]), dtype=np.uint64)


def _as_annotated(doc: Doc, label_index: Mapping[int, int]) -> tuple[Ints, Ints]:
    codes = doc.to_array([ENT_IOB, ENT_TYPE]).reshape(-1, 2)
    iob = codes[:, 0].astype(np.int64)
    names = codes[:, 1].tolist()
    blocked = (iob == BEGIN_IOB) & (codes[:, 1] == 0)
    labels = np.array([label_index.get(name, NO_LABEL) for name in names], dtype=np.int64)
    return np.where(blocked, OUTSIDE_IOB, iob), labels


def _aligned(example: Example, label_index: Mapping[int, int]) -> tuple[Ints, Ints]:
    """Where the tokens differ: through spaCy's alignment, which leaves out what does not fit."""
    strings = example.predicted.vocab.strings
    tags = [tag or "-" for tag in example.get_aligned_ner()]
    iob = np.array([_CODES.get(tag[0], MISSING_IOB) for tag in tags], dtype=np.int64)
    labels = [label_index.get(strings.add(tag[2:]), NO_LABEL) if len(tag) > 2 else NO_LABEL for tag in tags]
    return iob, np.array(labels, dtype=np.int64)
