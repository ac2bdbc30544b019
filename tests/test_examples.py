"""The examples run and print the documented results."""

import re
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
        "autonomous_retraining_example.py",
        "chat_orchestrator.py",
        "existing_pipeline.py",
        "scheduled_learning.py",
        "self_improving_agent.py",
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
    assert "bot:  That is 49 euros. [spacy]" in printed
    assert "(intent: broken" in printed
    assert "3 turns stored, 3 with feedback" in printed


def test_the_existing_pipeline_runs(tmp_path: Path) -> None:
    printed = run("existing_pipeline.py", str(tmp_path / "home"))
    assert "by en_pipeline-0.0.0" in printed
    assert "deployed; after: weather ['athens'] by v0001-" in printed


def test_the_autonomous_retraining_runs(tmp_path: Path) -> None:
    printed = run("autonomous_retraining_example.py", str(tmp_path / "models"))
    assert "good phase: 90% of 60 answers are right" in printed
    assert "degradation: 65% of 180 answers are right" in printed
    assert "alert (warning): " in printed
    assert "autonomous retraining: incremental, 100 events" in printed
    assert "manual retraining: full, 100 events, Manual trigger" in printed
    assert "retrainings: 2" in printed


def test_the_self_improving_agent_learns(tmp_path: Path) -> None:
    printed = run("self_improving_agent.py", "--tasks", "600")
    gain = re.search(r"gain (\d+)%", printed)
    assert gain is not None
    assert int(gain[1]) >= 20
    fixed, learning = (
        sum(map(int, re.findall(r": (\d+)", line.partition("errors left: ")[2])))
        for line in printed.splitlines()
        if "errors left" in line
    )
    assert learning <= fixed / 2
