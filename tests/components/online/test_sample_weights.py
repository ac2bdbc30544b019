"""Sample weights equal copies of an example in each component that uses them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spacy
from spacy.language import Language
from spacy.tokens import Doc, DocBin
from spacy.training import Example

from karen_learner.components.ner.architecture import SEGMENT_TOKENS
from karen_learner.components.online.sample_weights import sample_weight, sample_weights, set_sample_weight
from karen_learner.components.online.shim import learning_shims
from karen_learner.components.textcat.architecture import SparseNgramsShim, shim_of, squared_hinge
from karen_learner.components.textcat.pipe import BaseTextCategorizer
from tests.components.text_corpora import LABELLED, example, sparse_pipeline, train
from tests.components.tiny_encoder import make_encoder

TEXTCATS = ("exclusive", "multilabel", "vectors")
LONG = " ".join(["we flew to paris and on"] * (SEGMENT_TOKENS // 4))
SENTENCES: list[tuple[str, list[tuple[int, int, str]]]] = [
    ("order pizza in New York", [(6, 11, "DISH"), (15, 23, "CITY")]),
    ("Paris", [(0, 5, "CITY")]),
    ("good morning to you", []),
    (LONG, [(11, 16, "CITY")]),
]


@pytest.fixture(params=TEXTCATS)
def textcat(request: pytest.FixtureRequest, tmp_path: Path) -> Language:
    """A pipeline trained twice on each text, so that each pair of words has its row."""
    return make_textcat(request.param, tmp_path)


def make_textcat(kind: str, folder: Path) -> Language:
    if kind == "multilabel":
        return train(sparse_pipeline("karen_textcat_multilabel"), 1)
    if kind == "exclusive":
        return train(sparse_pipeline(), 1)
    encoder = make_encoder(folder / "encoder")
    return train(sparse_pipeline(vectors={"@misc": "karen_learner.OnnxVectors.v1", "path": str(encoder)}), 1)


def recognizer() -> Language:
    nlp = spacy.blank("en")
    model = {"@architectures": "karen_learner.SparseChain.v1", "table_bits": 14, "dropout": 0.0}
    pipe = nlp.add_pipe("karen_ner", name="ner", config={"model": model})
    pipe.initialize(lambda: sentences(nlp), nlp=nlp)
    nlp.update(sentences(nlp))
    return nlp


def sentences(nlp: Language) -> list[Example]:
    return [Example.from_dict(nlp.make_doc(text), {"entities": spans}) for text, spans in SENTENCES]


def texts(nlp: Language) -> list[Example]:
    return [example(nlp, text, label) for text, label in LABELLED]


def weighted_example(one: Example, weight: float) -> Example:
    set_sample_weight(one.reference, weight)
    return one


def state(nlp: Language) -> dict[str, np.ndarray]:
    """All trained arrays."""
    (shim,) = learning_shims(nlp.get_pipe(nlp.pipe_names[-1]).model)
    arrays: dict[str, Any] = dict(shim.learning_weights().arrays())  # type: ignore[attr-defined]
    if isinstance(shim, SparseNgramsShim) and shim.dense is not None:
        arrays["dense"] = shim.dense.weights
    return {name: np.array(array, dtype=np.float64) for name, array in arrays.items()}


def assert_same(one: Language, other: Language) -> None:
    found, wanted = state(one), state(other)
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-3, atol=1e-5, err_msg=name)


def shim(nlp: Language) -> SparseNgramsShim:
    found = shim_of(nlp.get_pipe("intent").model)
    assert found is not None
    return found


def test_the_default_sample_weight_is_one() -> None:
    nlp = spacy.blank("en")
    doc = nlp.make_doc("hello")
    assert sample_weight(doc) == 1.0
    set_sample_weight(doc, 2.5)
    assert sample_weight(doc) == 2.5
    one = Example(nlp.make_doc("hello"), doc)
    assert sample_weights([one, example(nlp, "hello", "greet")]) == pytest.approx([2.5, 1.0])
    assert sample_weights([example(nlp, "hello", "greet")]) is None
    assert sample_weights([]) is None


def test_a_docbin_with_user_data_keeps_the_sample_weight() -> None:
    nlp = spacy.blank("en")
    doc = nlp.make_doc("hello")
    set_sample_weight(doc, 2.5)
    data = DocBin(docs=[doc], store_user_data=True).to_bytes()
    (again,) = DocBin().from_bytes(data).get_docs(nlp.vocab)
    assert sample_weight(again) == 2.5


def test_a_sample_weight_equals_copies_for_a_text_categorizer(textcat: Language, tmp_path: Path) -> None:
    copied = spacy.blank("en").from_config(textcat.config)
    copied.from_bytes(textcat.to_bytes())
    weighted, repeated = texts(textcat), texts(copied)
    textcat.update([weighted_example(weighted[0], 3.0), weighted_example(weighted[5], 2.0), *weighted[1:3]])
    copied.update([*[repeated[0]] * 3, *[repeated[5]] * 2, *repeated[1:3]])
    assert_same(textcat, copied)


def test_a_sample_weight_equals_copies_for_the_chain() -> None:
    weighted, repeated = recognizer(), recognizer()
    some, others = sentences(weighted), sentences(repeated)
    weighted.update([weighted_example(some[0], 3.0), weighted_example(some[3], 2.0), *some[1:3]])
    repeated.update([*[others[0]] * 3, *[others[3]] * 2, *others[1:3]])
    assert_same(weighted, repeated)


@pytest.mark.parametrize("at", range(len(SENTENCES)))
def test_a_sample_weight_of_a_single_text_equals_copies(at: int) -> None:
    weighted, repeated = recognizer(), recognizer()
    weighted.update([weighted_example(sentences(weighted)[at], 4.0)])
    repeated.update([sentences(repeated)[at]] * 4)
    assert_same(weighted, repeated)


def test_a_sample_weight_of_one_changes_nothing(textcat: Language) -> None:
    copied = spacy.blank("en").from_config(textcat.config)
    copied.from_bytes(textcat.to_bytes())
    textcat.update([weighted_example(one, 1.0) for one in texts(textcat)])
    copied.update(texts(copied))
    assert_same(textcat, copied)


def test_unknown_labels_stay_unknown_at_any_sample_weight() -> None:
    nlp = sparse_pipeline("karen_textcat_multilabel")
    known = Example.from_dict(nlp.make_doc("one pizza please"), {"cats": {"greet": 0.0, "order": 1.0}})
    before = shim(nlp).learning_weights().bias.copy()
    nlp.update([weighted_example(known, 50.0), weighted_example(example(nlp, "hello", "greet"), 9.0)])
    after = shim(nlp).learning_weights().bias
    assert after[nlp.get_pipe("intent").labels.index("leave")] == before[2]
    assert (after != before).sum() == 2


def test_sample_weights_are_reset_after_the_batch(textcat: Language, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = textcat.get_pipe("intent")
    weighted = [weighted_example(one, 3.0) for one in texts(textcat)]
    textcat.update(weighted)
    assert shim(textcat).sample_weights is None
    with monkeypatch.context() as patched:
        patched.setattr(pipe, "get_loss", lambda *_: (0.0, np.zeros((2, 99), dtype="f")))
        with pytest.raises(ValueError, match="broadcast"):
            textcat.update(weighted)
    assert shim(textcat).sample_weights is None


def test_spacys_models_ignore_sample_weights() -> None:
    pipelines = []
    for weight in (1.0, 5.0):
        spacy.util.fix_random_seed(0)
        nlp = stock()
        nlp.update([weighted_example(one, weight) for one in texts(nlp)])
        pipelines.append(nlp)
    one, other = (nlp.get_pipe("intent").model.to_bytes() for nlp in pipelines)
    assert one == other


def stock() -> Language:
    nlp = spacy.blank("en")
    model = {"@architectures": "spacy.TextCatBOW.v3", "exclusive_classes": True, "ngram_size": 1}
    config = {"model": {**model, "length": 256, "no_output_layer": False}}
    pipe = nlp.add_pipe("karen_textcat", name="intent", config=config)
    pipe.initialize(lambda: texts(nlp), nlp=nlp)
    return nlp


def gold(nlp: Language, text: str, **cats: float) -> Doc:
    doc = nlp.make_doc(text)
    doc.cats = cats
    return doc


def categorizer(nlp: Language) -> BaseTextCategorizer:
    pipe = nlp.get_pipe("intent")
    assert isinstance(pipe, BaseTextCategorizer)
    return pipe


def test_the_document_loss_has_a_true_and_a_false_part(textcat: Language) -> None:
    pipe = categorizer(textcat)
    docs = [gold(textcat, text, greet=0.0, order=0.0, leave=0.0) for text, _ in LABELLED]
    for doc, (_, label) in zip(docs, LABELLED, strict=True):
        doc.cats = {**doc.cats, label: 1.0}
    margins = shim(textcat).margins(docs).margins
    expected = []
    for row, (_, label) in zip(margins, LABELLED, strict=True):
        right = pipe.labels.index(label)
        wrong = max(float(value) for at, value in enumerate(row) if at != right)
        expected.append(max(0.0, 1.0 - float(row[right])) ** 2 + max(0.0, 1.0 + wrong) ** 2)
    assert pipe.document_losses(docs) == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_unknown_labels_have_no_loss() -> None:
    nlp = train(sparse_pipeline("karen_textcat_multilabel"))
    only = gold(nlp, "one pizza please", order=1.0)
    two = gold(nlp, "one pizza please", order=1.0, greet=1.0)
    (margins, _) = shim(nlp).margins([only, two]).margins
    hinges = {
        label: max(0.0, 1.0 - float(margins[nlp.get_pipe("intent").labels.index(label)])) ** 2
        for label in ("order", "greet")
    }
    expected = [hinges["order"], max(hinges.values())]
    assert categorizer(nlp).document_losses([only, two]) == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_document_losses_of_no_documents_and_of_other_models() -> None:
    nlp = stock()
    assert categorizer(nlp).document_losses([gold(nlp, "hello", greet=1.0)]) is None
    found = categorizer(sparse_pipeline()).document_losses([])
    assert found is not None
    assert found.shape == (0,)


def test_the_squared_hinge() -> None:
    margins = np.array([[2.0, 0.5, -1.0, 0.3]], dtype=np.float32)
    truths = np.array([[1.0, 0.0, 1.0, np.nan]], dtype=np.float32)
    assert squared_hinge(margins, truths) == pytest.approx(np.array([[0.0, 2.25, 4.0, 0.0]]))
