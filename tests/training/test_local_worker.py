"""The worker as a real process: reused, killed, restarted, never orphaned."""

import asyncio
import os
import signal
import subprocess
import sys
from multiprocessing import set_executable
from multiprocessing.spawn import get_executable
from pathlib import Path
from typing import Any

import catalogue
import pytest
from spacy.language import Language

from karen_learner.corpora.lines import write_lines
from karen_learner.errors import LearnerClosed, ModelError, TrainingError, WorkerCrashed, WorkerTimedOut
from karen_learner.records import LabelledText
from karen_learner.records.training import PassReport, PipelineSpec, PredictJob, TrainJob
from karen_learner.settings import Settings
from karen_learner.training import LocalWorker
from karen_learner.training.local_worker import _start_process
from tests.training.conftest import LABELS


@pytest.fixture
def new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker is a new process, not a fork."""
    monkeypatch.setattr("karen_learner.training.local_worker._start_process", _start_process)


@pytest.fixture
async def ready(
    corpus: Path, spec: PipelineSpec, settings: Settings, examples: list[LabelledText], tmp_path: Path
) -> TrainJob:
    await write_lines(corpus / "train.jsonl", examples)
    settings.training.n_iter = 3
    return TrainJob(
        tenant_id="acme",
        mode="full",
        pipeline=spec,
        corpus=corpus,
        labels=LABELS,
        settings=settings.training,
        output=tmp_path / "candidate",
    )


@pytest.mark.usefixtures("new_process")
async def test_one_process_does_all_jobs(ready: TrainJob, tmp_path: Path) -> None:
    passes: list[PassReport] = []
    async with LocalWorker() as worker:
        pid = worker.pid
        report = await worker.train(ready, passes.append)
        second = ready.model_copy(update={"output": tmp_path / "second"})
        order: list[str] = []
        reports = await asyncio.gather(
            *(worker.train(second, lambda _, name=name: order.append(name)) for name in ("one", "two"))  # type: ignore[misc]
        )
        assert worker.pid == pid
    assert report.tasks == reports[0].tasks == reports[1].tasks
    assert len(passes) == 9
    assert order == ["one"] * 9 + ["two"] * 9, "jobs never overlap"
    assert (tmp_path / "second" / "config.cfg").is_file()
    assert worker.pid is None


async def test_a_start_does_not_wait_for_a_job(ready: TrainJob) -> None:
    """Another tenant's gold must be stored while this one trains."""
    started = asyncio.Event()
    endless = ready.model_copy(update={"settings": ready.settings.model_copy(update={"n_iter": 10**7})})
    async with LocalWorker() as worker:
        training = asyncio.create_task(worker.train(endless, lambda _: started.set()))
        await started.wait()
        await worker.start()
        assert not training.done()
        training.cancel()
        with pytest.raises(asyncio.CancelledError):
            await training


async def test_a_preloaded_pipeline_serves_the_next_job(ready: TrainJob, tmp_path: Path) -> None:
    async with LocalWorker() as worker:
        tasks = (await worker.train(ready)).tasks
        champion = ready.pipeline.model_copy(update={"path": str(ready.output), "tasks": tasks})
        onward = ready.model_copy(
            update={"mode": "incremental", "pipeline": champion, "output": tmp_path / "second"}
        )
        worker.preload("acme", champion)
        worker.preload("acme", champion)  # ignored: a job runs already
        await asyncio.sleep(0)
        assert (await worker.train(onward)).tasks == tasks
        worker.preload("acme", champion.model_copy(update={"path": str(tmp_path / "nowhere")}))
        await asyncio.sleep(0)
        await worker.train(onward)  # after a failed preload
        worker.preload("acme", champion)
    worker.preload("acme", champion)
    assert worker.pid is None


async def test_a_killed_worker_fails_its_job_and_the_next_job_starts_a_new_process(ready: TrainJob) -> None:
    endless = ready.model_copy(update={"settings": ready.settings.model_copy(update={"n_iter": 100_000})})
    async with LocalWorker() as worker:

        def kill(_: PassReport) -> None:
            if worker.pid is not None:
                os.kill(worker.pid, signal.SIGKILL)

        with pytest.raises(WorkerCrashed, match="code -9"):
            await worker.train(endless, kill)
        assert (await worker.train(ready)).skipped == 0


