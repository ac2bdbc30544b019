"""Fixtures: a home with a small model, created once a session and copied for each test."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")  # before numpy is imported
os.environ.pop("COLUMNS", None)  # readline sets it in the workers of xdist, and tables honour it

from spacy.util import fix_random_seed

from karen_learner.learner import AutonomousLearner, create_autonomous_learner
from tests.databases import SERVER, SHARED, a_database, create_tables, drop_from_server, make_on_server
from tests.forked_workers import WorkerForks
from tests.greenlets import trace_greenlets_as_threads
from tests.homes import Homes, TrainedHome

trace_greenlets_as_threads()

settings.register_profile("karen", deadline=None)  # no test asserts times
settings.register_profile("karen-ci", deadline=None, max_examples=40)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "karen"))

ACME = "acme"
TINY = {
    "training.pipeline": str(Path(__file__).parent / "tiny.cfg"),
    "training.language": "xx",  # its tokenizer loads fast
    "training.n_iter": 4,
    "training.continuing_n_iter": 4,
    "training.min_updates": 0,
    "training.learn_rate": 0.02,
    "training.continuing_rate": 1.0,
    "learning.min_data_threshold": 10,
    "learning.full_growth": 0,
    "learning.refit_below": 0,
    "training.validation_split": 0.5,  # two shadows
}
PHRASES = {
    "balance": "what is my balance {}",
    "travel": "a flight to {} please",
    "greeting": "good morning {} friend",
}
WORDS = ("red", "blue", "green", "grey", "pink", "gold", "black", "white", "brown", "cyan",
         "coral", "olive", "amber", "lilac", "ivory")  # fmt: skip

MakeLearner = Callable[..., AutonomousLearner]


@pytest.fixture(autouse=True)
def seeded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test starts with the same random numbers and ids of turns, in any order."""
    fix_random_seed(0)
    numbers = itertools.count(1)
    for module in ("collection.turns", "curation.gold"):  # the draw of an example depends on its turn
        monkeypatch.setattr(f"karen_learner.{module}.new_id", lambda: f"{next(numbers):032x}")


@pytest.fixture(autouse=True, scope="session")
def forked_workers() -> Iterator[None]:
    """Training workers of this process are forks of a process that has loaded spaCy."""
    forks = WorkerForks()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("karen_learner.training.local_worker._start_process", forks.start)
        yield
    forks.close()


def gold_examples() -> list[dict[str, Any]]:
    """Three intents with fifteen short texts each; every second text has a sentiment."""
    return [
        {"text": phrase.format(word), "intent": intent}
        | ({"sentiment": "positive" if number % 4 else "negative"} if number % 2 == 0 else {})
        for intent, phrase in PHRASES.items()
        for number, word in enumerate(WORDS)
    ]


async def teach(home: Path) -> None:
    async with create_autonomous_learner(home, overrides=TINY) as learner:
        result = await learner.bootstrap(ACME, gold_examples())
        assert result.status == "deployed", result.error_message


@pytest.fixture(params=SHARED)
def store_kind(request: pytest.FixtureRequest) -> str:
    """Kind of the store of a test's learners."""
    return str(request.param)


@pytest.fixture(scope="session")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Homes]:
    made = Homes(tmp_path_factory)
    yield made
    made.drop()


@pytest.fixture(scope="session")
def migrated() -> Iterator[str]:
    """URL of a database with all tables and no rows, for copies. Without a server, it is empty."""
    if not SERVER:
        yield ""
        return
    url = asyncio.run(make_on_server())
    asyncio.run(create_tables(url))
    yield url
    asyncio.run(drop_from_server(url))


@pytest.fixture
def taught_once(homes: Homes, store_kind: str) -> TrainedHome:
    """The home of the session. Tests use copies."""
    return homes.trained("taught", store_kind, teach)


@pytest.fixture
async def taught_home(
    taught_once: TrainedHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Path]:
    """A copy of the home with the tenant `acme` and one version."""
    async with taught_once.copied(tmp_path / "taught-home", monkeypatch) as home:
        yield home


@pytest.fixture
def make_learner(taught_home: Path) -> MakeLearner:
    """Creates learners of this or another home, not started. Keywords are overrides."""

    def make(home: Path | None = None, **overrides: Any) -> AutonomousLearner:
        named = {name.replace("__", "."): value for name, value in overrides.items()}
        return create_autonomous_learner(home or taught_home, overrides={**TINY, **named})

    return make


@pytest.fixture
async def acme(make_learner: MakeLearner) -> AsyncIterator[AutonomousLearner]:
    """A started learner of the home."""
    async with make_learner() as learner:
        yield learner


@pytest.fixture(params=SHARED)
async def shared(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Path | str]:
    """A new database that several stores, and several processes, may open."""
    async with a_database(request.param, tmp_path) as place:
        yield place
