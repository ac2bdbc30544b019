"""Tags of entities: spans, forbidden transitions, missing annotation."""

import numpy as np
import pytest
import spacy
from hypothesis import given
from hypothesis import strategies as st
from spacy.tokens import Doc
from spacy.training import Example

from karen_learner.components.ner.pipe import spans_of
from karen_learner.components.ner.tags import UNKNOWN, gold_tags, tags_of
from karen_learner.components.ner.weights import forbidden_starts, forbidden_transitions, tag_count

NLP = spacy.blank("en")
INDEX = {NLP.vocab.strings.add(label): index for index, label in enumerate(("CITY", "DISH"))}
OUT, CITY, IN_CITY, DISH, IN_DISH = range(5)
WORDS = ["in", "New", "York", "eat", "pizza"]


def example(ents: list[str] | None, words: list[str] | None = None) -> Example:
    predicted = Doc(NLP.vocab, words=words or WORDS)
    return Example(predicted, Doc(NLP.vocab, words=WORDS, ents=ents))


def test_annotation_becomes_tags() -> None:
    tags = gold_tags(example(["O", "B-CITY", "I-CITY", "O", "B-DISH"]), INDEX)
    assert tags.tolist() == [OUT, CITY, IN_CITY, OUT, DISH]


def test_no_entities_differ_from_no_annotation() -> None:
    assert gold_tags(example(["O"] * 5), INDEX).tolist() == [OUT] * 5
    assert gold_tags(example(None), INDEX).tolist() == [UNKNOWN] * 5


def test_missing_annotation_and_other_labels_are_unknown() -> None:
    gap = example(None)
    gap.reference.set_ents(
        [spacy.tokens.Span(gap.reference, 1, 3, label="CITY")],
        missing=[gap.reference[3:4]],
        outside=[gap.reference[0:1]],
        default="outside",
    )
    assert gold_tags(gap, INDEX).tolist() == [OUT, CITY, IN_CITY, UNKNOWN, OUT]
    other = example(["O", "B-CITY", "I-CITY", "O", "B-SHIP"])
    assert gold_tags(other, INDEX).tolist() == [OUT, CITY, IN_CITY, OUT, UNKNOWN]


def test_other_tokens_are_aligned_and_misaligned_entities_are_unknown() -> None:
    words = ["in", "New York", "eat", "pizza"]
    tags = ["O", "B-CITY", "I-CITY", "O", "O"]
    assert gold_tags(example(tags, words), INDEX).tolist() == [OUT, CITY, OUT, OUT]
    assert gold_tags(example(["O", "O", "B-CITY", "O", "O"], words), INDEX)[1] == UNKNOWN


def test_a_misaligned_span_is_unknown() -> None:
    with pytest.warns(UserWarning, match="W030"):
        cut = Example.from_dict(NLP.make_doc("in New York now"), {"entities": [(3, 9, "CITY")]})
    assert gold_tags(cut, INDEX).tolist() == [OUT, UNKNOWN, UNKNOWN, OUT]


def test_an_inside_tag_without_an_entity_begins_one() -> None:
    iob, labels = np.array([1, 1, 2, 1, 1]), np.array([0, 0, -1, 1, 0])
    assert tags_of(iob, labels).tolist() == [CITY, IN_CITY, OUT, DISH, CITY]


@given(st.data())
def test_valid_tags_and_spans_are_equivalent(data: st.DataObject) -> None:
    count = tag_count(2)
    tags: list[int] = []
    for _ in range(data.draw(st.integers(0, 8))):
        bad = forbidden_transitions(count)[tags[-1]] if tags else forbidden_starts(count)
        tags.append(data.draw(st.sampled_from(np.flatnonzero(~bad).tolist())))
    again = [OUT] * len(tags)
    for start, end, label in spans_of(tags):
        again[start:end] = [1 + 2 * label, *[2 + 2 * label] * (end - start - 1)]
    assert again == tags
