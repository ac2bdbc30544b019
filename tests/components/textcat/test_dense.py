"""`karen_learner.SparseNgrams.v1` with vectors: margins, saving, identity of the encoder."""

from pathlib import Path

import numpy as np
import pytest
import spacy
from spacy.language import Language
from thinc.api import Config

from karen_learner.components.online.sample_weights import set_sample_weight
from karen_learner.components.textcat.architecture import (
    SparseNgramsShim,
    shim_of,
    sparse_ngrams,
    squared_hinge_gradient,
)
from karen_learner.components.textcat.dense import INITIAL_SQUARE
from karen_learner.components.textcat.pipe import is_out_of_scope
from karen_learner.components.vectors.onnx import onnx_vectors
from karen_learner.errors import EncoderError, EncoderMismatch, ModelError
from tests.components.text_corpora import LABELLED, corpus, example, sparse_pipeline, train
from tests.components.tiny_encoder import WIDTH, make_encoder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_encoder(tmp_path / "encoder")


@pytest.fixture
def vectors(folder: Path) -> dict[str, object]:
    return {"@misc": "karen_learner.OnnxVectors.v1", "path": str(folder), "cache_size": 100}


@pytest.fixture
def nlp(vectors: dict[str, object]) -> Language:
    return sparse_pipeline(vectors=vectors)


@pytest.fixture
def trained(nlp: Language) -> Language:
    return train(nlp)


def shim(nlp: Language) -> SparseNgramsShim:
    found = shim_of(nlp.get_pipe("intent").model)
    assert found is not None
    return found


def dense_weights(nlp: Language) -> np.ndarray:
    found = shim(nlp).dense
    assert found is not None
    return found.weights


def docs_of(nlp: Language) -> list[spacy.tokens.Doc]:
    return [nlp.make_doc(text) for text, _ in LABELLED]


def feature_rows(nlp: Language) -> int:
    return len(shim(nlp).learning_weights().rows.table) - 1


def margins(nlp: Language) -> np.ndarray:
    return shim(nlp).margins(docs_of(nlp)).margins


def test_n_grams_and_vectors_are_both_trained(trained: Language) -> None:
    assert trained.evaluate(corpus(trained))["intent_acc"] == 1.0
    assert dense_weights(trained).shape == (WIDTH, 3)
    assert dense_weights(trained).all()
    assert feature_rows(trained) > 0


