"""Calibration of our text categorizers on margins of shadows."""

from pathlib import Path

import numpy as np
import pytest
from spacy.language import Language
from thinc.api import Config

from karen_learner.analysis.spacy_analyzer import analyze_batch
from karen_learner.components.textcat.margins import LabelledMargins, Margins
from karen_learner.models.live import LiveModel
from karen_learner.training.pipelines import TrainablePipeline
from karen_learner.training.shadow_margins import (
    MIN_CALIBRATION_EXAMPLES,
    calibrate,
    scaled,
    share_of,
    write_margins,
)
from tests.components.text_corpora import LABELLED, corpus, sparse_pipeline

RATE = 0.05


def trained() -> Language:
    nlp = sparse_pipeline()
    for _ in range(5):
        nlp.update(corpus(nlp), sgd=nlp.create_optimizer())
    return nlp


def trainable(nlp: Language, pipe: str = "intent") -> TrainablePipeline:
    return TrainablePipeline(nlp, {"intent": pipe}, Config())


def write(nlp: Language, folder: Path, *, repeats: int, count: int | None = None) -> None:
    """Write the margins of the corpus, several times over, with their labels."""
    rows = (LABELLED * repeats)[:count]
    margins = nlp.get_pipe("intent").margins([nlp.make_doc(text) for text, _ in rows])
    write_margins(folder, "intent", margins, [label for _, label in rows])


@pytest.mark.parametrize("missing", [1, 0])
def test_too_few_examples_leave_the_pipe_unchanged(missing: int, tmp_path: Path) -> None:
    nlp = trained()
    write(nlp, tmp_path, repeats=9, count=MIN_CALIBRATION_EXAMPLES - missing)
    calibrate(trainable(nlp), tmp_path, false_alarm_rate=RATE)
    assert (nlp.get_pipe("intent").calibration is None) == bool(missing)


def test_texts_with_unknown_labels_do_not_count(tmp_path: Path) -> None:
    nlp, count = trained(), MIN_CALIBRATION_EXAMPLES
    margins = nlp.get_pipe("intent").margins([nlp.make_doc("hello there")] * count)
    write_margins(tmp_path, "intent", margins, [*["greet"] * (count - 1), "unknown"])
    calibrate(trainable(nlp), tmp_path, false_alarm_rate=RATE)
    assert nlp.get_pipe("intent").calibration is None


def test_without_margins_the_calibration_stays(tmp_path: Path) -> None:
    nlp = trained()
    write(nlp, tmp_path / "some", repeats=9)
    calibrate(trainable(nlp), tmp_path / "some", false_alarm_rate=RATE)
    before = nlp.get_pipe("intent").calibration
    calibrate(trainable(nlp), tmp_path / "none", false_alarm_rate=RATE)
    assert before is not None
    assert nlp.get_pipe("intent").calibration == before


def test_a_stock_pipe_is_not_calibrated(tmp_path: Path) -> None:
    nlp = trained()
    pipe = nlp.add_pipe("textcat", name="stock")
    for label in ("greet", "leave", "order"):
        pipe.add_label(label)
    write(nlp, tmp_path, repeats=9)
    calibrate(trainable(nlp, "stock"), tmp_path, false_alarm_rate=RATE)
    assert "calibration" not in pipe.cfg


async def test_the_analysis_marks_out_of_scope_texts(tmp_path: Path) -> None:
    nlp, repeats = trained(), 40
    write(nlp, tmp_path, repeats=repeats)
    calibrate(trainable(nlp), tmp_path, false_alarm_rate=1 / (repeats * len(LABELLED) + 1))
    assert nlp.get_pipe("intent").calibration is not None
    model = LiveModel(nlp, tasks={"intent": "intent"})
    texts = [LABELLED[0][0], "zxqv wjkp qqqq"]
    analyses, _ = await model.run(lambda pipeline: analyze_batch(pipeline, texts, model=model))
    model.close()
    assert [analysis.out_of_scope for analysis in analyses] == [False, True]


# Probabilities --------------------------------------------------------------------------------


def margins_of(values: list[list[float]], labels: tuple[str, ...] = ("a", "b")) -> LabelledMargins:
    return LabelledMargins(labels, Margins(np.array(values, np.float32), np.ones(len(values), np.float32)))


def test_probabilities_are_those_of_the_labels_that_the_model_knows() -> None:
    margins = margins_of([[1, -1], [-1, 1], [1, -1], [1, -np.inf], [1, -1]])
    labels = ["a", "b", None, "b", "unknown"]
    found = scaled(margins, labels, fitted=[True] * 5)[0]
    assert [value is not None for value in found] == [True, True, False, False, False]
    assert found[0] == found[1]
    assert 0.5 < (found[0] or 0) <= 1.0


def test_only_fitted_texts_set_the_scale() -> None:
    """The fitted texts are right and certain; by the others alone, no label would be likely."""
    certain, wrong = [[2.0, -2.0]] * 9, [[2.0, -2.0]] * 9
    margins, labels = margins_of(certain + wrong), ["a"] * 9 + ["b"] * 9
    by_first = scaled(margins, labels, fitted=[True] * 9 + [False] * 9)[0]
    by_all = scaled(margins, labels, fitted=[True] * 18)[0]
    assert (by_first[0] or 0) > 0.99 > 0.6 > (by_all[0] or 0)
    assert scaled(margins, labels, fitted=[False] * 18)[0] == by_all


def test_without_a_known_label_no_text_has_a_probability() -> None:
    assert scaled(margins_of([[1, 2]]), [None], fitted=[True])[0] == [None]
    assert scaled(margins_of([]), [], fitted=[])[0] == []


def test_the_share_of_a_label_in_scores_of_stock_pipes() -> None:
    scores = {"a": 0.2, "b": 0.6}
    assert share_of(scores, "b") == pytest.approx(0.75)
    assert share_of(scores, "c") is share_of(scores, None) is share_of({"a": 0.0}, "a") is None
