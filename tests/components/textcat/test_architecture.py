"""`karen_learner.SparseNgrams.v1`: training, new labels, saving, hostile texts."""

from pathlib import Path

import numpy as np
import pytest
import spacy
from hypothesis import given, settings
from hypothesis import strategies as st
from spacy.language import Language
from spacy.training import Example
from thinc.api import Adam

from karen_learner.components.lexical.clusters import word_clusters
from karen_learner.components.lexical.polarities import word_polarities
from karen_learner.components.online.feature_rows import NO_ROW, RowOptions
from karen_learner.components.online.shim import STATE_FILE, learning_shims, scale_learn_rate
from karen_learner.components.textcat.architecture import (
    SparseNgramsShim,
    shim_of,
    sparse_ngrams,
    squared_hinge_gradient,
)
from karen_learner.components.textcat.features import (
    CHARACTERS,
    CLUSTER_BITS,
    CLUSTERS,
    PAIRS,
    VIEWS,
    WORDS,
    TextNgrams,
    design_matrix,
)
from karen_learner.components.textcat.weights import LearningWeights
from karen_learner.errors import ModelError
from karen_learner.training.trainer import all_finite, discard_gradients
from tests.components.text_corpora import LABELLED, SPARSE, corpus, example, sparse_pipeline, train


def shim(nlp: Language) -> SparseNgramsShim:
    found = shim_of(nlp.get_pipe("intent").model)
    assert found is not None
    return found


def feature_rows(nlp: Language) -> int:
    return len(shim(nlp).learning_weights().rows.table) - 1


def margins(nlp: Language) -> np.ndarray:
    return shim(nlp).margins([nlp.make_doc(text) for text, _ in LABELLED]).margins


def accuracy(nlp: Language) -> float:
    return nlp.evaluate(corpus(nlp))["intent_acc"]


@pytest.fixture
def nlp() -> Language:
    return sparse_pipeline()


@pytest.fixture
def trained(nlp: Language) -> Language:
    return train(nlp)


def test_it_learns_and_returns_probabilities(nlp: Language) -> None:
    assert nlp("hello").cats == pytest.approx({"greet": 1 / 3, "order": 1 / 3, "leave": 1 / 3})
    train(nlp)
    assert accuracy(nlp) == 1.0
    assert sum(nlp("hello pizza").cats.values()) == pytest.approx(1.0)


@pytest.mark.parametrize("options", [{}, {"char_sizes": []}])
def test_trained_features_have_high_coverage(options: dict[str, object]) -> None:
    nlp = train(sparse_pipeline(**options))
    texts = ("one pizza please", "one pizza xylograph", "xylograph", "")
    coverage = shim(nlp).margins([nlp.make_doc(text) for text in texts]).ngram_coverage
    known, half, unseen, empty = coverage.tolist()
    assert known == pytest.approx(1.0)
    assert known > half > unseen < 0.5
    assert empty == 0.0


def test_the_gradient_is_that_of_the_squared_hinge() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(4, 3)).astype(np.float32)
    truths = rng.choice([0.0, 1.0], size=(4, 3)).astype(np.float32)

    def loss(at: np.ndarray) -> float:
        return float((np.maximum(0.0, 1.0 - (2 * truths - 1) * at) ** 2).sum())

    numeric = np.zeros((4, 3))
    for cell in np.ndindex(4, 3):
        moved = np.zeros((4, 3))
        moved[cell] = 1e-4
        numeric[cell] = (loss(scores + moved) - loss(scores - moved)) / 2e-4
    np.testing.assert_allclose(squared_hinge_gradient(scores, truths), numeric, atol=1e-2)
    truths[0] = np.nan
    assert not squared_hinge_gradient(scores, truths)[0].any()


def test_the_stock_pipe_can_use_it_and_gives_the_same_weights(trained: Language) -> None:
    nlp = spacy.blank("en")
    stock = nlp.add_pipe("textcat", name="intent", config={"model": SPARSE})
    stock.initialize(lambda: corpus(nlp), nlp=nlp, labels=["greet", "order", "leave"])
    for label in ("greet", "order", "leave"):
        assert label in stock.labels
    full = [
        Example.from_dict(
            nlp.make_doc(text), {"cats": {label: float(label == own) for label in stock.labels}}
        )
        for text, own in LABELLED
    ]
    for _ in range(8):
        nlp.update(full)
    np.testing.assert_array_equal(margins(nlp), margins(trained))


def test_the_same_examples_give_the_same_weights(trained: Language) -> None:
    np.testing.assert_array_equal(margins(train(sparse_pipeline())), margins(trained))


