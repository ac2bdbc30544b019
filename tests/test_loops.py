"""Objects that are used from another event loop, another thread or a forked process."""

import asyncio
import inspect
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import spacy

from karen_learner.analysis import create_spacy_analyzer
from karen_learner.concurrency import LoopBinding
from karen_learner.errors import WrongEventLoop
from karen_learner.learner import AutonomousLearner
from karen_learner.memory import open_store
from karen_learner.models.live import LiveModel
from karen_learner.pipeline import IncrementalTrainingPipeline
from karen_learner.settings import load_settings
from karen_learner.training import LocalWorker
from tests.conftest import MakeLearner

LIMIT_S = 60
ARGUMENTS: dict[str, Any] = {
    "examples": [{"text": "hello", "intent": "greeting"}],
    "source": "examples.jsonl",
    "texts": ["hello"],
    "example_ids": ["1"],
    "feedback": {"satisfaction_score": 0.5},
}


def public_coroutines(kind: type) -> list[str]:
    return [
        name
        for name, member in inspect.getmembers(kind, inspect.iscoroutinefunction)
        if not name.startswith("_") or name in ("__aenter__", "__aexit__")
    ]


def call(obj: object, name: str) -> Coroutine[Any, Any, object]:
    """A call with a value for each required parameter."""
    method = getattr(obj, name)
    parameters = inspect.signature(method).parameters.values()
    required = [
        one.name for one in parameters if one.default is one.empty and one.kind is not one.VAR_POSITIONAL
    ]
    coroutine: Coroutine[Any, Any, object] = method(
        **{name: ARGUMENTS.get(name, "acme") for name in required}
    )
    return coroutine


def in_other_loop(make: Callable[[], Coroutine[Any, Any, object]]) -> object:
    """The result of a coroutine in a new event loop of another thread."""

    async def bounded() -> object:
        return await asyncio.wait_for(make(), LIMIT_S)

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, bounded()).result()


async def test_every_method_of_a_learner_refuses_another_loop(acme: AutonomousLearner) -> None:
    for obj in (acme, acme.training_pipeline):
        for name in public_coroutines(type(obj)):
            with pytest.raises(WrongEventLoop, match="belongs to another event loop"):
                in_other_loop(lambda obj=obj, name=name: call(obj, name))  # type: ignore[misc]
    assert len(public_coroutines(AutonomousLearner)) > 20
    assert len(public_coroutines(IncrementalTrainingPipeline)) > 3
    assert (await acme.status("acme")).champion, "the learner still works in its own loop"


async def test_store_and_worker_refuse_another_loop(tmp_path: Path) -> None:
    settings = load_settings()
    async with open_store(tmp_path / "karen.db", settings.store) as store, LocalWorker() as worker:
        for method in (
            store.start,
            store.tenants,
            store.total_turns,
            store.close,
            worker.start,
            worker.close,
        ):
            with pytest.raises(WrongEventLoop, match="belongs to another event loop"):
                in_other_loop(method)
        assert await store.tenants() == []


def test_a_loop_that_has_ended_is_told_with_the_remedy() -> None:
    binding = LoopBinding("a thing")

    async def check() -> None:
        binding.check()

    asyncio.run(check())
    with pytest.raises(WrongEventLoop, match=r"loop that has ended: .*karen_learner\.blocking"):
        asyncio.run(check())


def test_a_failed_start_does_not_bind_the_learner(make_learner: MakeLearner, tmp_path: Path) -> None:
    (tmp_path / "home").write_text("no folder")
    learner = make_learner(tmp_path / "home")
    with pytest.raises(Exception, match="cannot be created"):
        asyncio.run(learner.tenants())
    (tmp_path / "home").unlink()

    async def use() -> None:
        async with learner:
            assert set(await learner.tenants()) <= {"acme"}, "on a server the homes share a database"

    asyncio.run(use())


@pytest.mark.parametrize("named", [False, True])
def test_an_analyzer_serves_several_event_loops_at_once(named: bool, tmp_path: Path) -> None:
    nlp = spacy.blank("xx")
    nlp.to_disk(tmp_path / "model")
    analyzer = create_spacy_analyzer(tmp_path / "model" if named else nlp, tasks={})
    barrier = threading.Barrier(4)

    async def use(word: str) -> list[int | float | bool | str]:
        barrier.wait()
        found = await asyncio.gather(*(analyzer.analyze(f"{word} " * n) for n in range(1, 20)))
        return [analysis.linguistic_features["tokens"] for analysis in found]

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda word: asyncio.run(use(word)), "abcd"))
    analyzer.close()
    assert answers == [list(range(1, 20))] * 4
    assert len(analyzer._queues) <= 4, "queues of ended loops are dropped"


FORK = """
import asyncio, os, signal, sys
from karen_learner import create_autonomous_learner, create_spacy_analyzer
import spacy

async def main():
    analyzer = create_spacy_analyzer(spacy.blank("xx"), tasks={})
    await analyzer.analyze("warm up")
    learner = create_autonomous_learner(sys.argv[1], overrides={"training.language": "xx"})
    await learner.tenants()
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        try:
            asyncio.run(analyzer.analyze("hello"))
            for method in (learner.tenants, learner.close, learner.store.tenants):
                try:
                    asyncio.run(method())
                except Exception as error:
                    print(type(error).__name__, "before this process was forked" in str(error), flush=True)
            fresh = create_autonomous_learner(sys.argv[1], spacy_analyzer=analyzer)
            async def use():
                async with fresh:
                    print((await fresh.analyze("acme", "hello")).linguistic_features["tokens"], flush=True)
            asyncio.run(use())
            os._exit(0)
        except BaseException as error:
            print("failed:", repr(error), flush=True)
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(await learner.tenants())
    await learner.close()
    sys.exit(code)

asyncio.run(main())
"""


def test_a_forked_child_answers_or_gets_an_error(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-Wignore", "-c", FORK, str(tmp_path)], capture_output=True, text=True, timeout=300
    )
    assert done.stdout.splitlines() == ["WrongEventLoop True"] * 3 + ["1", "[]"], done.stderr
    assert done.returncode == 0


async def test_a_model_that_was_busy_at_the_fork_is_refused() -> None:
    model = LiveModel(spacy.blank("xx"), tasks={})
    await model.run(lambda _: model.renew_after_fork())
    with pytest.raises(WrongEventLoop, match="analysing texts while this process was forked"):
        await model.run(len)
    model.renew_after_fork()
    model.close()


async def test_a_binding_can_be_released() -> None:
    binding = LoopBinding("a thing")
    binding.check()
    binding.check()

    async def check() -> None:
        binding.check()

    with pytest.raises(WrongEventLoop, match="a thing belongs to another event loop"):
        in_other_loop(check)
    binding.release()
    in_other_loop(check)