async def test_messages_of_a_crashed_worker_are_logged_and_not_raised(
    ready: TrainJob, caplog: pytest.LogCaptureFixture
) -> None:
    async with LocalWorker() as worker:

        def kill(_: PassReport) -> None:
            if worker.pid is not None:  # process 0 is the group of the test itself
                worker._errors.append("my secret")
                os.kill(worker.pid, signal.SIGKILL)

        with pytest.raises(WorkerCrashed) as raised:
            await worker.train(ready, kill)
    assert "my secret" in caplog.text
    assert "secret" not in str(raised.value)


@pytest.mark.usefixtures("new_process")
async def test_a_worker_that_dies_in_a_message_crashes(
    ready: TrainJob, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    dying = (
        "import os, sys; sys.stdin.readline(); os.write(1, b'{\"progress\": nu'); "
        "os.write(2, b'out of memory'); os.kill(os.getpid(), 9)"
    )
    start = asyncio.create_subprocess_exec
    monkeypatch.setattr(
        asyncio,
        "create_subprocess_exec",
        lambda *_, **options: start(sys.executable, "-c", dying, **options),
    )
    async with LocalWorker() as worker:
        with pytest.raises(WorkerCrashed, match="ended with code -9"):
            await worker.train(ready)
    assert "out of memory" in caplog.text


async def test_a_hanging_worker_is_killed_at_the_time_limit(ready: TrainJob, tmp_path: Path) -> None:
    limited = ready.settings.model_copy(update={"time_limit_s": 2.0})
    async with LocalWorker(limited) as worker:
        first = worker.pid
        assert first is not None
        os.kill(first, signal.SIGSTOP)
        with pytest.raises(WorkerTimedOut, match=r"training\.time_limit_s \(2 seconds\).*was killed"):
            await worker.train(ready)
        assert worker.pid is None
        with pytest.raises(ProcessLookupError):
            os.kill(first, 0)
        limited.time_limit_s = 600
        report = await worker.train(ready)
        assert worker.pid not in (None, first)
    assert set(report.tasks) == set(LABELS)


async def _ended(worker: LocalWorker) -> None:
    """Wait until the process of the worker has ended."""
    pid = worker.pid
    assert pid is not None
    while worker.pid is not None or Path(f"/proc/{pid}").exists():
        await asyncio.sleep(0.02)


async def test_an_idle_worker_ends_and_the_next_job_starts_it_again(ready: TrainJob, tmp_path: Path) -> None:
    idle = ready.settings.model_copy(update={"worker_idle_s": 0.1})
    async with LocalWorker(idle) as worker:
        first = worker.pid
        await _ended(worker)
        tasks = (await worker.train(ready)).tasks
        second = worker.pid
        assert second not in (None, first)
        await _ended(worker)
        champion = ready.pipeline.model_copy(update={"path": str(ready.output), "tasks": tasks})
        worker.preload("acme", champion)
        onward = ready.model_copy(
            update={"mode": "incremental", "pipeline": champion, "output": tmp_path / "second"}
        )
        assert (await worker.train(onward)).tasks == tasks
        assert worker.pid not in (None, second)


async def test_a_job_longer_than_the_idle_time_finishes(ready: TrainJob) -> None:
    idle = ready.settings.model_copy(update={"worker_idle_s": 0.001})
    async with LocalWorker(idle) as worker:
        assert set((await worker.train(ready)).tasks) == set(LABELS)
        await asyncio.gather(worker.train(ready), worker.train(ready))
        await _ended(worker)


async def test_a_worker_within_its_idle_time_keeps_its_process(ready: TrainJob) -> None:
    async with LocalWorker(ready.settings) as worker:
        first = worker.pid
        await worker.train(ready)
        await asyncio.sleep(0.2)
        await worker.train(ready)
        assert worker.pid == first


async def test_a_closed_worker_has_no_idle_timer(ready: TrainJob) -> None:
    idle = ready.settings.model_copy(update={"worker_idle_s": 0.05})
    worker = LocalWorker(idle)
    await worker.train(ready)
    await worker.close()
    await asyncio.sleep(0.2)
    assert worker.pid is None
    with pytest.raises(LearnerClosed):
        await worker.train(ready)


async def test_a_cancelled_job_does_not_delay_the_next(ready: TrainJob) -> None:
    endless = ready.model_copy(update={"settings": ready.settings.model_copy(update={"n_iter": 100_000})})
    async with LocalWorker() as worker:
        begun = asyncio.Event()
        task = asyncio.create_task(worker.train(endless, lambda _: begun.set()))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await worker.train(ready)).skipped == 0


