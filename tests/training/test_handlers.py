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

from karen_learner.components.textcat.margins import LabelledMargins
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
from karen_learner.training.cache import WorkerCache
from karen_learner.training.handlers import REPORTS, perform, reported, train
from karen_learner.training.prediction import predict
from karen_learner.training.shadow_margins import MIN_CALIBRATION_EXAMPLES
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


async def test_the_report_of_a_shadow_has_its_tasks(
    corpus: Path, spec: PipelineSpec, settings: Settings, examples: list[LabelledText], tmp_path: Path
) -> None:
    await write_lines(corpus / "train.jsonl", examples, held_out=[0] * len(examples))
    cache = WorkerCache()
    for shadow in range(2):
        one = job(corpus, spec, settings, tmp_path / str(shadow), shadow=shadow, stays_in_memory=False)
        report = train(one, lambda _: None, cache=cache)
        assert report.tasks == {"intent": "intent", "sentiment": "sentiment", "entities": "ner"}


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
    await write_lines(corpus / "replay.jsonl", pool, importance_weight=[2.0] * len(pool))
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
        f"{to_line(examples[1])}\n{corrupt}{to_line(examples[7])}\n"
        f"{corrupt}{to_line(examples[8], importance_weight=3.0)}\n"
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
        lines.write(to_line(LabelledText(text="zzz", intent="travel"), importance_weight=weight) + "\n")
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


async def test_all_passes_are_made(
    corpus: Path, spec: PipelineSpec, settings: Settings, examples: list[LabelledText], tmp_path: Path
) -> None:
    await write_lines(corpus / "train.jsonl", examples)
    settings.training.update({"n_iter": 7})
    reports: list[PassReport] = []
    train(job(corpus, spec, settings, tmp_path / "out"), reports.append)
    assert [(one.task, one.iteration) for one in reports] == [
        (task, number) for task in ("intent", "sentiment", "entities") for number in range(1, 8)
    ]
    assert {(one.total, one.shadow) for one in reports} == {(7, None)}


@pytest.mark.parametrize("total", [1, 7, 20, 33, 400])
def test_short_passes_are_reported_together(total: int) -> None:
    passes = [
        PassReport(task="intent", iteration=number, total=total, loss=1 / number, words=3, seconds=0.5)
        for number in range(1, total + 1)
    ]
    reports = list(reported(passes))
    assert len(reports) <= 1 + REPORTS
    assert (reports[0].iteration, reports[-1].iteration) == (1, total)
    assert reports == passes or total > REPORTS
    assert sum(one.words for one in reports) == 3 * total
    assert sum(one.seconds for one in reports) == 0.5 * total


def test_passes_of_many_words_are_reported_throughout() -> None:
    passes = [
        PassReport(task="intent", iteration=number, total=400, loss=0.5, words=200, seconds=0.5)
        for number in range(1, 401)
    ]
    assert [one.iteration for one in reported(passes)] == [1, *range(20, 401, 20)]


# Shadows --------------------------------------------------------------------------------------


async def test_a_shadow_leaves_out_the_lines_that_are_held_out_of_it(
    corpus: Path, spec: PipelineSpec, settings: Settings, examples: list[LabelledText], tmp_path: Path
) -> None:
    """Each shadow lacks another word. A model that has not learned a word does not store its weights."""
    words = ("zig", "zag", "zog")
    odd = [LabelledText(text=f"{word} {word} {word}", intent="travel") for word in words]
    held_out = [*(0 for _ in examples), 0b001, 0b010, 0b110]
    await write_lines(corpus / "train.jsonl", [*examples, *odd], held_out=held_out)
    learned: dict[int | None, set[str]] = {}
    counts: dict[int | None, int] = {}
    for shadow in (None, 0, 1, 2):
        output = tmp_path / f"shadow {shadow}"
        passes: list[PassReport] = []
        report = train(job(corpus, spec, settings, output, shadow=shadow), passes.append)
        counts[shadow] = report.examples["intent"]
        assert {one.shadow for one in passes} == {shadow}
        nlp = spacy.load(output)
        pipe: Any = nlp.get_pipe("intent")
        covered = pipe.margins([nlp.make_doc(word) for word in words]).values.ngram_coverage
        learned[shadow] = {word for word, share in zip(words, covered, strict=True) if share > 0.9}
    assert counts == {None: 15, 0: 14, 1: 13, 2: 14}
    assert learned == {None: set(words), 0: {"zag", "zog"}, 1: {"zig"}, 2: {"zig", "zag"}}


