"""Contract of `TrainingBackend`: train, predict, cross-validate, preload, and a lifecycle."""

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
    await write_lines(folder / "holdout.jsonl", examples[:5])
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
    predicted = await backend.predict(PredictJob(tenant_id="acme", models=(model, model), corpus=corpus))
    assert [len(rows) for rows in predicted.rows] == [5, 5]
    assert predicted.rows[0] == predicted.rows[1]


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
