"""The learner for synchronous code."""

import asyncio
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import spacy

from karen_learner.blocking import (
    AutonomousLearner,
    Blocking,
    BlockingLearner,
    Portal,
    create_autonomous_learner,
    create_spacy_analyzer,
)
from karen_learner.errors import InvalidInput, LearnerClosed, UnknownTenant, WrongEventLoop
from karen_learner.events import TurnCollected
from tests.conftest import ACME, TINY, gold_examples


@pytest.fixture
def blocked(tmp_path: Path) -> Iterator[BlockingLearner]:
    learner = create_autonomous_learner(tmp_path / "home", overrides=TINY)
    yield learner
    learner.close()


def test_a_script_learns_and_analyses(tmp_path: Path) -> None:
    with AutonomousLearner(tmp_path / "home", overrides=TINY) as learner:
        result = learner.bootstrap(ACME, gold_examples())
        assert result.status == "deployed", result.error_message
        assert learner.analyze(ACME, "what is my balance red").intent == "balance"
        turn = learner.collect_conversation_metadata(ACME, "a flight to red", "yes", "ann")
        learner.add_feedback(ACME, turn.turn_id, {"corrected_intent": "travel"})
        assert learner.status(ACME).counts.turns == 1
        assert learner.training_pipeline.worker_pid is not None
        assert [row.status for row in learner.history(ACME)] == ["deployed"]
        assert learner.portal.call(learner.learner.store.total_turns) == 1
        assert learner.export(ACME, tmp_path / "out.jsonl") == len(gold_examples())


def test_errors_are_those_of_the_learner(blocked: BlockingLearner) -> None:
    with pytest.raises(UnknownTenant):
        blocked.status("nobody")
    with pytest.raises(InvalidInput):
        blocked.analyze("", "hello")
    with pytest.raises(TypeError):
        blocked.analyze(ACME)  # type: ignore[call-arg]
    assert blocked.tenants() == []


def test_settings_are_those_of_the_learner(blocked: BlockingLearner) -> None:
    blocked.learning_config.update({"min_data_threshold": 7})
    assert blocked.settings.learning.min_data_threshold == 7
    assert blocked.training_config is blocked.settings.training
    assert blocked.validation_thresholds is blocked.settings.thresholds


def test_threads_share_a_learner(blocked: BlockingLearner) -> None:
    def collect(number: int) -> None:
        blocked.collect_conversation_metadata(
            ACME, f"text {number}", "", f"user {number}", turn_id=str(number)
        )

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(collect, range(100)))
    assert blocked.status(ACME).counts.turns == 100


async def test_code_with_a_running_event_loop_can_use_it(tmp_path: Path) -> None:
    with create_autonomous_learner(tmp_path, overrides=TINY) as learner:  # as in a notebook
        assert learner.tenants() == []


def test_closed_it_raises(tmp_path: Path) -> None:
    learner = create_autonomous_learner(tmp_path, overrides=TINY)
    assert learner.tenants() == []
    learner.close()
    learner.close()
    for call in (learner.tenants, learner.start, learner.training_pipeline.warm_up):
        with pytest.raises(LearnerClosed):
            call()
    unused = create_autonomous_learner(tmp_path, overrides=TINY)
    unused.close()
    with pytest.raises(LearnerClosed):
        unused.tenants()
    assert not [one for one in threading.enumerate() if one.name == "karen-blocking"]


def test_a_call_during_the_close_ends() -> None:
    portal, begun = Portal(), threading.Event()

    async def endless() -> None:
        begun.set()
        await asyncio.Event().wait()

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(portal.call, endless)
        begun.wait()
        portal.close()
        with pytest.raises(LearnerClosed, match="during the call"):
            waiting.result()


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGINT raises KeyboardInterrupt. Programs in the background of a shell ignore it."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, former)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("_number", range(20))  # the interrupt comes at another place each time
def test_an_interrupted_caller_cancels_its_call(_number: int) -> None:
    portal, cancelled = Portal(), threading.Event()

    async def work() -> None:
        try:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    with pytest.raises(KeyboardInterrupt):
        portal.call(work)
    assert cancelled.wait(60)
    portal.close()


def test_a_callback_that_calls_the_learner_is_refused(blocked: BlockingLearner) -> None:
    raised: list[Exception] = []

    def on_event(_: object) -> None:
        for call in (blocked.tenants, blocked.close):
            try:
                call()
            except WrongEventLoop as error:
                raised.append(error)

    blocked.events.subscribe(on_event, to=TurnCollected)
    blocked.collect_conversation_metadata(ACME, "hello", "", "ann")
    blocked.portal.call(blocked.events.drain)
    assert len(raised) == 2
    assert blocked.tenants() == [ACME]


def test_an_analyzer_without_a_learner() -> None:
    with create_spacy_analyzer(spacy.blank("xx"), tasks={}) as analyzer:
        assert isinstance(analyzer, Blocking)
        assert analyzer.analyze("hello there").linguistic_features["tokens"] == 2
        assert len(analyzer.analyze_many(["a", "b"])) == 2
    with pytest.raises(LearnerClosed):
        analyzer.analyze("hello")


SCRIPT = """
import os, sys
from karen_learner.blocking import create_autonomous_learner
learner = create_autonomous_learner(sys.argv[1], overrides={"training.language": "xx"})
print(learner.tenants(), flush=True)
child = os.fork()
try:
    learner.tenants()
except Exception as error:
    print(type(error).__name__, flush=True)
if child:
    os.waitpid(child, 0)
"""


def test_an_unclosed_learner_does_not_keep_the_program_and_a_forked_child_gets_an_error(
    tmp_path: Path,
) -> None:
    done = subprocess.run(
        [sys.executable, "-Wignore", "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True, timeout=300
    )
    assert (done.stdout.splitlines(), done.returncode) == (["[]", "WrongEventLoop"], 0), done.stderr