async def test_lines_that_are_left_out_are_not_learned(
    corpus: Path, spec: PipelineSpec, settings: Settings, examples: list[LabelledText], tmp_path: Path
) -> None:
    await write_lines(corpus / "train.jsonl", [*examples, LabelledText(text="zig", intent="travel")])
    left_out = {"train.jsonl": (len(examples),)}
    report = train(job(corpus, spec, settings, tmp_path / "out", left_out=left_out), lambda _: None)
    assert (report.examples["intent"], report.skipped) == (len(examples), 0)


async def test_the_replay_pool_of_a_shadow_leaves_out_held_out_lines(
    corpus: Path, parent: PipelineSpec, settings: Settings, examples: list[LabelledText], tmp_path: Path
) -> None:
    await write_lines(corpus / "train.jsonl", examples[:1], held_out=[0])
    held_out = [0b10 if number % 3 else 0b01 for number in range(len(examples))]
    await write_lines(
        corpus / "replay.jsonl", examples, held_out=held_out, importance_weight=[1.0] * len(examples)
    )
    for shadow, mask in enumerate((0b01, 0b10)):
        one = job(
            corpus, parent, settings, tmp_path / str(shadow), mode="incremental", replay=99, shadow=shadow
        )
        kept = tuple(line for line, held in enumerate(held_out) if not held & mask)
        assert train(one, lambda _: None).replayed == kept


async def test_only_the_served_model_writes_the_spacy_corpus_and_stays_in_memory(
    corpus: Path, spec: PipelineSpec, settings: Settings, examples: list[LabelledText], tmp_path: Path
) -> None:
    await write_lines(corpus / "train.jsonl", examples, held_out=[0] * len(examples))
    cache = WorkerCache()
    perform(job(corpus, spec, settings, tmp_path / "served"), lambda _: None, cache=cache)
    (corpus / "train.spacy").unlink()
    perform(job(corpus, spec, settings, tmp_path / "shadow", shadow=0), lambda _: None, cache=cache)
    assert not (corpus / "train.spacy").exists()
    served = spec.model_copy(update={"path": str(tmp_path / "served"), "tasks": {"intent": "intent"}})
    assert cache.take(served) is not cache.take(served)  # the first one is from memory
    assert (tmp_path / "shadow" / "config.cfg").is_file()


async def test_a_shadow_without_examples_is_saved_without_pipes(
    corpus: Path, spec: PipelineSpec, settings: Settings, examples: list[LabelledText], tmp_path: Path
) -> None:
    await write_lines(corpus / "train.jsonl", examples, held_out=[1] * len(examples))
    report = train(job(corpus, spec, settings, tmp_path / "out", shadow=0), lambda _: None)
    assert report.examples == {}
    await write_lines(tmp_path / "texts.jsonl", examples[:2])
    model = spec.model_copy(update={"path": str(tmp_path / "out"), "tasks": report.tasks})
    job_of_two = PredictJob(tenant_id="acme", models=(model,), texts=tmp_path / "texts.jsonl")
    assert len(predict(job_of_two).predicted) == 2


