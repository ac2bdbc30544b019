"""The training loops, ours and spaCy's, with a sparse text categorizer in the pipeline."""

import random
from pathlib import Path

import pytest
import spacy
from spacy.language import Language
from spacy.tokens import DocBin
from spacy.training.initialize import init_nlp
from spacy.training.loop import train as spacy_train
from spacy.util import load_config

from karen_learner.components.textcat.architecture import SparseNgramsShim, shim_of
from karen_learner.settings import load_settings
from karen_learner.training.trainer import PipeTrainer, Plan
from tests.components.text_corpora import LABELLED, corpus, example, sparse_pipeline

CONFIG = Path(__file__).parents[3] / "configs" / "text.cfg"


def trainer(nlp: Language, rate: float = 1.0, passes: int = 4) -> PipeTrainer:
    settings = load_settings().training.model_copy(update={"batch_size": 4})
    plan = Plan(passes=passes, min_updates=0, rate=rate)
    return PipeTrainer(nlp, "intent", "intent", settings=settings, plan=plan, rng=random.Random(0))


def shim(nlp: Language) -> SparseNgramsShim:
    found = shim_of(nlp.get_pipe("intent").model)
    assert found is not None
    return found


def test_our_loop_learns_the_examples() -> None:
    nlp = sparse_pipeline()
    reports = list(trainer(nlp).passes(corpus(nlp)))
    assert reports[-1].loss < reports[0].loss
    assert nlp.evaluate(corpus(nlp))["intent_acc"] == 1.0


def test_our_loop_runs_all_passes_and_keeps_the_last_weights() -> None:
    nlp, reports, after = sparse_pipeline(), [], []
    for report in trainer(nlp, passes=10).passes(corpus(nlp)):
        reports.append((report.iteration, report.total))
        after.append(shim(nlp).to_bytes())
    assert reports == [(number, 10) for number in range(1, 11)]
    assert shim(nlp).to_bytes() == after[-1] != after[-2]


def test_our_loop_decreases_the_learn_rate() -> None:
    nlp = sparse_pipeline()
    list(trainer(nlp).passes(corpus(nlp)))
    assert shim(nlp).learn_rate_scale == pytest.approx(1 / 12)
    list(trainer(nlp, rate=0.3).passes(corpus(nlp)))
    assert shim(nlp).learn_rate_scale == pytest.approx(0.3 / 12)


def test_an_invalid_example_changes_no_weights() -> None:
    nlp, clean = sparse_pipeline(), sparse_pipeline()
    broken = example(nlp, "hello and goodbye", "greet", "leave")
    loop = trainer(nlp)
    loop._update([broken], nlp.create_optimizer())
    assert len(loop.skipped) == 1
    assert shim(nlp).to_bytes() == shim(clean).to_bytes()


def write_corpus(path: Path) -> None:
    nlp = spacy.blank("en")
    stored = DocBin()
    for text, label in LABELLED:
        doc = nlp.make_doc(text)
        doc.cats = {label: 1.0}
        stored.add(doc)
    stored.to_disk(path)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_spacys_loop_trains_the_shipped_config(tmp_path: Path) -> None:
    write_corpus(tmp_path / "train.spacy")
    paths = {f"paths.{name}": str(tmp_path / "train.spacy") for name in ("train", "dev")}
    config = load_config(CONFIG, overrides={**paths, "training.logger": {"@loggers": "test.Silent.v1"}})
    spacy.registry.loggers.register("test.Silent.v1", func=silent)
    nlp, _ = spacy_train(init_nlp(config), tmp_path)
    loaded = spacy.load(tmp_path / "model-best")
    for scored in (nlp, loaded):
        scores = scored.evaluate([example(scored, text, label) for text, label in LABELLED])
        assert scores["textcat_acc"] == 1.0


def silent() -> object:
    return lambda nlp, stdout, stderr: (lambda info: None, lambda: None)
