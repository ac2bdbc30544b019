"""Calibration of our text categorizers on held-out examples."""

from spacy.language import Language

from karen_learner.analysis.model_queue import analyze_batch
from karen_learner.models.live import LiveModel
from karen_learner.training.handlers import MIN_CALIBRATION_EXAMPLES, calibrate
from tests.components.text_corpora import corpus, sparse_pipeline


def trained() -> Language:
    nlp = sparse_pipeline()
    for _ in range(5):
        nlp.update(corpus(nlp), sgd=nlp.create_optimizer())
    return nlp


def test_too_few_examples_leave_the_pipe_unchanged() -> None:
    nlp = trained()
    few = corpus(nlp)[: MIN_CALIBRATION_EXAMPLES - 1]
    assert calibrate(nlp.get_pipe("intent"), few, false_alarm_rate=0.05) is None
    assert nlp.get_pipe("intent").calibration is None


def test_a_stock_pipe_is_not_calibrated() -> None:
    nlp = trained()
    pipe = nlp.add_pipe("textcat", name="stock")
    assert calibrate(pipe, corpus(nlp) * MIN_CALIBRATION_EXAMPLES, false_alarm_rate=0.05) is None


async def test_the_analysis_marks_out_of_scope_texts() -> None:
    nlp = trained()
    held_out = corpus(nlp) * MIN_CALIBRATION_EXAMPLES
    summary = calibrate(nlp.get_pipe("intent"), held_out, false_alarm_rate=1 / (len(held_out) + 1))
    assert summary is not None
    assert summary.examples == len(held_out)
    assert summary.false_alarms == 0.0
    assert summary.ece_after <= summary.ece_before
    model = LiveModel(nlp, tasks={"intent": "intent"})
    texts = [held_out[0].text, "zxqv wjkp qqqq"]
    analyses, _ = await model.run(lambda pipeline: analyze_batch(pipeline, texts, model=model))
    model.close()
    assert [analysis.out_of_scope for analysis in analyses] == [False, True]