async def test_a_missing_corpus_is_an_error(spec: PipelineSpec, settings: Settings, tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    with pytest.raises(TrainingError, match=r"nowhere.train\.jsonl does not exist"):
        train(job(nowhere, spec, settings, tmp_path / "out"), lambda _: None)
    assert not nowhere.exists()


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
        list(trainer.passes(_examples(nlp, 8)))


# Predictions ----------------------------------------------------------------------------------


async def test_a_single_model_predicts_every_text(
    parent: PipelineSpec, examples: list[LabelledText], tmp_path: Path
) -> None:
    texts = tmp_path / "texts.jsonl"
    await write_lines(texts, examples, shadow=[number % 3 for number in range(len(examples))])
    report = predict(PredictJob(tenant_id="acme", models=(parent,), texts=texts))
    assert len(report.predicted) == 12
    assert report.predicted[6].row == ("travel", "neutral", ((17, 22, "place"),))
    assert report.ms_per_text > 0
    for one in report.predicted:
        assert all(0.0 < share <= 1.0 for share in one.right if share is not None)
    narrow = parent.model_copy(update={"tasks": {"intent": "intent"}})
    only = predict(PredictJob(tenant_id="acme", models=(narrow,), texts=texts)).predicted[6]
    assert (only.row, only.right[1]) == (("travel", None, None), None)


async def test_each_text_is_predicted_by_its_shadow(
    parent: PipelineSpec, examples: list[LabelledText], tmp_path: Path
) -> None:
    narrow = parent.model_copy(update={"tasks": {"sentiment": "sentiment"}})
    nothing = parent.model_copy(update={"tasks": {}})
    texts, shadows = tmp_path / "texts.jsonl", [0, 1, 1, 0, 2, 0]
    await write_lines(texts, examples[:6], shadow=shadows)
    report = predict(PredictJob(tenant_id="acme", models=(parent, narrow, nothing), texts=texts))
    known = [(one.row[0] is not None, one.row[1] is not None) for one in report.predicted]
    assert known == [{0: (True, True), 1: (False, True), 2: (False, False)}[shadow] for shadow in shadows]


async def test_labels_that_no_model_knows_have_no_probability(parent: PipelineSpec, tmp_path: Path) -> None:
    texts = [
        LabelledText(text="my balance", intent="balance"),
        LabelledText(text="my balance", intent="unknown"),
        LabelledText(text="my balance"),
    ]
    await write_lines(tmp_path / "texts.jsonl", texts)
    report = predict(PredictJob(tenant_id="acme", models=(parent,), texts=tmp_path / "texts.jsonl", gold=2))
    assert [one.right[0] is not None for one in report.predicted] == [True, False, False]


async def test_the_margins_of_shadows_calibrate_the_served_model(
    corpus: Path, parent: PipelineSpec, settings: Settings, examples: list[LabelledText], tmp_path: Path
) -> None:
    judged = (examples * 5)[:MIN_CALIBRATION_EXAMPLES]
    feedback = [LabelledText(text="fly me", intent="travel")] * 7
    texts, folder = tmp_path / "texts.jsonl", tmp_path / "calibration"
    shadows = [number % 2 for number in range(len(judged) + 7)]
    await write_lines(texts, [*judged, *feedback], shadow=shadows)
    predict(
        PredictJob(
            tenant_id="acme", models=(parent, parent), texts=texts, gold=len(judged), calibration=folder
        )
    )
    for task in ("intent", "sentiment"):
        assert len(LabelledMargins.from_file(folder / f"{task}.npz")) == MIN_CALIBRATION_EXAMPLES
    await write_lines(corpus / "train.jsonl", examples)
    for calibration in (None, folder):
        output = tmp_path / f"calibrated by {calibration is not None}"
        train(job(corpus, parent, settings, output, calibration=calibration), lambda _: None)
        pipes: list[Any] = [spacy.load(output).get_pipe(task) for task in ("intent", "sentiment")]
        assert [pipe.calibration is not None for pipe in pipes] == [calibration is not None] * 2


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
    (tmp_path / "texts.jsonl").write_text('{"text": "hello"}\n')
    with pytest.raises(PipelineUnsuitable, match="'textcat', but the pipeline has no pipes"):
        predict(PredictJob(tenant_id="acme", models=(wrong,), texts=tmp_path / "texts.jsonl"))


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
    reports = list(trainer.passes(_examples(nlp, 8)))
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
    reports = list(trainer.passes(_examples(nlp, 8)))
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