@pytest.mark.parametrize("kind", [RuntimeError, TrainingError])
async def test_an_error_of_a_callback_does_not_mix_the_answers_of_two_jobs(
    ready: TrainJob, tmp_path: Path, kind: type[Exception]
) -> None:
    def fail(_: PassReport) -> None:
        raise kind("the callback failed")

    async with LocalWorker() as worker:
        with pytest.raises(kind, match="the callback failed"):
            await worker.train(ready, fail)
        passes: list[PassReport] = []
        await worker.train(ready.model_copy(update={"output": tmp_path / "second"}), passes.append)
    assert len(passes) == 9
    assert (tmp_path / "second" / "config.cfg").is_file()


async def test_errors_of_a_job_keep_their_class(ready: TrainJob, tmp_path: Path) -> None:
    async with LocalWorker() as worker:
        with pytest.raises(TrainingError, match="too few labels"):
            await worker.train(ready.model_copy(update={"labels": {}}))
        nowhere = ready.pipeline.model_copy(update={"path": str(tmp_path / "nowhere")})
        with pytest.raises(ModelError, match="cannot load a spaCy pipeline"):
            await worker.predict(
                PredictJob(tenant_id="acme", models=(nowhere,), texts=ready.corpus / "train.jsonl")
            )
        template = ready.pipeline.model_copy(update={"template": tmp_path / "missing.cfg"})
        with pytest.raises(TrainingError, match="FileNotFoundError"):
            await worker.train(ready.model_copy(update={"pipeline": template}))


async def test_a_closed_worker_raises(ready: TrainJob) -> None:
    worker = LocalWorker()
    await worker.close()
    await worker.close()
    with pytest.raises(LearnerClosed):
        await worker.train(ready)


