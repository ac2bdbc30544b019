"""Training continues from the cache exactly as from disk."""

import shutil
from pathlib import Path

from karen_learner.records.training import PipelineSpec, PredictJob, PreloadJob, TrainJob
from karen_learner.settings import load_settings
from karen_learner.training.cache import WorkerCache, identity_of
from karen_learner.training.handlers import predict, preload, train
from tests.components.text_corpora import LABELLED

SETTINGS = load_settings(overrides={"training.n_iter": 2, "training.min_updates": 0}).training
SHIPPED = Path(__file__).parents[2] / "configs" / "pipeline.cfg"
LABELS = {"intent": ("greet", "leave", "order")}


def corpus(folder: Path) -> Path:
    folder.mkdir()
    lines = "".join(f'{{"text": "{text}", "intent": "{label}"}}\n' for text, label in LABELLED)
    for name in ("train", "texts"):
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    return folder


def job(folder: Path, output: Path, *, parent: Path | None = None) -> TrainJob:
    spec = PipelineSpec(template=SHIPPED)
    if parent is not None:
        spec = spec.model_copy(update={"path": str(parent), "tasks": {"intent": "intent"}})
    return TrainJob(
        tenant_id="acme",
        mode="full" if parent is None else "incremental",
        pipeline=spec, corpus=folder, labels=LABELS, settings=SETTINGS, output=output,
    )  # fmt: skip


def test_continuing_from_memory_gives_the_same_weights_as_continuing_from_disk(tmp_path: Path) -> None:
    folder, cache = corpus(tmp_path / "corpus"), WorkerCache()
    train(job(folder, tmp_path / "staging"), lambda _: None, cache=cache)
    parent = (tmp_path / "staging").rename(tmp_path / "v1")
    train(job(folder, tmp_path / "from-disk", parent=parent), lambda _: None)
    train(job(folder, tmp_path / "from-memory", parent=parent), lambda _: None, cache=cache)
    for part in ("intent/model", "intent/state/weights"):
        assert (tmp_path / "from-memory" / part).read_bytes() == (tmp_path / "from-disk" / part).read_bytes()


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_models_that_share_vocabulary_and_documents_are_those_of_a_new_worker(tmp_path: Path) -> None:
    folder, cache = corpus(tmp_path / "corpus"), WorkerCache()
    lines = (folder / "train.jsonl").read_text(encoding="utf-8").splitlines()
    held_out = [line.replace("}", f', "held_out": {1 << (at % 2)}}}') for at, line in enumerate(lines)]
    (folder / "train.jsonl").write_text("\n".join([*held_out, "no line"]), encoding="utf-8")
    reports = []
    for shadow in (0, 1, None):
        change = {"shadow": shadow, "stays_in_memory": False}
        for name, used in (("shared", cache), ("alone", WorkerCache())):
            one = job(folder, tmp_path / name / str(shadow)).model_copy(update=change)
            reports.append(train(one, lambda _: None, cache=used))
        assert files_of(tmp_path / "shared" / str(shadow)) == files_of(tmp_path / "alone" / str(shadow))
        assert reports[-1] == reports[-2]
        assert reports[-1].skipped == 1
        assert reports[-1].tasks == {"intent": "intent"}
    half = len(LABELLED) // 2
    assert [report.examples["intent"] for report in reports[::2]] == [half, half, len(LABELLED)]


def test_a_changed_corpus_is_read_again(tmp_path: Path) -> None:
    folder, cache = corpus(tmp_path / "corpus"), WorkerCache()
    counts = []
    for shadow in (0, 1):
        change = {"shadow": shadow, "stays_in_memory": False}
        one = job(folder, tmp_path / str(shadow)).model_copy(update=change)
        counts.append(train(one, lambda _: None, cache=cache).examples["intent"])
        lines = (folder / "train.jsonl").read_text(encoding="utf-8").splitlines()[:-1]
        (folder / "train.jsonl").unlink()
        (folder / "train.jsonl").write_text("\n".join(lines), encoding="utf-8")
    assert counts == [len(LABELLED), len(LABELLED) - 1]


def test_another_pipeline_is_loaded_from_disk(tmp_path: Path) -> None:
    folder, cache = corpus(tmp_path / "corpus"), WorkerCache()
    train(job(folder, tmp_path / "v1"), lambda _: None, cache=cache)
    first = cache.take(job(folder, tmp_path / "x", parent=tmp_path / "v1").pipeline)
    cache.keep(first, tmp_path / "v1")
    shutil.copytree(tmp_path / "v1", tmp_path / "copy")
    assert identity_of(tmp_path / "copy") != identity_of(tmp_path / "v1")
    other = cache.take(job(folder, tmp_path / "x", parent=tmp_path / "copy").pipeline)
    assert other is not first
    cache.keep(other, tmp_path / "copy")  # in place of "v1"
    assert cache.take(job(folder, tmp_path / "x", parent=tmp_path / "v1").pipeline) is not first


def test_a_preloaded_pipeline_is_not_loaded_again(tmp_path: Path) -> None:
    folder, cache = corpus(tmp_path / "corpus"), WorkerCache()
    train(job(folder, tmp_path / "v1"), lambda _: None)
    onward = job(folder, tmp_path / "ahead", parent=tmp_path / "v1")
    preload(PreloadJob(tenant_id="acme", pipeline=onward.pipeline), cache=cache)
    shutil.rmtree(tmp_path / "v1" / "intent")
    train(onward, lambda _: None, cache=cache)
    assert (tmp_path / "ahead" / "intent/state/weights").is_file()


def test_the_optimizer_state_of_an_untrained_pipe_is_kept_after_removal_of_its_folder(tmp_path: Path) -> None:
    folder, cache = corpus(tmp_path / "corpus"), WorkerCache()
    train(job(folder, tmp_path / "v1"), lambda _: None)
    pipeline = cache.take(job(folder, tmp_path / "x", parent=tmp_path / "v1").pipeline)  # from the disk
    pipeline.save(tmp_path / "v2")  # a cycle without examples of this task
    cache.keep(pipeline, tmp_path / "v2")
    shutil.rmtree(tmp_path / "v1")
    again = cache.take(job(folder, tmp_path / "x", parent=tmp_path / "v2").pipeline)
    assert again is pipeline
    again.save(tmp_path / "v3")
    state = "intent/state/weights"
    assert (tmp_path / "v3" / state).read_bytes() == (tmp_path / "v2" / state).read_bytes()


def test_outputs_are_cached_for_the_same_texts_only(tmp_path: Path) -> None:
    folder, cache = corpus(tmp_path / "corpus"), WorkerCache()
    report = train(job(folder, tmp_path / "v1"), lambda _: None, cache=cache)
    model = PipelineSpec(path=str(tmp_path / "v1"), tasks=report.tasks, template=SHIPPED)
    prediction = PredictJob(tenant_id="acme", models=(model,), texts=folder / "texts.jsonl")
    rows = predict(prediction, cache=cache).predicted
    assert predict(prediction).predicted == rows
    shutil.move(tmp_path / "v1" / "intent", tmp_path / "away")
    assert predict(prediction, cache=cache).predicted == rows, "the model is not loaded again"
    shutil.move(tmp_path / "away", tmp_path / "v1" / "intent")
    with (folder / "texts.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"text": "hello", "intent": "greet"}\n')
    assert len(predict(prediction, cache=cache).predicted) == len(rows) + 1