def test_without_an_optimizer_weights_stay(nlp: Language) -> None:
    before = margins(nlp)
    assert nlp.get_pipe("intent").update(corpus(nlp))["intent"] > 0
    np.testing.assert_array_equal(margins(nlp), before)
    nlp.get_pipe("intent").finish_update(Adam(0.001))
    assert (margins(nlp) != before).any()


def test_two_updates_before_finishing_add_up(nlp: Language) -> None:
    other = sparse_pipeline()
    for one in (nlp, other):  # parts and whole then have the same rows
        train(one, 1)
    pipe, examples = nlp.get_pipe("intent"), corpus(nlp)
    pipe.update(examples[:5])
    pipe.update(examples[5:])
    pipe.finish_update(Adam(0.001))
    other.get_pipe("intent").update(examples, sgd=Adam(0.1))
    np.testing.assert_allclose(margins(nlp), margins(other), atol=1e-6)


def test_spacys_optimizer_does_not_change_the_step(nlp: Language, trained: Language) -> None:
    for _ in range(8):
        nlp.update(corpus(nlp), sgd=Adam(123.0))
    np.testing.assert_array_equal(margins(nlp), margins(trained))


def test_the_training_loop_can_scale_the_learn_rate(nlp: Language) -> None:
    before = margins(nlp)
    scale_learn_rate(nlp.get_pipe("intent").model, 0.0)
    train(nlp, 1)
    np.testing.assert_array_equal(margins(nlp), before)
    scale_learn_rate(nlp.get_pipe("intent").model, 1.0)
    train(nlp, 1)
    assert (margins(nlp) != before).any()


def test_gradients_can_be_discarded_and_weights_checked(trained: Language) -> None:
    model, before = trained.get_pipe("intent").model, margins(trained)
    trained.get_pipe("intent").update([example(trained, "one pizza please", "leave")])
    discard_gradients(model)
    model.finish_update(Adam(0.001))
    np.testing.assert_array_equal(margins(trained), before)
    assert all_finite(model)
    shim(trained).learning_weights().rows.weights[1, 0] = np.nan
    assert not all_finite(model)
    assert len(list(learning_shims(model))) == 1


def test_an_update_changes_only_rows_of_present_features(trained: Language) -> None:
    learning = shim(trained).learning_weights()
    before, table = learning.rows.weights.copy(), learning.rows.table
    text = example(trained, "zyx", "greet")
    make = TextNgrams((2, 3, 4, 5), 500, 32, bits=table.bits, polarities=word_polarities("en"))
    present = table.rows_of(make([text.reference]).buckets)
    trained.update([text])
    moved = np.flatnonzero((learning.rows.weights[: len(before)] != before).any(axis=1))
    assert set(moved) == set(present[present != NO_ROW])  # only the feature "neutral"
    assert len(moved) == 1
    assert len(learning.rows.weights) > len(before)


def test_deferred_features_get_a_row_with_the_second_text() -> None:
    make = TextNgrams(char_sizes=(2,), max_words=50, pair_words=8, clusters=word_clusters("en"))
    weights = LearningWeights.new(RowOptions(20, 1000, 0.3), labels=2)
    english = spacy.blank("en")

    def proposed(text: str) -> dict[int, int]:
        """Number of features of each view that get a row; records the text."""
        features = make([english.make_doc(text)])
        proposal = weights.new_features(features)
        design = design_matrix(features, weights.rows.table, weights.frequencies.rarity, new=proposal.buckets)
        weights.record(proposal, design, np.ones(1, dtype=np.float32))
        wanted = np.isin(features.buckets, proposal.buckets)
        return {view: int((wanted & (features.views == view)).sum()) for view in range(VIEWS)}

    once = proposed("qwrtzx monday")
    assert once[WORDS] == 2 + 3
    assert once[CHARACTERS] > 0
    assert once[PAIRS] == once[CLUSTERS] == 0
    assert proposed("qwrtzx monday") == once  # a repeated text is no second text
    again = proposed("monday never qwrtzx")
    assert again[PAIRS] == 1
    assert again[CLUSTERS] == 2 * len(CLUSTER_BITS)  # both words, in another order


@pytest.mark.parametrize("passes", [0, 8])
def test_the_next_update_trains_a_new_label(nlp: Language, passes: int) -> None:
    train(nlp, passes)
    before = margins(nlp)
    pipe = nlp.get_pipe("intent")
    assert (pipe.add_label("joke"), pipe.add_label("joke")) == (1, 0)
    after = margins(nlp)
    np.testing.assert_allclose(
        after[:, :3], before, rtol=1e-5
    )  # a matrix product of another shape rounds differently
    if passes:
        assert (after[:, 3] < after[:, :3].max(axis=1)).all()
    for _ in range(8):
        nlp.update([*corpus(nlp), example(nlp, "tell me a joke", "joke"), example(nlp, "be funny", "joke")])
    cats = nlp("tell me a joke").cats
    assert max(cats, key=cats.__getitem__) == "joke"
    assert accuracy(nlp) == 1.0


