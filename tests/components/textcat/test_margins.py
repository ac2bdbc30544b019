"""Margins by label: alignment, pools, files, and calibration across folds."""

from pathlib import Path

import numpy as np
import pytest
import spacy
from spacy.language import Language

from karen_learner.components.textcat.calibration import fit_calibration
from karen_learner.components.textcat.margins import LabelledMargins, Margins, pool_margins
from tests.components.text_corpora import SPARSE, corpus, sparse_pipeline, train

FOLDS = 4


def labelled(labels: tuple[str, ...], rows: list[list[float]], *, similar: bool = False) -> LabelledMargins:
    margins = np.array(rows, dtype=np.float32)
    coverage = np.linspace(0.0, 1.0, len(rows), dtype=np.float32)
    return LabelledMargins(labels, Margins(margins, coverage, margins / 10 if similar else None))


def test_columns_match_by_label() -> None:
    found = labelled(("b", "a"), [[1.0, 2.0], [3.0, 4.0]], similar=True).aligned(["a", "c", "b"])
    assert found.margins.tolist() == [[2.0, -np.inf, 1.0], [4.0, -np.inf, 3.0]]
    assert found.centroid_similarity is not None
    np.testing.assert_allclose(found.centroid_similarity, [[0.2, -1.0, 0.1], [0.4, -1.0, 0.3]], rtol=1e-6)
    assert found.ngram_coverage.tolist() == [0.0, 1.0]


def test_columns_of_other_labels_are_dropped() -> None:
    assert labelled(("b", "a"), [[1.0, 2.0]]).aligned(["a"]).margins.tolist() == [[2.0]]


def test_a_pool_has_all_texts_and_labels() -> None:
    pool = pool_margins([labelled(("b", "a"), [[1.0, 2.0]]), labelled(("c", "a"), [[3.0, 4.0], [5.0, 6.0]])])
    assert pool.labels == ("a", "b", "c")
    assert len(pool) == 3
    inf = np.inf
    assert pool.values.margins.tolist() == [[2.0, 1.0, -inf], [4.0, -inf, 3.0], [6.0, -inf, 5.0]]
    assert pool.values.ngram_coverage.tolist() == [0.0, 0.0, 1.0]


def test_only_margins_of_the_same_kind_are_pooled() -> None:
    with pytest.raises(ValueError, match="sentence vectors"):
        pool_margins([labelled(("a",), [[1.0]]), labelled(("a",), [[1.0]], similar=True)])
    with pytest.raises(ValueError, match="no margins"):
        pool_margins([])


