import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from karen_learner.cli import app

TENANT = "telecom"
FAST = {
    "training.language": "xx",  # its tokenizer loads fast
    "training.n_iter": 10,
    "training.continuing_n_iter": 10,
    "training.min_updates": 0,
    "training.learn_rate": 0.01,
    "training.continuing_rate": 1.0,
    "training.dropout": 0.0,
    "learning.full_growth": 0,
    "learning.refit_below": 0,
    "training.validation_split": 0.5,
}
"""Short training that separates texts with distinct words. Two shadows judge."""
BILLS = ("where is", "explain", "send me", "print", "i lost", "check", "why so high is", "who pays", "show",
         "correct", "resend", "i do not understand")  # fmt: skip
LINES = ("down is", "broken is", "slow is", "gone is", "repair", "restart", "no signal from", "test",
         "dead is", "red light on", "unstable is", "offline is")  # fmt: skip


HELLOS = ("hello", "good morning", "hi", "good evening", "hey", "good day", "greetings", "welcome", "howdy",
          "hello again", "morning", "evening")  # fmt: skip


def corpus() -> list[dict[str, Any]]:
    """Two intents with distinct words, twelve texts each."""
    bills = [{"text": f"{words} my invoice bill", "intent": "billing"} for words in BILLS]
    lines = [{"text": f"{words} the wifi router", "intent": "outage"} for words in LINES]
    return bills + lines


def more() -> list[dict[str, Any]]:
    """A third intent, unknown to the first model."""
    return [{"text": f"{words} dear friend", "intent": "greeting"} for words in HELLOS]


def write_lines(path: Path, lines: list[Any]) -> Path:
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def fast() -> tuple[str, ...]:
    """Options that make the result of training deterministic."""
    return tuple(word for name, value in FAST.items() for word in ("--set", f"{name}={value}"))


class Cli:
    """Calls commands on one home, in this process."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def __call__(self, *words: str | Path, input: str | bytes | None = None) -> Any:
        arguments = ["--home", str(self.home), *map(str, words)]
        return CliRunner(env={"KAREN_HOME": None}).invoke(app, arguments, input=input)

    def json(self, *words: str | Path, code: int = 0, input: str | None = None) -> Any:
        """The single JSON document on standard output."""
        result = self(*words, "--json", input=input)
        assert result.exit_code == code, result.output
        return json.loads(result.stdout)


@dataclass(frozen=True)
class TrainedHome:
    """A home with two versions, the results of its commands, and a copy for the next test.

    Twelve gold texts of each of three intents judge. The first model knows two intents, the second all three.
    """

    home: Path
    snapshot: Path
    examples: Path
    bootstrap: Any
    learn: Any


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, fast: tuple[str, ...]) -> TrainedHome:
    folder = tmp_path_factory.mktemp("cli")
    examples = write_lines(folder / "examples.jsonl", [*corpus(), {"text": "no label at all", "shoe": 3}])
    cli = Cli(folder / "home")
    bootstrap = cli("bootstrap", TENANT, examples, *fast)
    assert cli("ingest", TENANT, write_lines(folder / "more.jsonl", more())).exit_code == 0
    learn = cli("learn", TENANT, "--force", "--mode", "full", "--reason", "greetings", *fast)
    shutil.copytree(cli.home, folder / "snapshot")
    return TrainedHome(cli.home, folder / "snapshot", examples, bootstrap, learn)


@pytest.fixture
def cli(trained: TrainedHome) -> Cli:
    """The trained home, restored in place: the store contains absolute paths of versions."""
    shutil.rmtree(trained.home)
    shutil.copytree(trained.snapshot, trained.home)
    return Cli(trained.home)


@pytest.fixture
def empty(tmp_path: Path) -> Cli:
    """Commands on a home that does not exist."""
    return Cli(tmp_path / "home")


@pytest.fixture
def files_of() -> Callable[[Path], dict[str, bytes]]:
    """The content of every file below a folder, without the database: opening it writes to it."""

    def read(folder: Path) -> dict[str, bytes]:
        found = (
            path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("karen.db")
        )
        return {str(path.relative_to(folder)): path.read_bytes() for path in found}

    return read
