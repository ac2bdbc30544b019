"""Calibration against scikit-learn, SciPy and by hand; calibration of a pipe."""

from pathlib import Path

import numpy as np
import pytest
import spacy
from scipy.optimize import minimize_scalar
from sklearn.metrics import log_loss as reference_log_loss
from spacy.language import Language
from thinc.api import Adam

from karen_learner.components.textcat.calibration import (
    Calibration,
    Margins,
    expected_calibration_error,
    fit_scale,
    in_scope_scores,
    log_loss,
    logistic,
    out_of_scope_threshold,
    softmax,
)
from karen_learner.components.textcat.pipe import is_out_of_scope
from tests.components.text_corpora import corpus, example, sparse_pipeline, train
from tests.components.textcat.test_pipe import SMALL


def seeded(texts: int = 400, labels: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Margins whose true scale is 3, and truths drawn from it."""
    rng = np.random.default_rng(0)
    margins = rng.normal(size=(texts, labels))
    drawn = (softmax(3.0 * margins).cumsum(axis=1) > rng.random((texts, 1))).argmax(axis=1)
    return margins, np.eye(labels)[drawn]


def test_the_scale_minimizes_the_log_loss() -> None:
    margins, truths = seeded()
    expected = minimize_scalar(
        lambda scale: reference_log_loss(truths.argmax(axis=1), softmax(margins * scale)),
        bounds=(0.01, 100),
        method="bounded",
    )
    assert fit_scale(margins, truths, exclusive=True) == pytest.approx(expected.x, rel=2e-3)
    assert expected.x == pytest.approx(3.0, rel=0.1)


def test_log_loss_is_that_of_scikit_learn() -> None:
    margins, truths = seeded()
    ours = log_loss(softmax(margins), truths, exclusive=True)
    assert ours == pytest.approx(reference_log_loss(truths.argmax(axis=1), softmax(margins)))
    column = log_loss(logistic(margins[:, :1]), truths[:, :1], exclusive=False)
    assert column == pytest.approx(reference_log_loss(truths[:, 0], logistic(margins[:, 0])))


def test_unknown_truths_have_no_loss() -> None:
    margins, truths = seeded()
    half = truths.copy()
    half[200:] = np.nan
    expected = log_loss(logistic(margins[:200]), truths[:200], exclusive=False) / 2
    assert log_loss(logistic(margins), half, exclusive=False) == pytest.approx(expected)


def test_the_calibration_error_by_hand() -> None:
    confidences = np.array([0.95, 0.95, 0.55, 0.55])
    right = np.array([True, True, True, False])
    # two bins of ten: |0.95 - 1| and |0.55 - 0.5|, half of the texts each
    assert expected_calibration_error(confidences, right, bins=10) == pytest.approx(0.05)
    assert expected_calibration_error(np.array([1.0]), np.array([True])) == 0.0
    assert expected_calibration_error(np.zeros(0), np.zeros(0, dtype=bool)) == 0.0


@pytest.mark.parametrize(("rate", "rank"), [(0.05, 5), (0.02, 2), (0.29, 29), (0.995, 99)])
def test_the_threshold_has_the_conformal_rank(rate: float, rank: int) -> None:
    scores = np.random.default_rng(0).normal(size=99)
    threshold = out_of_scope_threshold(scores, false_alarm_rate=rate)
    assert threshold == pytest.approx(np.sort(scores)[rank - 1], abs=2e-4)
    assert (scores < threshold).sum() == rank - 1


@pytest.mark.parametrize(("rate", "texts"), [(0.05, 19), (0.1, 9), (0.02, 49)])
def test_too_few_texts_for_the_rate_give_no_threshold(rate: float, texts: int) -> None:
    scores = np.arange(texts, dtype=np.float32)
    assert out_of_scope_threshold(scores, false_alarm_rate=rate) is not None
    assert out_of_scope_threshold(scores[1:], false_alarm_rate=rate) is None
    assert out_of_scope_threshold(scores, false_alarm_rate=0.0) is None


@pytest.mark.parametrize("texts", [25, 60, 137])
def test_new_texts_keep_to_the_rate_in_expectation(texts: int) -> None:
    drawn = np.random.default_rng(1).normal(size=(4000, texts + 1))
    alarms = [row[-1] < out_of_scope_threshold(row[:-1], false_alarm_rate=0.05) for row in drawn]
    exact = int(0.05 * (texts + 1)) / (texts + 1)
    assert exact <= 0.05
    assert np.mean(alarms) == pytest.approx(exact, abs=4 * np.sqrt(0.05 * 0.95 / 4000))


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_invalid_rates_are_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="false_alarm_rate"):
        out_of_scope_threshold(np.zeros(3), false_alarm_rate=rate)


def test_in_scope_scores_by_hand() -> None:
    margins = np.array([[0.5, -1.0, -0.25], [-1.0, -1.0, 0.75]])
    found = Margins(margins, ngram_coverage=np.array([1.0, 0.25]))
    assert in_scope_scores(found).tolist() == [1.25, 0.9375]
    assert in_scope_scores(found, out_of_scope=2).tolist() == [1.4375, -1.375]


@pytest.fixture
def nlp() -> Language:
    return train(sparse_pipeline())


def test_a_calibrated_pipe_finds_out_of_scope_texts(nlp: Language, tmp_path: Path) -> None:
    pipe = nlp.get_pipe("intent")
    assert pipe.calibration is None
    assert not nlp("quantum entanglement").user_data
    report = pipe.calibrate(corpus(nlp), false_alarm_rate=0.1)
    assert (report.examples, report.false_alarms, report.out_of_scope_recall) == (12, 0.0, None)
    assert report.log_loss_after <= report.log_loss_before
    assert report.calibration == pipe.calibration
    copy = spacy.blank("en").from_config(nlp.config).from_bytes(nlp.to_bytes())
    nlp.to_disk(tmp_path)
    for same in (nlp, spacy.load(tmp_path), copy):
        assert same.get_pipe("intent").calibration == report.calibration
        assert is_out_of_scope(same("quantum entanglement"), "intent")
        assert not is_out_of_scope(same("hello there my friend"), "intent")
        assert is_out_of_scope(same(""), "intent")
        assert set(same("hello").cats) == {"greet", "order", "leave"}
    assert not is_out_of_scope(nlp("quantum entanglement"), "sentiment")


def test_the_out_of_scope_decision_passes_between_processes(nlp: Language) -> None:
    nlp.get_pipe("intent").calibrate(corpus(nlp), false_alarm_rate=0.1)
    docs = nlp.pipe(["hello there my friend", "quantum entanglement"], n_process=2, batch_size=1)
    assert [is_out_of_scope(doc, "intent") for doc in docs] == [False, True]


def test_an_out_of_scope_label_lowers_the_in_scope_score(nlp: Language) -> None:
    pipe = nlp.get_pipe("intent")
    examples = [*corpus(nlp), example(nlp, "quantum entanglement", "oos"), example(nlp, "a hat trick", "oos")]
    pipe.add_label("oos")
    for _ in range(8):
        nlp.update(examples)
    report = pipe.calibrate(examples, false_alarm_rate=0.1, out_of_scope_label="oos")
    assert (report.false_alarms, report.out_of_scope_recall) == (0.0, 1.0)
    assert is_out_of_scope(nlp("quantum hat"), "intent")
    with pytest.raises(ValueError, match="no label"):
        pipe.calibrate(examples, out_of_scope_label="nonsense")


def test_calibration_needs_examples_but_no_threshold(nlp: Language) -> None:
    pipe = nlp.get_pipe("intent")
    with pytest.raises(ValueError, match="no example"):
        pipe.calibrate([example(nlp, "hello", "another label")])
    report = pipe.calibrate(corpus(nlp), false_alarm_rate=None)
    assert report.calibration.threshold is report.false_alarms is None
    assert not nlp("quantum entanglement").user_data


def test_a_threshold_for_scores_with_other_weights_is_dropped() -> None:
    record = Calibration(2.5, 0.25, 0.05).as_record()
    del record["doubt_weight"]
    assert Calibration.from_record(record) == Calibration(2.5)


def test_moods_of_an_earlier_calibration_are_ignored(nlp: Language, tmp_path: Path) -> None:
    pipe = nlp.get_pipe("intent")
    pipe.calibrate(corpus(nlp))
    calibration, expected = pipe.calibration, nlp("hello there").cats
    weights = [["0.5", "-0.25", "0.0"]] * 3
    moods = {"texts": 200, "usual": ["0.5", "0.25", "0.25"], "weights": weights}
    pipe.cfg["calibration"] = {**calibration.as_record(), "moods": moods}
    nlp.to_disk(tmp_path)
    loaded = spacy.load(tmp_path)
    assert loaded.get_pipe("intent").calibration == calibration
    assert loaded("hello there").cats == pytest.approx(expected, abs=0.02)


def test_a_new_label_keeps_the_temperature_and_removes_the_threshold(nlp: Language, tmp_path: Path) -> None:
    pipe = nlp.get_pipe("intent")
    before = pipe.calibrate(corpus(nlp), false_alarm_rate=0.1).calibration
    assert is_out_of_scope(nlp("quantum entanglement"), "intent")
    assert pipe.add_label("greet") == 0
    assert pipe.calibration == before
    assert pipe.add_label("joke") == 1
    nlp.to_disk(tmp_path)
    for same in (nlp, spacy.load(tmp_path)):
        assert same.get_pipe("intent").calibration == Calibration(before.scale, None, 0.1)
        assert set(same("hello").cats) == {"greet", "order", "leave", "joke"}
        assert not is_out_of_scope(same("quantum entanglement"), "intent")
    assert pipe.calibrate(corpus(nlp), false_alarm_rate=0.1).calibration.threshold is not None


@pytest.mark.parametrize("rate", [None, 0.1])
def test_the_loss_of_predictions_ignores_the_threshold(nlp: Language, rate: float | None) -> None:
    pipe, examples = nlp.get_pipe("intent"), corpus(nlp)
    pipe.calibrate(examples, false_alarm_rate=rate)
    scores = pipe.predict([one.predicted for one in examples])
    loss, gradient = pipe.get_loss(examples, scores)
    truths = [[one.reference.cats.get(label, 0.0) for label in pipe.labels] for one in examples]
    np.testing.assert_allclose(gradient, scores[:, :3] - np.array(truths))
    assert loss == pytest.approx((gradient**2).mean())


def test_stock_architectures_can_be_calibrated_too() -> None:
    spacy.util.fix_random_seed(0)
    nlp = spacy.blank("en")
    pipe = nlp.add_pipe("karen_textcat", name="intent", config={"model": SMALL})
    pipe.initialize(lambda: corpus(nlp), nlp=nlp)
    optimizer = Adam(0.01)
    for _ in range(5):
        nlp.update(corpus(nlp), sgd=optimizer)
    before = nlp("hello there my friend").cats
    report = pipe.calibrate(corpus(nlp), false_alarm_rate=0.25)
    assert report.false_alarms == pytest.approx(2 / 12)  # the third smallest of 12: 3 / 13 <= 0.25
    after = nlp("hello there my friend").cats
    scale = report.calibration.scale
    powers = {label: score**scale for label, score in before.items()}
    expected = {label: power / sum(powers.values()) for label, power in powers.items()}
    assert after == pytest.approx(expected, rel=1e-3)
