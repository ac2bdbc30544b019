"""The examples run and print the documented results."""

import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(name: str, *arguments: str) -> str:
    """The output of an example."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_has_a_test() -> None:
    tested = {
        "autonomous_learner_demo.py",
        "chat_orchestrator.py",
        "existing_pipeline.py",
        "scheduled_learning.py",
    }
    assert {path.name for path in EXAMPLES.glob("*.py")} == tested


def test_the_demo_and_scheduled_learning_run(tmp_path: Path) -> None:
    printed = run("autonomous_learner_demo.py", str(tmp_path / "home"))
    assert "'degraded': True" in printed
    assert "deployed: v0001-" in printed
    assert "correction needed: True" in printed
    assert "rejected: v000" in printed
    assert "curated examples in learned.jsonl" in printed
    scheduled = run("scheduled_learning.py", str(tmp_path / "home"), "--rounds", "1")
    assert "flower-shop: " in scheduled
    assert "round 1: " in scheduled


def test_the_chat_orchestrator_runs(tmp_path: Path) -> None:
    printed = run("chat_orchestrator.py", str(tmp_path / "home"))
    assert "bot:  That is 49 euros." in printed
    assert "bot:  Bring it in, we will have a look." in printed
    assert "2 turns stored, 2 with feedback" in printed


def test_the_existing_pipeline_runs(tmp_path: Path) -> None:
    printed = run("existing_pipeline.py", str(tmp_path / "home"))
    assert "by en_pipeline-0.0.0" in printed
    assert "deployed; after: weather ['athens'] by v0001-" in printed
