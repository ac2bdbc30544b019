"""`karen_ner` in the place of spaCy's `ner`: earlier annotation, incorrect spans, moves."""

from typing import Any

import numpy as np
import pytest
import spacy
from spacy.language import Language
from spacy.tokens import Doc, Span
from spacy.training import Example

MODEL = {"@architectures": "karen_learner.SparseChain.v1", "table_bits": 14, "dropout": 0.0}
TEXTS = {
    "I like London and Berlin": [(7, 13, "CITY"), (18, 24, "CITY")],
    "they like Paris": [(10, 15, "CITY")],
    "I like soup": [],
}


def corpus(nlp: Language) -> list[Example]:
    return [Example.from_dict(nlp.make_doc(text), {"entities": ents}) for text, ents in TEXTS.items()]


def recognizer(**config: Any) -> Language:
    nlp = spacy.blank("en")
    nlp.add_pipe("karen_ner", name="ner", config={"model": MODEL, **config}).add_label("CITY")
    nlp.initialize()
    return nlp


@pytest.fixture
def trained() -> Language:
    nlp = recognizer(incorrect_spans_key="wrong")
    for _ in range(15):
        nlp.update(corpus(nlp))
    return nlp


def annotated(doc: Doc) -> list[tuple[str, str]]:
    return [(token.ent_iob_, token.ent_type_) for token in doc]


def test_entities_that_are_there_stay_with_their_identifiers(trained: Language) -> None:
    doc = trained.make_doc("I like London and London")
    doc.set_ents([Span(doc, 2, 3, label="PLACE", kb_id="Q84", span_id="known")])
    doc = trained.get_pipe("ner")(doc)
    assert [(ent.text, ent.label_, ent.kb_id_, ent.id_) for ent in doc.ents] == [
        ("London", "PLACE", "Q84", "known"),
        ("London", "CITY", "", ""),
    ]


def test_blocked_tokens_stay_blocked(trained: Language) -> None:
    doc = trained.make_doc("I like London and Berlin")
    doc.set_ents([], blocked=[doc[2:3]], default="unmodified")
    doc = trained.get_pipe("ner")(doc)
    assert annotated(doc) == [("O", ""), ("O", ""), ("B", ""), ("O", ""), ("B", "CITY")]


def test_tokens_that_are_outside_can_become_entities(trained: Language) -> None:
    doc = trained.make_doc("I like London")
    doc.set_ents([], default="outside")
    assert annotated(trained.get_pipe("ner")(doc))[2] == ("B", "CITY")


def with_incorrect(nlp: Language, text: str, *spans: tuple[int, int, str]) -> Example:
    """An example without entities, and with spans that are no entities of their labels."""
    reference = nlp.make_doc(text)
    reference.spans["wrong"] = [Span(reference, start, end, label=label) for start, end, label in spans]
    return Example(nlp.make_doc(text), reference)


def test_an_incorrect_span_is_unlearned(trained: Language) -> None:
    assert [ent.text for ent in trained("they like Paris").ents] == ["Paris"]
    for _ in range(20):
        losses = trained.update([with_incorrect(trained, "they like Paris", (2, 3, "CITY"))])
    assert trained("they like Paris").ents == ()
    assert losses["ner"] < 0.7
    assert [ent.text for ent in trained("I like London and Berlin").ents] == ["London", "Berlin"]


@pytest.mark.parametrize(
    ("span", "probability"),
    [((0, 1, "CITY"), 2 / 5), ((0, 2, "CITY"), 1 / 5), ((1, 2, "CITY"), 2 / 5), ((0, 1, "O"), 2 / 5)],
)
def test_the_loss_is_that_of_all_sequences_with_the_span(
    span: tuple[int, int, str], probability: float
) -> None:
    """Untrained, the five sequences of two tokens (OO, OB, BO, BB, BI) have the same probability."""
    nlp = recognizer(incorrect_spans_key="wrong")
    loss, _ = nlp.get_pipe("ner").get_loss([with_incorrect(nlp, "some words", span)], None)
    assert loss == pytest.approx(-np.log(1.0 - probability), rel=1e-6)


def test_incorrect_spans_of_other_labels_and_across_segments_are_omitted(trained: Language) -> None:
    long = with_incorrect(trained, "word " * 300, (120, 140, "CITY"), (3, 4, "SHIP"))
    assert trained.get_pipe("ner").get_loss([long], None)[0] == 0.0


def test_an_incorrect_span_that_is_an_entity_is_refused(trained: Language) -> None:
    example = corpus(trained)[1]
    example.reference.spans["wrong"] = [Span(example.reference, 2, 3, label="CITY")]
    with pytest.raises(ValueError, match="E868"):
        trained.update([example])


def test_negative_labels_of_spacy_2_are_refused(trained: Language) -> None:
    example = Example.from_dict(trained.make_doc("I like Rome"), {"entities": [(7, 11, "!CITY")]})
    with pytest.raises(ValueError, match="E869"):
        trained.update([example])


def test_moves_and_label_data_are_those_of_spacy() -> None:
    stock = spacy.blank("en")
    spacy_ner: Any = stock.add_pipe("ner")
    ours = recognizer()
    ner: Any = ours.get_pipe("ner")
    assert ner.move_names == ["O", "B-CITY", "I-CITY", "L-CITY", "U-CITY"]
    assert {"B-CITY", "O"} <= {ner.moves.get_class_name(move) for move in range(ner.moves.n_moves)}
    for label in ("DISH", "CITY"):
        ner.add_label(label)
        spacy_ner.add_label(label)
    assert "U-DISH" in {ner.moves.get_class_name(move) for move in range(ner.moves.n_moves)}
    fresh = spacy.blank("en")
    copy: Any = fresh.add_pipe("karen_ner", name="ner")
    copy.initialize(lambda: corpus(fresh), nlp=fresh, labels=spacy_ner.label_data)
    assert copy.labels == spacy_ner.labels == ner.labels == ("CITY", "DISH")