def test_many_labels_one_by_one(nlp: Language) -> None:
    pipe = nlp.get_pipe("intent")
    for number in range(60):
        assert pipe.add_label(f"label {number}") == 1
        nlp.update([example(nlp, f"text {number}", f"label {number}")])
    assert shim(nlp).labels == 63 == len(nlp("text").cats)


def test_a_full_table_evicts_for_new_features() -> None:
    nlp = sparse_pipeline(max_rows=600)
    for number in range(200):
        nlp.update([example(nlp, f"word{number} other{number} more", "greet" if number % 2 else "leave")])
        assert feature_rows(nlp) < 600
    train(nlp)
    assert accuracy(nlp) == 1.0


def test_a_large_batch_can_fill_the_table() -> None:
    nlp = sparse_pipeline(max_rows=600)
    texts = [f"word{number} other{number} more" for number in range(100)]
    for _ in range(3):
        nlp.update([example(nlp, text, "greet") for text in texts])
        assert feature_rows(nlp) < 600
    assert all_finite(nlp.get_pipe("intent").model)
    assert max(nlp("word1 more").cats.values()) == nlp("word1 more").cats["greet"]


def test_training_continues_exactly_after_saving_and_loading(trained: Language, tmp_path: Path) -> None:
    trained.to_disk(tmp_path)
    loaded = spacy.load(tmp_path)
    assert not shim(loaded).is_learning
    loaded("hello")
    assert not shim(loaded).is_learning
    copy = spacy.blank("en").from_config(trained.config).from_bytes(trained.to_bytes())
    again = tmp_path / "again"
    spacy.load(tmp_path).to_disk(again)  # saved without training
    for nlp in (trained, loaded, copy, spacy.load(again)):
        train(nlp, 2)
        nlp.get_pipe("intent").add_label("joke")
        nlp.update([example(nlp, "tell me a joke", "joke")])
        np.testing.assert_array_equal(margins(nlp), margins(trained))


def test_served_margins_are_close_to_trained_margins(trained: Language, tmp_path: Path) -> None:
    trained.to_disk(tmp_path)
    loaded = spacy.load(tmp_path)
    np.testing.assert_allclose(margins(loaded), margins(trained), atol=0.01)
    assert len(shim(loaded).to_bytes()) < len(shim(trained).to_bytes())


def test_serving_and_training_work_without_a_state(trained: Language, tmp_path: Path) -> None:
    trained.to_disk(tmp_path)
    (tmp_path / "intent" / STATE_FILE).unlink()
    loaded = spacy.load(tmp_path)
    before = margins(loaded)
    loaded.update([example(loaded, "", "greet")])
    assert not shim(loaded).is_learning  # no training step
    shim(loaded).learning_weights()
    np.testing.assert_allclose(margins(loaded), before, atol=1e-5)
    train(loaded, 1)
    assert accuracy(loaded) == 1.0


def test_the_state_of_other_weights_is_refused(trained: Language, tmp_path: Path) -> None:
    trained.to_disk(tmp_path)
    loaded = spacy.load(tmp_path)
    train(trained, 1).to_disk(tmp_path)
    with pytest.raises(ModelError, match="overwritten"):
        loaded.update(corpus(loaded))


def test_the_state_can_be_excluded(trained: Language, tmp_path: Path) -> None:
    pipe = trained.get_pipe("intent")
    pipe.to_disk(tmp_path / "intent", exclude=["vocab", "state"])
    assert not (tmp_path / "intent" / STATE_FILE).exists()
    assert len(pipe.to_bytes(exclude=["vocab", "state"])) < len(pipe.to_bytes(exclude=["vocab"]))


def test_snapshots_of_the_model_are_exact(trained: Language) -> None:
    """A training loop stores and restores the best weights."""
    model, before = trained.get_pipe("intent").model, margins(trained)
    snapshot = model.to_bytes()
    train(trained, 2)
    after = margins(trained)
    assert (after != before).any()
    model.from_bytes(snapshot)
    np.testing.assert_array_equal(margins(trained), before)
    train(trained, 2)
    np.testing.assert_array_equal(margins(trained), after)


def test_a_copy_is_trained_separately(trained: Language) -> None:
    model, before = trained.get_pipe("intent").model, margins(trained)
    copy = model.copy()
    train(trained, 1)
    docs = [trained.make_doc(text) for text, _ in LABELLED]
    np.testing.assert_array_equal(copy.shims[0].margins(docs).margins, before)


