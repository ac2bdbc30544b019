"""Handlers of jobs, in this process."""

import math
from collections import Counter
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import spacy
from spacy.language import Language
from spacy.tokens import DocBin
from thinc.api import Optimizer

from karen_learner.corpora.lines import to_line, write_lines
from karen_learner.errors import PipelineUnsuitable, TrainingDiverged, TrainingError
from karen_learner.records import LabelledText
from karen_learner.records.training import (
    PassReport,
    PipelineSpec,
    PredictJob,
    TrainJob,
    TrainReport,
)
from karen_learner.settings import Settings, shipped_configs
from karen_learner.training.handlers import MIN_CALIBRATION_EXAMPLES, predict, train
from karen_learner.training.trainer import PipeTrainer, plan_of
from tests.training.conftest import LABELS


def job(corpus: Path, spec: PipelineSpec, settings: Settings, output: Path, **changes: object) -> TrainJob:
    fields = {
        "tenant_id": "acme",
        "mode": "full",
        "pipeline": spec,
        "corpus": corpus,
        "labels": LABELS,
        **changes,
    }
    return TrainJob(settings=settings.training, output=output, **fields)


@pytest.fixture
async def trained(
    corpus: Path, spec: PipelineSpec, settings: Settings, examples: list[LabelledText], tmp_path: Path
) -> tuple[TrainReport, Path, list[PassReport]]:
    passes: list[PassReport] = []
    await write_lines(corpus / "train.jsonl", examples)
    await write_lines(corpus / "dev.jsonl", examples[:2])
    output = tmp_path / "candidate"
    return train(job(corpus, spec, settings, output), passes.append), output, passes


async def test_all_three_tasks_are_learned(trained: tuple[TrainReport, Path, list[PassReport]]) -> None:
    report, output, passes = trained
    assert report.tasks == {"intent": "intent", "sentiment": "sentiment", "entities": "ner"}
    assert report.examples == dict.fromkeys(report.tasks, 12)
    assert Counter(report.task for report in passes).keys() == set(report.tasks)
    doc = spacy.load(output)("i want to fly to paris")
    assert doc.cats["travel"] > 0.5
    assert [span.text for span in doc.ents] == ["paris"]


async def test_a_saved_model_holds_no_words_of_training_texts(
    trained: tuple[TrainReport, Path, list[PassReport]],
) -> None:
    strings = spacy.load(trained[1]).vocab.strings
    assert "place" in strings
    assert "furious" not in strings
    assert "berlin" not in strings


async def test_the_same_data_gives_the_same_model(
    corpus: Path, spec: PipelineSpec, settings: Settings, examples: list[LabelledText], tmp_path: Path
) -> None:
    await write_lines(corpus / "train.jsonl", examples)
    texts = [example.text for example in examples]
    answers = []
    for name in ("one", "two"):
        train(job(corpus, spec, settings, tmp_path / name), lambda _: None)
        answers.append([doc.cats for doc in spacy.load(tmp_path / name).pipe(texts)])
    assert answers[0] == answers[1]


async def test_an_incremental_job_continues_and_adds_labels(
    trained: tuple[TrainReport, Path, list[PassReport]],
    corpus: Path,
    spec: PipelineSpec,
    settings: Settings,
    examples: list[LabelledText],
    tmp_path: Path,
) -> None:
    report, output, _ = trained
    new = [
        LabelledText(text=f"one {dish} please", intent="order") for dish in ("pizza", "soup", "salad", "cake")
    ]
    await write_lines(corpus / "train.jsonl", [*new, *examples])
    parent = spec.model_copy(update={"path": str(output), "tasks": report.tasks})
    labels = {**LABELS, "intent": ("balance", "order", "travel")}
    continued = job(corpus, parent, settings, tmp_path / "next", mode="incremental", labels=labels)
    assert train(continued, lambda _: None).examples["intent"] == 16
    nlp = spacy.load(tmp_path / "next")
    assert nlp("one soup please").cats["order"] > 0.5
    assert nlp("what is my balance").cats["balance"] > 0.5


async def test_corrupt_lines_are_skipped_and_counted(
    corpus: Path, spec: PipelineSpec, settings: Settings, examples: list[LabelledText], tmp_path: Path
) -> None:
    await write_lines(corpus / "train.jsonl", examples)
    with (corpus / "train.jsonl").open("a") as file:
        file.write('{"text": "cut o\n{"text": "to paris", "entities": [[3, 6, "place"]]}\n')
    report = train(job(corpus, spec, settings, tmp_path / "out"), lambda _: None)
    assert report.skipped == 2
    assert "line 13" in report.skipped_reasons[0]


