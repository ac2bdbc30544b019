"""The short form of `benchmarks/crash.py`: three times `kill -9`, nothing lost."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "crash.py"


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
def test_no_turn_is_lost_to_kill_9(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, "--kills", "3", "--seed", "7", "--home", tmp_path / "home", "--json"],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["kills"] == 3
    assert figures["turns"] > 0
    assert figures["lost_turns"] == figures["without_champion"] == figures["orphans"] == 0
    assert figures["unfinished"] == figures["leftovers"] == 0