def test_vectors_alone_follow_adagrad_exactly(folder: Path) -> None:
    """With n-grams of weight 0 the model is linear in the vectors."""
    nlp = sparse_pipeline(
        vectors={"@misc": "karen_learner.OnnxVectors.v1", "path": str(folder)}, ngrams_weight=0.0
    )
    values = onnx_vectors(str(folder))(docs_of(nlp))
    truths = np.asarray([[label == own for own in ("greet", "order", "leave")] for _, label in LABELLED])
    weights, squares = np.zeros((WIDTH, 3)), np.zeros((WIDTH, 3))
    bias, bias_squares, rate = np.full(3, -1.0), np.zeros(3), shim(nlp).learn_rate
    for _ in range(5):
        nlp.update(corpus(nlp))
        gradient = squared_hinge_gradient((values @ weights + bias).astype("f"), truths.astype("f"))
        squares += (step := values.T @ gradient) ** 2
        weights -= rate * step / np.sqrt(squares + INITIAL_SQUARE)
        bias_squares += gradient.sum(axis=0) ** 2
        bias -= rate * gradient.sum(axis=0) / np.sqrt(bias_squares + INITIAL_SQUARE)
    np.testing.assert_allclose(dense_weights(nlp), weights, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(margins(nlp), values @ weights + bias, rtol=1e-3, atol=1e-4)


def similarity(nlp: Language, *texts: str) -> np.ndarray:
    found = shim(nlp).margins([nlp.make_doc(text) for text in texts]).centroid_similarity
    assert found is not None
    return found


def test_centroid_similarity_is_a_cosine(folder: Path, nlp: Language) -> None:
    """The centroid of a label is the sum of the vectors of its training texts, by sample weight."""
    assert not similarity(nlp, "one pizza please").any()
    nlp.update(corpus(nlp))
    weighted = example(nlp, "hello there", "greet")
    set_sample_weight(weighted.reference, 2.0)
    nlp.update([weighted, *corpus(nlp)])
    vectors = onnx_vectors(str(folder))
    learned = [*LABELLED, *LABELLED, *[("hello there", "greet")] * 2]
    values = vectors([nlp.make_doc(text) for text, _ in learned])
    labels = ("greet", "order", "leave")
    centres = np.stack([values[[own == label for _, own in learned]].sum(axis=0) for label in labels])
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    texts = ("one pizza please", "playing dons", "bye")
    cosines = vectors([nlp.make_doc(text) for text in texts]) @ centres.T
    np.testing.assert_allclose(similarity(nlp, *texts), cosines, rtol=1e-4, atol=1e-5)
    assert not similarity(nlp, " ", "").any()


def test_centroids_are_saved_and_a_label_without_texts_has_similarity_zero(
    trained: Language, tmp_path: Path
) -> None:
    before = similarity(trained, "one pizza please", "playing dons")
    trained.get_pipe("intent").add_label("thank")
    after = similarity(trained, "one pizza please", "playing dons")
    np.testing.assert_allclose(after[:, :3], before, rtol=1e-5, atol=1e-6)
    assert not after[:, 3].any()
    trained.to_disk(tmp_path / "model")
    loaded = spacy.load(tmp_path / "model")
    np.testing.assert_array_equal(similarity(loaded, "one pizza please", "playing dons"), after)


@pytest.mark.parametrize("certain", [False, True])
def test_unknown_labels_change_no_centroid(vectors: dict[str, object], certain: bool) -> None:
    nlp = sparse_pipeline("karen_textcat_multilabel", vectors=vectors)
    if certain:  # a score of 1 can be a true or a masked one
        shim(nlp).learning_weights().bias[1:] = 9.0
    nlp.update([example(nlp, "hello there", "greet")])  # the other labels are unknown
    [near] = similarity(nlp, "hello there")
    assert near.tolist() == pytest.approx([1.0, 0.0, 0.0])


def test_the_out_of_scope_centroid_does_not_raise_the_in_scope_score(nlp: Language) -> None:
    pipe = nlp.get_pipe("intent")
    pipe.add_label("oos")
    out_of_scope = [example(nlp, text, "oos") for text in ("playing dons", "plays don't")]
    for _ in range(8):
        nlp.update([*corpus(nlp), *out_of_scope])
    pipe.calibrate([*corpus(nlp), *out_of_scope], false_alarm_rate=0.08, out_of_scope_label="oos")
    near = similarity(nlp, "playing dons")[0]
    assert near.argmax() == pipe.labels.index("oos")
    assert is_out_of_scope(nlp("playing dons"), "intent")


def test_refused_bytes_change_nothing(trained: Language) -> None:
    before, data = margins(trained), shim(trained).to_bytes()
    with pytest.raises(ValueError, match=r"weights|damaged"):
        shim(trained).from_bytes(data[:-200])
    np.testing.assert_array_equal(margins(trained), before)


def test_training_margins_equal_served_margins(trained: Language) -> None:
    learned, _ = shim(trained).begin_update(docs_of(trained))
    np.testing.assert_allclose(margins(trained), learned, rtol=1e-4, atol=1e-5)


def test_without_an_optimizer_weights_stay_and_gradients_can_be_discarded(trained: Language) -> None:
    before = margins(trained)
    weights = dense_weights(trained).copy()
    trained.get_pipe("intent").update([example(trained, "bye now", "greet")])
    np.testing.assert_array_equal(dense_weights(trained), weights)
    shim(trained).discard_gradients()
    shim(trained).finish_update(None)
    np.testing.assert_array_equal(margins(trained), before)
    assert shim(trained).all_finite()
    dense_weights(trained)[0] = np.nan
    assert not shim(trained).all_finite()


def test_a_new_label_is_learned(trained: Language) -> None:
    trained.get_pipe("intent").add_label("thank")
    assert dense_weights(trained).shape == (WIDTH, 4)
    assert not dense_weights(trained)[:, 3].any()
    for _ in range(8):
        trained.update([*corpus(trained), example(trained, "thanks a lot", "thank")])
    doc = trained("thanks a lot")
    assert max(doc.cats, key=doc.cats.__getitem__) == "thank"


def test_training_continues_exactly_after_saving_and_loading(trained: Language, tmp_path: Path) -> None:
    trained.to_disk(tmp_path / "model")
    loaded = spacy.load(tmp_path / "model")
    np.testing.assert_allclose(margins(loaded), margins(trained), atol=0.05)
    np.testing.assert_array_equal(dense_weights(loaded), dense_weights(trained))
    for nlp in (loaded, trained):
        nlp.update(corpus(nlp))
    np.testing.assert_array_equal(margins(loaded), margins(trained))


def test_the_encoder_is_not_saved_with_it(trained: Language, folder: Path, tmp_path: Path) -> None:
    trained.to_disk(tmp_path / "model")
    encoder = (folder / "onnx" / "model.onnx").read_bytes()
    table = encoder[encoder.index(b"table") :][:200]
    saved = [file for file in (tmp_path / "model").rglob("*") if file.is_file()]
    assert not [file for file in saved if file.suffix == ".onnx" or table in file.read_bytes()]


def test_bytes_and_copies_are_exact(trained: Language) -> None:
    pipe = trained.get_pipe("intent")
    copied = pipe.model.copy()
    other = pipe.model.copy().from_bytes(pipe.model.to_bytes())
    docs = docs_of(trained)
    for model in (copied, other):
        np.testing.assert_array_equal(shim_of(model).margins(docs).margins, margins(trained))
    before = shim_of(copied).margins(docs).margins
    trained.update([example(trained, "bye now", "greet")])
    np.testing.assert_array_equal(shim_of(copied).margins(docs).margins, before)


def test_another_encoder_is_refused(trained: Language, folder: Path, tmp_path: Path) -> None:
    trained.to_disk(tmp_path / "model")
    make_encoder(tmp_path / "other", seed=1)
    where = "components.intent.model.vectors.path"
    with pytest.raises(EncoderMismatch, match=r"trained on vectors of .*encoder .*loaded with .*other"):
        spacy.load(tmp_path / "model", config={where: str(tmp_path / "other")})
    folder.rename(tmp_path / "moved")
    with pytest.raises(EncoderError, match="there is no folder"):
        spacy.load(tmp_path / "model")
    moved = spacy.load(tmp_path / "model", config={where: str(tmp_path / "moved")})
    np.testing.assert_allclose(margins(moved), margins(trained), atol=0.05)


def test_weights_with_and_without_vectors_are_distinguished(
    trained: Language, vectors: dict[str, object]
) -> None:
    joined, plain = trained.get_pipe("intent").model, sparse_ngrams(exclusive_classes=True, table_bits=14)
    with pytest.raises(ModelError, match="trained with vectors, and its config has none"):
        plain.from_bytes(joined.to_bytes())
    with pytest.raises(ModelError, match="trained without vectors, and its config has some"):
        joined.from_bytes(plain.to_bytes())


def test_damaged_weights_are_refused(trained: Language) -> None:
    data = shim(trained).to_bytes()
    other = sparse_pipeline(vectors=Config(trained.config)["components"]["intent"]["model"]["vectors"])
    for damaged in (data[:400], data[:-50]):
        with pytest.raises(ValueError, match=r"weights|damaged"):
            shim(other).from_bytes(damaged)


@pytest.mark.parametrize("options", [{"vectors_weight": 0.0}, {"ngrams_weight": -1.0}])
def test_invalid_weights_are_refused(folder: Path, options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="vectors_weight > 0 and ngrams_weight >= 0"):
        sparse_ngrams(True, vectors=onnx_vectors(str(folder)), **options)


def test_labels_that_do_not_exclude_each_other(vectors: dict[str, object]) -> None:
    nlp = train(sparse_pipeline("karen_textcat_multilabel", vectors=vectors))
    assert nlp("one pizza please").cats["order"] > 0.5


def test_static_vectors_can_be_used(tmp_path: Path) -> None:
    nlp = spacy.blank("en")
    for number, word in enumerate(("hello", "pizza", "bye")):
        nlp.vocab.set_vector(word, np.eye(3, dtype=np.float32)[number])
    model = {
        "@architectures": "karen_learner.SparseNgrams.v1",
        "exclusive_classes": True,
        "table_bits": 14,
        "vectors": {"@misc": "karen_learner.StaticVectors.v1", "width": 3},
    }
    nlp.add_pipe("karen_textcat", name="intent", config={"model": model}).initialize(
        lambda: corpus(nlp), nlp=nlp
    )
    train(nlp).to_disk(tmp_path / "model")
    loaded = spacy.load(tmp_path / "model")
    np.testing.assert_allclose(margins(loaded), margins(nlp), atol=0.05)


@pytest.mark.parametrize("text", ["", " ", "🍕" * 50, "pizza " * 2_000])
def test_hostile_texts_can_be_analyzed_and_learned(trained: Language, text: str) -> None:
    trained.update([example(trained, text, "greet")])
    assert all(np.isfinite(value) for value in trained(text).cats.values())
    assert shim(trained).all_finite()


def test_several_processes_give_the_same(trained: Language) -> None:
    texts = [text for text, _ in LABELLED] * 2
    alone = [doc.cats for doc in trained.pipe(texts)]
    together = [doc.cats for doc in trained.pipe(texts, n_process=2, batch_size=8)]
    assert [list(cats) for cats in together] == [list(cats) for cats in alone]
    for one, other in zip(alone, together, strict=True):
        assert other == pytest.approx(one, abs=1e-5)