@pytest.fixture
def parent(trained: tuple[TrainReport, Path, list[PassReport]], spec: PipelineSpec) -> PipelineSpec:
    """The parent of an incremental job."""
    report, output, _ = trained
    return spec.model_copy(update={"path": str(output), "tasks": report.tasks})


async def test_each_pipe_replays_up_to_the_budget(
    corpus: Path, parent: PipelineSpec, settings: Settings, examples: list[LabelledText], tmp_path: Path
) -> None:
    new = [LabelledText(text="my balance once more", intent="balance")]
    only_intent = [LabelledText(text=f"fly to town {n}", intent="travel") for n in range(30)]
    pool = [*examples, *only_intent]
    await write_lines(corpus / "train.jsonl", new)
    await write_lines(corpus / "replay.jsonl", pool, importance_weights=[2.0] * len(pool))
    continued = job(corpus, parent, settings, tmp_path / "next", mode="incremental", replay=5)
    report = train(continued, lambda _: None)
    assert report.examples == {
        "intent": 1 + 5, "sentiment": 5, "entities": 5,
    }  # fmt: skip
    assert 5 <= len(report.replayed) <= 15
    assert list(report.replayed) == sorted(set(report.replayed))
    docs = list(DocBin().from_disk(corpus / "train.spacy").get_docs(spacy.blank("en").vocab))
    assert [doc.text for doc in docs] == [one.text for one in (*new, *(pool[n] for n in report.replayed))]
    assert not any(doc.user_data for doc in docs)
    assert train(continued, lambda _: None).replayed == report.replayed


async def test_corrupt_lines_of_the_pool_do_not_shift_line_numbers(
    corpus: Path, parent: PipelineSpec, settings: Settings, examples: list[LabelledText], tmp_path: Path
) -> None:
    await write_lines(corpus / "train.jsonl", examples[:1])
    corrupt = '{"text": "cut o\n{"text": "to paris", "entities": [[3, 6, "place"]]}\n'
    (corpus / "replay.jsonl").write_text(
        f"{to_line(examples[1])}\n{corrupt}{to_line(examples[7])}\n{corrupt}{to_line(examples[8], 3.0)}\n"
    )
    continued = job(corpus, parent, settings, tmp_path / "next", mode="incremental", replay=100)
    report = train(continued, lambda _: None)
    assert report.replayed == (0, 3, 6)
    assert [reason.partition(":")[0] for reason in report.skipped_reasons] == [
        f"replay.jsonl line {number}" for number in (2, 3, 5, 6)
    ]


@pytest.mark.parametrize(("budget", "pool"), [(0, 12), (5, 0)])
async def test_nothing_is_replayed_without_a_budget_or_a_pool(
    corpus: Path, parent: PipelineSpec, settings: Settings, examples: list[LabelledText], tmp_path: Path,
    budget: int, pool: int,
) -> None:  # fmt: skip
    await write_lines(corpus / "train.jsonl", examples[:3])
    await write_lines(corpus / "replay.jsonl", examples[:pool])
    continued = job(corpus, parent, settings, tmp_path / "next", mode="incremental", replay=budget)
    report = train(continued, lambda _: None)
    assert report.replayed == ()
    assert set(report.examples.values()) == {3}


@pytest.mark.parametrize("file", ["replay.jsonl", "train.jsonl"])
@pytest.mark.parametrize(("weight", "intent"), [(30.0, "travel"), (1 / 30, "balance")])
async def test_the_importance_weight_of_a_line_scales_its_loss(
    corpus: Path, parent: PipelineSpec, settings: Settings, tmp_path: Path,
    file: str, weight: float, intent: str,
) -> None:  # fmt: skip
    """The same text has two labels: the model learns the label of the line with the higher weight."""
    (corpus / "train.jsonl").write_text(to_line(LabelledText(text="zzz", intent="balance")) + "\n")
    with (corpus / file).open("a") as lines:
        lines.write(to_line(LabelledText(text="zzz", intent="travel"), weight) + "\n")
    train(job(corpus, parent, settings, tmp_path / "next", mode="incremental", replay=9), lambda _: None)
    cats = spacy.load(tmp_path / "next")("zzz").cats
    assert max(("balance", "travel"), key=lambda label: cats[label]) == intent


async def test_too_few_labels_are_an_error(
    corpus: Path, spec: PipelineSpec, settings: Settings, tmp_path: Path
) -> None:
    await write_lines(corpus / "train.jsonl", [LabelledText(text="hello", intent="greet")])
    only = job(corpus, spec, settings, tmp_path / "out", labels={"intent": ("greet",)})
    with pytest.raises(TrainingError, match="too few labels"):
        train(only, lambda _: None)


