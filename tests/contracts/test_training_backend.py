"""Contract of `TrainingBackend`: train, predict, preload, and a lifecycle."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from karen_learner.contracts import TrainingBackend
from karen_learner.corpora.lines import write_lines
from karen_learner.errors import LearnerClosed, TrainingError
from karen_learner.records import LabelledText
from karen_learner.records.training import PassReport, PipelineSpec, PredictJob, TrainJob
from karen_learner.settings import load_settings
from karen_learner.training import LocalWorker
from tests.conftest import gold_examples

SETTINGS = load_settings(
    overrides={"training.n_iter": 2, "training.min_updates": 0, "training.learn_rate": 0.02}, environment={}
).training
SPEC = PipelineSpec(template=Path(__file__).parents[1] / "tiny.cfg")
LABELS = {"intent": ("balance", "greeting", "travel"), "sentiment": ("negative", "positive")}

IMPLEMENTATIONS: list[Callable[[], TrainingBackend]] = [lambda: LocalWorker(SETTINGS)]


@pytest.fixture(params=IMPLEMENTATIONS)
async def backend(request: pytest.FixtureRequest) -> AsyncIterator[TrainingBackend]:
    made: TrainingBackend = request.param()
    yield made
    await made.close()


@pytest.fixture
async def corpus(tmp_path: Path) -> Path:
    folder, examples = tmp_path / "corpus", [LabelledText.model_validate(one) for one in gold_examples()]
    await write_lines(folder / "train.jsonl", examples)
    await write_lines(folder / "texts.jsonl", examples[:5])
    return folder


def job(corpus: Path, tenant_id: str) -> TrainJob:
    output = corpus.parent / f"candidate of {tenant_id}"
    return TrainJob(
        tenant_id=tenant_id, mode="full", pipeline=SPEC, corpus=corpus, labels=LABELS, settings=SETTINGS,
        output=output,
    )  # fmt: skip


async def test_a_candidate_is_trained_with_progress_and_predicts(
    backend: TrainingBackend, corpus: Path
) -> None:
    passes: list[PassReport] = []
    training = job(corpus, "acme")
    report = await backend.train(training, passes.append)
    assert set(report.tasks) == {one.task for one in passes} == {"intent", "sentiment"}
    model = SPEC.model_copy(update={"path": str(training.output), "tasks": report.tasks})
    backend.preload("acme", model)
    one = PredictJob(tenant_id="acme", models=(model,), texts=corpus / "texts.jsonl", gold=5)
    predicted = await backend.predict(one)
    assert len(predicted.predicted) == 5
    assert (await backend.predict(one)).predicted == predicted.predicted


async def test_shadows_are_trained_and_predict_their_texts(backend: TrainingBackend, corpus: Path) -> None:
    examples = [LabelledText.model_validate(one) for one in gold_examples()]
    held_out = [1 << number % 2 for number in range(len(examples))]
    await write_lines(corpus / "train.jsonl", examples, held_out=held_out)
    await write_lines(
        corpus / "texts.jsonl", examples, shadow=[number % 2 for number in range(len(examples))]
    )
    models = []
    for shadow in range(2):
        passes: list[PassReport] = []
        output = corpus.parent / f"shadow {shadow}"
        one = job(corpus, "acme").model_copy(update={"shadow": shadow, "output": output})
        report = await backend.train(one, passes.append)
        assert {each.shadow for each in passes} == {shadow}
        assert report.examples["intent"] == sum(not mask >> shadow & 1 for mask in held_out)
        models.append(SPEC.model_copy(update={"path": str(output), "tasks": report.tasks}))
    folder = corpus.parent / "calibration"
    asked = PredictJob(
        tenant_id="acme",
        models=tuple(models),
        texts=corpus / "texts.jsonl",
        gold=len(examples),
        calibration=folder,
    )
    assert len((await backend.predict(asked)).predicted) == len(examples)
    calibrated = job(corpus, "acme").model_copy(update={"calibration": folder})
    assert (await backend.train(calibrated)).tasks == models[0].tasks


async def test_jobs_of_two_tenants_do_not_mix(backend: TrainingBackend, corpus: Path) -> None:
    jobs = [job(corpus, tenant_id) for tenant_id in ("acme", "globex")]
    reports = await asyncio.gather(*(backend.train(one) for one in jobs))
    assert reports[0].tasks == reports[1].tasks
    assert all((one.output / "config.cfg").is_file() for one in jobs)


async def test_a_failed_job_raises_and_the_next_one_runs(
    backend: TrainingBackend, corpus: Path, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError):
        await backend.train(job(tmp_path / "missing", "acme"))
    assert (await backend.train(job(corpus, "acme"))).tasks


async def test_starting_and_closing_are_idempotent_and_a_closed_backend_refuses_jobs(
    backend: TrainingBackend, corpus: Path
) -> None:
    await backend.start()
    await backend.start()
    await backend.close()
    await backend.close()
    assert backend.pid is None
    with pytest.raises(LearnerClosed):
        await backend.train(job(corpus, "acme"))