def test_no_word_of_the_texts_is_stored(trained: Language, tmp_path: Path) -> None:
    trained.to_disk(tmp_path)
    stored = b"".join(file.read_bytes() for file in (tmp_path / "intent").rglob("*") if file.is_file())
    words = {word for text, _ in LABELLED for word in text.replace(",", "").split() if len(word) > 3}
    words -= {"order"}  # a label
    assert not {word for word in words if word.encode() in stored}
    assert b"greet" in stored


def test_several_processes_give_the_same(trained: Language) -> None:
    texts = [text for text, _ in LABELLED]
    alone = trained.pipe(texts)
    together = trained.pipe(texts, n_process=2, batch_size=4)
    for one, other in zip(alone, together, strict=True):
        assert one.cats == pytest.approx(other.cats, abs=1e-6)


@pytest.mark.parametrize("data", [b"", b"S", b"L\x80", b"X\x80", b"S\x81\xa1a\xc0"])
def test_damaged_weights_are_refused(trained: Language, data: bytes) -> None:
    with pytest.raises(ValueError, match="weights"):
        shim(trained).from_bytes(data)


@pytest.mark.parametrize(
    "options",
    [{"table_bits": 40}, {"max_rows": 1}, {"learn_rate": 0}, {"max_words": 0}, {"char_sizes": [0]}],
)
def test_invalid_options_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"SparseNgrams needs"):
        sparse_ngrams(True, **options)  # type: ignore[arg-type]


def test_empty_documents_have_zero_scores(trained: Language) -> None:
    assert trained("").cats == {"greet": 0.0, "order": 0.0, "leave": 0.0}
    mixed = list(trained.pipe(["", "hello there my friend"]))
    assert set(mixed[0].cats.values()) == {0.0}
    assert mixed[1].cats["greet"] > 0.5
    assert list(trained.pipe([])) == []


@pytest.mark.parametrize(
    "text", ["word " * 200_000, "x" * 900_000, "😀" * 1000, "日本語のテキスト", "\x00", "  "]
)
def test_hostile_texts_can_be_analyzed_and_learned(trained: Language, text: str) -> None:
    rows = feature_rows(trained)
    doc = trained.tokenizer(text) if len(text) < 1_000_000 else trained.make_doc(text[:999_999])
    pipe = trained.get_pipe("intent")
    assert all(0.0 <= score <= 1.0 for score in pipe(doc).cats.values())
    pipe.update([Example.from_dict(doc, {"cats": {"greet": 1.0}})], sgd=Adam(0.1))
    assert all_finite(pipe.model)
    assert feature_rows(trained) - rows < 1000


def test_lone_surrogates_raise_spacys_error_and_change_nothing(trained: Language) -> None:
    before = margins(trained)
    with pytest.raises(UnicodeEncodeError):
        trained("a \ud800 b")
    np.testing.assert_array_equal(margins(trained), before)


SHARED = train(sparse_pipeline(), 2)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=["Cs"]), max_size=50),
            st.sampled_from(["greet", "order", "leave", "another label"]),
        ),
        max_size=6,
    )
)
def test_anything_can_be_learned_and_the_weights_stay_finite(batch: list[tuple[str, str]]) -> None:
    SHARED.update([example(SHARED, text, label) for text, label in batch])
    assert all_finite(SHARED.get_pipe("intent").model)
    for doc in SHARED.pipe([text for text, _ in batch]):
        assert sum(doc.cats.values()) == pytest.approx(1.0 if len(doc) else 0.0, abs=1e-5)


def test_saving_removes_the_state_of_other_weights(tmp_path: Path) -> None:
    nlp = train(sparse_pipeline())
    nlp.to_disk(tmp_path)
    nlp.update(corpus(nlp))
    nlp.get_pipe("intent").to_disk(tmp_path / "intent", exclude=["state"])
    assert not (tmp_path / "intent" / STATE_FILE).exists()
    again = spacy.load(tmp_path)
    again.update(corpus(again))


def test_a_pipe_saved_over_its_folder_without_state_keeps_its_state_in_memory(tmp_path: Path) -> None:
    train(sparse_pipeline()).to_disk(tmp_path)
    whole, saved = spacy.load(tmp_path), spacy.load(tmp_path)
    whole.update(corpus(whole))
    saved.get_pipe("intent").to_disk(tmp_path / "intent", exclude=["state"])
    saved.update(corpus(saved))
    texts = ["hello there", "two pizzas"]
    assert [doc.cats for doc in saved.pipe(texts)] == [doc.cats for doc in whole.pipe(texts)]