@pytest.mark.parametrize("passes", [1, 2, 3])
async def test_dev_is_scored_only_with_more_passes_than_patience(
    passes: int,
    corpus: Path,
    spec: PipelineSpec,
    settings: Settings,
    examples: list[LabelledText],
    tmp_path: Path,
) -> None:
    await write_lines(corpus / "train.jsonl", examples)
    await write_lines(corpus / "dev.jsonl", examples[:2])
    settings.training.update({"n_iter": passes, "patience": 2})
    reports: list[PassReport] = []
    train(job(corpus, spec, settings, tmp_path / "out"), reports.append)
    assert {one.score is not None for one in reports} == {passes > 2}
    assert spacy.load(tmp_path / "out")("i want to fly to paris").cats


async def test_a_missing_corpus_is_an_error(spec: PipelineSpec, settings: Settings, tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    with pytest.raises(TrainingError, match=r"nowhere.train\.jsonl does not exist"):
        train(job(nowhere, spec, settings, tmp_path / "out"), lambda _: None)
    assert not nowhere.exists()


async def test_scores_are_calibrated_on_held_out_examples(
    corpus: Path, spec: PipelineSpec, settings: Settings, examples: list[LabelledText], tmp_path: Path
) -> None:
    held = [example for example in examples * 5 if example.intent is not None][:MIN_CALIBRATION_EXAMPLES]
    await write_lines(corpus / "train.jsonl", examples)
    await write_lines(corpus / "dev.jsonl", held)
    train(job(corpus, spec, settings, tmp_path / "out"), lambda _: None)
    pipe: Any = spacy.load(tmp_path / "out").get_pipe("intent")
    assert pipe.calibration is not None


@pytest.mark.parametrize("loss", [math.nan, math.inf, 1e6])
async def test_divergence_is_an_error(
    corpus: Path,
    settings: Settings,
    examples: list[LabelledText],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    loss: float,
) -> None:
    """The test sets the loss, because the effect of a far too high learn rate depends on the processor."""
    learn, updates = PipeTrainer._step, count(1)

    def step(trainer: PipeTrainer, batch: list, optimizer: Optimizer) -> float:
        real = learn(trainer, batch, optimizer)
        return real if next(updates) <= 3 else loss  # three updates a pass

    monkeypatch.setattr(PipeTrainer, "_step", step)
    await write_lines(corpus / "train.jsonl", examples)
    spec = PipelineSpec(template=shipped_configs() / "stock.cfg")  # our pipes use another rate
    with pytest.raises(TrainingDiverged, match=r"loss of .* is .*: lower training\.learn_rate"):
        train(job(corpus, spec, settings, tmp_path / "out"), lambda _: None)


def test_weights_that_are_not_finite_are_an_error(settings: Settings) -> None:
    nlp = shared_pipeline()
    nlp.replace_listeners("tok2vec", "textcat", ["model.tok2vec"])
    trainer = _trainer(nlp, settings, NanTrainer)
    with pytest.raises(
        TrainingDiverged, match=r"weights of intent are not finite: lower training\.learn_rate"
    ):
        list(trainer.passes(_examples(nlp, 8), ()))


async def test_both_models_predict_every_holdout_text(
    trained: tuple[TrainReport, Path, list[PassReport]],
    corpus: Path,
    spec: PipelineSpec,
    examples: list[LabelledText],
) -> None:
    report, output, _ = trained
    await write_lines(corpus / "holdout.jsonl", examples)
    model = spec.model_copy(update={"path": str(output), "tasks": report.tasks})
    narrow = spec.model_copy(update={"path": str(output), "tasks": {"intent": "intent"}})
    rows = predict(PredictJob(tenant_id="acme", models=(model, narrow), corpus=corpus)).rows
    assert [len(part) for part in rows] == [12, 12]
    assert rows[0][6] == ("travel", "neutral", ((17, 22, "place"),))
    assert rows[1][6] == ("travel", None, None)


async def test_with_a_shared_embedding_only_the_trained_pipe_changes(
    corpus: Path, spec: PipelineSpec, settings: Settings, examples: list[LabelledText], tmp_path: Path
) -> None:
    shared = shared_pipeline()
    shared.to_disk(tmp_path / "shared")
    await write_lines(
        corpus / "train.jsonl", [example.model_copy(update={"entities": None}) for example in examples]
    )
    mine = spec.model_copy(
        update={"path": str(tmp_path / "shared"), "tasks": {"intent": "textcat", "entities": "ner"}}
    )
    texts = [example.text for example in examples]
    before = [span.text for doc in shared.pipe(texts) for span in doc.ents]
    train(job(corpus, mine, settings, tmp_path / "out", labels={"intent": LABELS["intent"]}), lambda _: None)
    taught = spacy.load(tmp_path / "out")
    assert taught("what is my balance").cats["balance"] > 0.5
    assert [span.text for doc in taught.pipe(texts) for span in doc.ents] == before


def shared_pipeline() -> Language:
    """Stock pipes that listen to one shared tok2vec."""
    from spacy.training import Example
    from thinc.api import Config

    nlp = spacy.blank("en")
    nlp.add_pipe("tok2vec")
    listener = {"@architectures": "spacy.Tok2VecListener.v1", "width": 96, "upstream": "*"}
    config = Config(nlp.get_factory_meta("ner").default_config)
    nlp.add_pipe("ner", config={"model": {**config["model"], "tok2vec": listener}})
    nlp.add_pipe(
        "textcat",
        config={
            "model": {
                "@architectures": "spacy.TextCatReduce.v1",
                "exclusive_classes": True,
                "use_reduce_first": False,
                "use_reduce_last": False,
                "use_reduce_max": False,
                "use_reduce_mean": True,
                "tok2vec": listener,
            }
        },
    )
    doc = nlp.make_doc("fly to paris")
    gold = {"cats": {"balance": 0.0, "travel": 1.0}, "entities": [(7, 12, "place")]}
    other = {"cats": {"balance": 1.0, "travel": 0.0}, "entities": []}
    sample = [Example.from_dict(doc, gold), Example.from_dict(nlp.make_doc("my balance"), other)]
    optimizer = nlp.initialize(lambda: sample)
    for _ in range(5):
        nlp.update(sample, sgd=optimizer)
    return nlp


def test_a_task_with_an_unknown_pipe_is_an_error(tmp_path: Path, spec: PipelineSpec) -> None:
    spacy.blank("en").to_disk(tmp_path / "blank")
    wrong = spec.model_copy(update={"path": str(tmp_path / "blank"), "tasks": {"intent": "textcat"}})
    (tmp_path / "holdout.jsonl").write_text('{"text": "hello"}\n')
    with pytest.raises(PipelineUnsuitable, match="'textcat', but the pipeline has no pipes"):
        predict(PredictJob(tenant_id="acme", models=(wrong,), corpus=tmp_path))


class LimitedMemoryTrainer(PipeTrainer):
    """A trainer on a machine where only batches of `fits` examples fit into memory."""

    fits = 2
    sizes: list[int]

    def _step(self, batch: list, optimizer: object) -> float:
        self.sizes.append(len(batch))
        if len(batch) > self.fits:
            raise MemoryError
        return super()._step(batch, optimizer)


def test_the_batch_is_halved_out_of_memory(settings: Settings) -> None:
    nlp = shared_pipeline()
    nlp.replace_listeners("tok2vec", "textcat", ["model.tok2vec"])
    trainer = _trainer(nlp, settings, LimitedMemoryTrainer)
    trainer.sizes = []
    reports = list(trainer.passes(_examples(nlp, 8), ()))
    assert trainer.sizes[:4] == [4, 2, 2, 2]
    assert max(trainer.sizes[1:]) == 2
    assert reports[0].words == 16
    assert trainer.skipped == []


class FailingTrainer(PipeTrainer):
    """A trainer that raises an error for one of the texts."""

    def _step(self, batch: list, optimizer: object) -> float:
        if any(example.x.text == "word 3" for example in batch):
            raise ValueError("unusable text")
        return super()._step(batch, optimizer)


class NanTrainer(PipeTrainer):
    """A trainer that sets one weight to NaN in each step and returns finite losses."""

    def _step(self, batch: list, optimizer: object) -> float:
        super()._step(batch, optimizer)
        node = next(node for node in self._pipe.model.walk() if "W" in node.param_names)
        node.get_param("W").flat[0] = math.nan
        return 1.0


def test_an_example_that_breaks_the_update_is_skipped_once(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    nlp = shared_pipeline()
    nlp.replace_listeners("tok2vec", "textcat", ["model.tok2vec"])
    trainer = _trainer(nlp, settings, FailingTrainer)
    reports = list(trainer.passes(_examples(nlp, 8), ()))
    assert trainer.skipped == ["intent: ValueError"]
    assert caplog.messages.count("intent skips an example: ValueError: unusable text") == 1
    assert [report.words for report in reports[:2]] == [16, 14]


def _trainer(nlp: Language, settings: Settings, kind: type[PipeTrainer]) -> PipeTrainer:
    import random

    return kind(
        nlp,
        "intent",
        "textcat",
        settings=settings.training,
        plan=plan_of(settings.training, mode="incremental", continues=False),
        rng=random.Random(0),
    )


def _examples(nlp: Language, count: int) -> list:
    from spacy.training import Example

    cats = {"balance": 1.0, "travel": 0.0}
    return [Example.from_dict(nlp.make_doc(f"word {n}"), {"cats": cats}) for n in range(count)]