@pytest.mark.parametrize("similar", [False, True])
@pytest.mark.parametrize("rows", [[], [[1.5, -np.inf]]])
def test_a_file_holds_exact_margins(tmp_path: Path, rows: list[list[float]], similar: bool) -> None:
    written = labelled(("ärger", "b"), rows or [[0.0, 0.0]], similar=similar)
    if not rows:
        written = LabelledMargins(written.labels, written.values.rows(np.zeros(1, dtype=bool)))
    written.to_file(tmp_path / "0.margins")
    read = LabelledMargins.from_file(tmp_path / "0.margins")
    assert read.labels == written.labels
    np.testing.assert_array_equal(read.values.margins, written.values.margins)
    np.testing.assert_array_equal(read.values.ngram_coverage, written.values.ngram_coverage)
    assert (read.values.centroid_similarity is not None) is similar
    if similar:
        np.testing.assert_array_equal(read.values.centroid_similarity, written.values.centroid_similarity)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "margins.npz"
    labelled(("a", "b"), [[1.0, 2.0]]).to_file(path)
    whole = path.read_bytes()
    for damaged in (b"", b"nonsense", whole[: len(whole) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"margins\.npz"):
            LabelledMargins.from_file(path)
    labelled(("a",), [[1.0, 2.0]]).to_file(path)
    with pytest.raises(ValueError, match="shape"):
        LabelledMargins.from_file(path)
    np.savez(path, labels=np.array(["a"]))
    with pytest.raises(ValueError, match="damaged"):
        LabelledMargins.from_file(path)
    with pytest.raises(FileNotFoundError):
        LabelledMargins.from_file(tmp_path / "missing.npz")


def test_a_model_without_the_out_of_scope_label_sets_no_threshold() -> None:
    margins = Margins(
        np.array([[1.0, -1.0], [2.0, -np.inf], [-1.0, 1.0], [0.5, -1.0]]), np.zeros(4, dtype=np.float32)
    )
    truths = np.array([[1.0, 0.0], [1.0, np.nan], [0.0, 1.0], [1.0, 0.0]])
    report = fit_calibration(
        margins,
        truths,
        exclusive=True,
        uncalibrated_scale=1.0,
        false_alarm_rate=0.4,
        out_of_scope=("oos", 1),
    )
    # the in-scope scores are 1 + 0.75 and 0.5 + 0.75: floor(0.4 x 3) = 1
    assert report.calibration.threshold == pytest.approx(1.25, abs=2e-4)
    assert (report.examples, report.false_alarms, report.out_of_scope_recall) == (4, 0.0, 1.0)


def trained_without(fold: int, labels: tuple[str, ...]) -> Language:
    """A pipeline with these labels that has not learned the fold."""
    nlp = spacy.blank("en")
    pipe = nlp.add_pipe("karen_textcat", name="intent", config={"model": SPARSE})
    known = [one for position, one in enumerate(corpus(nlp)) if position % FOLDS != fold]
    pipe.initialize(lambda: known, nlp=nlp, labels=labels)
    for _ in range(8):
        nlp.update(known)
    return nlp


def test_a_pipe_is_calibrated_on_the_pooled_margins_of_shadows(tmp_path: Path) -> None:
    categories: list[dict[str, float]] = []
    orders = [("greet", "order", "leave"), ("order", "leave", "greet"), ("leave", "greet", "order")]
    for fold in range(FOLDS):
        nlp = trained_without(fold, orders[fold % 3])
        docs = [one.reference for one in corpus(nlp)[fold::FOLDS]]
        nlp.get_pipe("intent").margins(docs).to_file(tmp_path / f"{fold}.npz")
        categories += [doc.cats for doc in docs]
    pool = pool_margins([LabelledMargins.from_file(tmp_path / f"{fold}.npz") for fold in range(FOLDS)])
    served = train(sparse_pipeline())
    pipe = served.get_pipe("intent")
    report = pipe.calibrate_margins(pool, categories, false_alarm_rate=0.1)
    assert (report.examples, report.false_alarms) == (12, 0.0)
    assert report.log_loss_after <= report.log_loss_before
    assert pipe.calibration == report.calibration
    own = pipe.calibrate(corpus(served), false_alarm_rate=0.1).calibration
    # a pipe is surer of the texts that it has learned: its own margins would give overconfident scores
    assert report.calibration.scale < own.scale
    assert own.threshold is not None
    assert report.calibration.threshold is not None
    assert report.calibration.threshold < own.threshold


def test_calibrate_equals_calibrate_margins() -> None:
    nlp = train(sparse_pipeline())
    pipe, docs = nlp.get_pipe("intent"), [one.reference for one in corpus(nlp)]
    expected = pipe.calibrate(corpus(nlp), false_alarm_rate=0.2)
    margins, cats = pipe.margins(docs), [doc.cats for doc in docs]
    assert pipe.calibrate_margins(margins, cats, false_alarm_rate=0.2) == expected


@pytest.mark.parametrize("factory", ["karen_textcat", "karen_textcat_multilabel"])
def test_a_label_that_the_shadow_lacks_calibrates_nothing(factory: str) -> None:
    nlp = train(sparse_pipeline(factory))
    pipe, docs = nlp.get_pipe("intent"), [one.reference for one in corpus(nlp)]
    names = ["greet", "order", "leave"]
    cats = [{label: doc.cats.get(label, 0.0) for label in names} for doc in docs]
    full = pipe.margins(docs)
    without = LabelledMargins(("greet", "order"), full.aligned(["greet", "order"]))
    report = pipe.calibrate_margins(without, cats)
    assert report.examples == (8 if pipe.exclusive else 12)
    assert np.isfinite(report.log_loss_after)
    with pytest.raises(ValueError, match="no example"):
        pipe.calibrate_margins(LabelledMargins(("joke",), full.aligned(["greet"])), cats)


def test_margins_and_categories_have_the_same_length() -> None:
    nlp = train(sparse_pipeline())
    pipe = nlp.get_pipe("intent")
    with pytest.raises(ValueError, match="1 texts, categories of 0"):
        pipe.calibrate_margins(pipe.margins([nlp.make_doc("hello")]), [])