@pytest.mark.usefixtures("new_process")
async def test_closing_during_the_start_ends_the_new_process(
    ready: TrainJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[asyncio.subprocess.Process] = []
    start = asyncio.create_subprocess_exec
    worker = LocalWorker()

    async def start_then_close(*command: str, **options: Any) -> asyncio.subprocess.Process:
        started.append(await start(*command, **options))
        await worker.close()
        return started[0]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", start_then_close)
    with pytest.raises(LearnerClosed):
        await worker.train(ready)
    assert started[0].returncode is not None
    assert worker.pid is None


def test_no_orphan_is_left_when_the_parent_is_killed() -> None:
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import asyncio\n"
            "from karen_learner.training import LocalWorker\n"
            "async def main():\n"
            "    worker = LocalWorker()\n"
            "    await worker.start()\n"
            "    print(worker.pid, flush=True)\n"
            "    await asyncio.sleep(600)\n"
            "asyncio.run(main())\n",
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    with parent.stdout:
        pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    assert _ends(pid)


def _ends(pid: int) -> bool:
    """Whether the process ends. The time limit is long enough for a loaded machine."""
    from time import sleep

    for _ in range(3000):
        try:
            if " Z " in Path(f"/proc/{pid}/stat").read_text():
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        sleep(0.1)
    return False


@pytest.mark.usefixtures("new_process")
async def test_a_file_of_the_working_directory_replaces_no_module(
    ready: TrainJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "queue.py").write_text("raise RuntimeError('imported from the working directory')")
    monkeypatch.chdir(tmp_path)
    async with LocalWorker() as worker:
        assert (await worker.train(ready)).examples


@pytest.mark.usefixtures("new_process")
async def test_the_worker_imports_the_code_that_settings_name_and_survives_its_output(
    ready: TrainJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noisy = tmp_path / "noisy.py"
    noisy.write_text(
        "import os, sys\nprint('hello')\nos.write(1, b'karen:{}')\nassert sys.stdin.read() == ''\n"
        "from spacy.language import Language\n"
        "@Language.component('noisy')\ndef noisy(doc):\n    print('a text')\n    return doc\n"
    )
    startup = tmp_path / "startup"
    startup.mkdir()
    (startup / "sitecustomize.py").write_text("import os; os.write(1, b'Welcome')")
    monkeypatch.setenv("PYTHONPATH", str(startup))
    settings = ready.settings.model_copy(update={"imports": (str(noisy),)})
    async with LocalWorker(settings) as worker:
        report = await worker.train(ready)
        config = ready.output / "config.cfg"
        config.write_text(
            config.read_text(encoding="utf-8").replace("pipeline = [", 'pipeline = ["noisy",')
            + '\n[components.noisy]\nfactory = "noisy"\n',
            encoding="utf-8",
        )
        model = ready.pipeline.model_copy(update={"path": str(ready.output), "tasks": report.tasks})
        job = PredictJob(tenant_id="acme", models=(model,), texts=ready.corpus / "train.jsonl")
        assert (await worker.predict(job)).predicted
    async with LocalWorker(ready.settings) as worker:
        with pytest.raises(ModelError, match=r"'noisy'.*training\.imports"):
            await worker.predict(job)


async def test_code_that_the_worker_cannot_import_fails_each_job(ready: TrainJob) -> None:
    settings = ready.settings.model_copy(update={"imports": ("no_such_module",)})
    async with LocalWorker(settings) as worker:
        for _ in range(2):
            with pytest.raises(TrainingError, match=r"training\.imports: cannot import 'no_such_module'"):
                await worker.train(ready)


@pytest.mark.usefixtures("new_process")
async def test_the_worker_imports_from_the_path_of_its_parent(
    ready: TrainJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
    (here / "queue.py").write_text("raise RuntimeError('the file of the working directory is imported')")
    (there / "shop_of_parent.py").write_text("")
    monkeypatch.chdir(here)
    monkeypatch.setattr(sys, "path", ["", str(here), str(there), *sys.path])
    settings = ready.settings.model_copy(update={"imports": ("shop_of_parent",)})
    async with LocalWorker(settings) as worker:
        assert set((await worker.train(ready)).tasks) == set(LABELS)


@pytest.mark.usefixtures("new_process")
async def test_a_program_without_a_python_names_the_remedy(
    ready: TrainJob, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = get_executable()
    set_executable(str(tmp_path / "no python"))
    try:
        with pytest.raises(WorkerCrashed, match="cannot be started with"):
            await LocalWorker(ready.settings).start()
    finally:
        set_executable(before)
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    with pytest.raises(WorkerCrashed, match=r"multiprocessing\.set_executable"):
        await LocalWorker(ready.settings).start()


async def test_code_that_is_registered_later_reaches_the_worker(ready: TrainJob) -> None:
    source = (
        "from spacy.language import Language\n@Language.component('late')\ndef late(doc):\n    return doc\n"
    )
    async with LocalWorker(ready.settings) as worker:
        report, first = await worker.train(ready), worker.pid
        config = ready.output / "config.cfg"
        text = config.read_text(encoding="utf-8").replace("pipeline = [", 'pipeline = ["late",')
        config.write_text(text + '\n[components.late]\nfactory = "late"\n', encoding="utf-8")
        model = ready.pipeline.model_copy(update={"path": str(ready.output), "tasks": report.tasks})
        job = PredictJob(tenant_id="acme", models=(model,), texts=ready.corpus / "train.jsonl")
        try:
            exec(source, {"__name__": "__main__", "Language": Language})  # as a cell of a notebook
            assert (await worker.predict(job)).predicted
            second = worker.pid
            await worker.predict(job)
        finally:
            catalogue.REGISTRY.pop(("spacy", "internal_factories", "late"))
            Language._factory_meta.pop("late")
        assert second != first
        assert worker.pid == second


async def test_a_long_line_of_errors_does_not_block_the_worker(
    ready: TrainJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("karen_learner.training.local_worker.MESSAGE_LIMIT", 100_000)
    noisy = tmp_path / "long_line.py"
    noisy.write_text("import sys\nsys.stderr.write('x' * 1_000_000 + '\\n')\nsys.stderr.write('y' * 300_000)")
    settings = ready.settings.model_copy(update={"imports": (str(noisy),)})
    async with LocalWorker(settings) as worker:
        assert (await asyncio.wait_for(worker.train(ready), 60)).examples
