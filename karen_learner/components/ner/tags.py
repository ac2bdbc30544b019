"""Entities as tags of tokens, and back: B- begins one, I- goes on with it, O is outside.

    Ramshaw, Marcus: Text Chunking using Transformation-Based Learning, WVLC 1995 (the variant "IOB2").

Tag 0 is O; label k has B- at `1 + 2 * k` and I- at `2 + 2 * k`, so that a new label adds tags at the end.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

OUTSIDE = 0
UNKNOWN = -1
"""The tag of a token that nothing is known about."""
TAGS_PER_LABEL = 2
MISSING_IOB, INSIDE_IOB, OUTSIDE_IOB, BEGIN_IOB = 0, 1, 2, 3
"""spaCy's codes of `ENT_IOB`."""


def tag_count(labels: int) -> int:
    """How many tags so many labels have."""
    return 1 + TAGS_PER_LABEL * labels


def label_count(tags: int) -> int:
    """How many labels have so many tags."""
    return (tags - 1) // TAGS_PER_LABEL


def forbidden_transitions(tags: int) -> Mask:
    """Which tag (column) may not follow which (row): an I- wants its own B- or I- before it."""
    inside = np.arange(2, tags, TAGS_PER_LABEL)
    forbidden = np.zeros((tags, tags), dtype=bool)
    forbidden[:, inside] = True
    forbidden[inside, inside] = forbidden[inside - 1, inside] = False
    return forbidden


def forbidden_starts(tags: int) -> Mask:
    """Which tags may not be the first: every I-."""
    forbidden = np.zeros(tags, dtype=bool)
    forbidden[2::TAGS_PER_LABEL] = True
    return forbidden


def tags_of(iob: Ints, labels: Ints, starts: Mask) -> Ints:
    """The tags of annotated tokens, UNKNOWN where there is no annotation; all shapes are (tokens,).

    `iob` are spaCy's codes, `labels` the indices of labels (-1: none that is known, which makes the token
    of an entity unknown), `starts` marks where a chain begins. An I- that goes on with nothing is a B-.
    """
    named = (iob == BEGIN_IOB) | (iob == INSIDE_IOB)
    tags = np.where(iob == OUTSIDE_IOB, OUTSIDE, UNKNOWN)
    begins = named & (labels >= 0)
    tags[begins] = 1 + TAGS_PER_LABEL * labels[begins]
    before = np.concatenate([np.full(1, UNKNOWN), np.where(tags > 0, labels, tags - 1)[:-1]])
    before[starts] = OUTSIDE - 1
    goes_on = begins & (iob == INSIDE_IOB) & ((before == labels) | (before == UNKNOWN - 1))
    return np.asarray(tags + goes_on, dtype=np.int64)


def begun_anew(tags: Ints) -> Ints:
    """The tags of a chain that may have been cut inside an entity: its rest begins where the chain does."""
    if len(tags) and tags[0] > OUTSIDE and tags[0] % TAGS_PER_LABEL == 0:
        return np.concatenate([tags[:1] - 1, tags[1:]])
    return tags


def spans_of(tags: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """First token, end and label of each entity in a valid sequence of tags."""
    start = -1
    for token, tag in enumerate([*tags, OUTSIDE]):
        if start >= 0 and (tag == OUTSIDE or tag % TAGS_PER_LABEL):
            yield start, token, (tags[start] - 1) // TAGS_PER_LABEL
            start = -1
        if tag % TAGS_PER_LABEL:
            start = token
