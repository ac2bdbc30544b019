"""Gold tags of examples: B- starts an entity, I- continues it, O is outside.

    Ramshaw, Marcus: Text Chunking using Transformation-Based Learning, WVLC 1995 (the variant "IOB2").

Tag 0 is O. Label k has B- at `1 + 2 * k` and I- at `2 + 2 * k`. So a new label adds its tags at the end.
"""

from collections.abc import Mapping

import numpy as np
from spacy.attrs import ENT_IOB, ENT_TYPE, ORTH, SPACY
from spacy.tokens import Doc
from spacy.training import Example

from karen_learner.components.arrays import Ints

OUTSIDE = 0
UNKNOWN = -1
"""The tag of a token without annotation."""
TAGS_PER_LABEL = 2
NO_LABEL = -1
MISSING_IOB, INSIDE_IOB, OUTSIDE_IOB, BEGIN_IOB = 0, 1, 2, 3
"""spaCy's codes of `ENT_IOB`."""
_CODES = {"B": BEGIN_IOB, "U": BEGIN_IOB, "I": INSIDE_IOB, "L": INSIDE_IOB, "O": OUTSIDE_IOB}


def gold_tags(example: Example, label_index: Mapping[int, int]) -> Ints:
    """The tag of each token of `example.predicted`; UNKNOWN without annotation or alignment.

    `label_index` has the index of each label by its hash. Entities of other labels are unknown, blocked
    tokens are outside.
    """
    predicted, reference = example.predicted, example.reference
    if not reference.has_annotation("ENT_IOB"):
        return np.full(len(predicted), UNKNOWN)
    same = _same_tokens(predicted, reference)
    return tags_of(*(_direct(reference, label_index) if same else _aligned(example, label_index)))


def tags_of(iob: Ints, labels: Ints) -> Ints:
    """The tags of annotated tokens, UNKNOWN without annotation; all shapes are (tokens,).

    `iob` are spaCy's codes. `labels` are label indices; NO_LABEL makes an entity unknown. An I- without an
    entity to continue becomes a B-.
    """
    tags, before = [], OUTSIDE
    for code, label in zip(iob.tolist(), labels.tolist(), strict=True):
        if code == OUTSIDE_IOB:
            before = OUTSIDE
        elif code == MISSING_IOB or label < 0:
            before = UNKNOWN
        else:
            begin = 1 + TAGS_PER_LABEL * label
            continues = code == INSIDE_IOB and before in (UNKNOWN, begin, begin + 1)
            before = begin + continues
        tags.append(before)
    return np.array(tags, dtype=np.int64)


def with_valid_start(tags: Ints) -> Ints:
    """The tags with B- in place of a leading I-, which a cut inside an entity leaves."""
    if len(tags) and tags[0] > OUTSIDE and tags[0] % TAGS_PER_LABEL == 0:
        return np.concatenate([tags[:1] - 1, tags[1:]])
    return tags


def _same_tokens(first: Doc, second: Doc) -> bool:
    if first is second:
        return True
    attributes = [ORTH, SPACY]
    return len(first) == len(second) and bool(
        (first.to_array(attributes) == second.to_array(attributes)).all()
    )


def _direct(doc: Doc, label_index: Mapping[int, int]) -> tuple[Ints, Ints]:
    """spaCy's IOB codes and label indices, both of shape (tokens,)."""
    codes = doc.to_array([ENT_IOB, ENT_TYPE]).reshape(-1, 2)
    iob = codes[:, 0].astype(np.int64)
    blocked = (iob == BEGIN_IOB) & (codes[:, 1] == 0)
    labels = np.array([label_index.get(name, NO_LABEL) for name in codes[:, 1].tolist()], dtype=np.int64)
    return np.where(blocked, OUTSIDE_IOB, iob), labels


def _aligned(example: Example, label_index: Mapping[int, int]) -> tuple[Ints, Ints]:
    """For different tokenizations: spaCy's alignment, which omits entities that do not fit."""
    strings = example.predicted.vocab.strings
    tags = [tag or "-" for tag in example.get_aligned_ner()]
    iob = np.array([_CODES.get(tag[0], MISSING_IOB) for tag in tags], dtype=np.int64)
    labels = [label_index.get(strings.add(tag[2:]), NO_LABEL) if len(tag) > 2 else NO_LABEL for tag in tags]
    return iob, np.array(labels, dtype=np.int64)
