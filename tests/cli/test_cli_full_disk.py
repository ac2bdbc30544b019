"""Commands on a full and on a read-only file system: live models serve, and the journal is written."""

import json
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.cli.conftest import TENANT, TrainedHome

Reports = dict[str, tuple[int, str, str]]
"""Exit code, output and messages by name of the command."""
SCRIPT = """
    import json, shutil, subprocess, sys
    from contextlib import suppress
    from pathlib import Path
    from typer.testing import CliRunner
    from karen_learner.cli import app

    place, snapshot, options = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=60m", "tmpfs", place], check=True)
    home, filler = place / "home", place / "filler"
    shutil.copytree(snapshot, home)
    reports = {}

    def run(name, *words):
        done = CliRunner().invoke(app, ["--home", str(home), *words])
        reports[name] = [done.exit_code, done.stdout, done.stderr]

    run("before", "status", "telecom")
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while file.write(b"x" * 4096):
            pass
    run("full analyze", "analyze", "telecom", "send me my bill")
    run("full status", "status", "telecom", "--json")
    run("full learn", "learn", "telecom", "--mode", "full", "--force", *options)
    run("full rollback", "rollback", "telecom", "--yes")
    filler.unlink()
    run("after", "history", "telecom", "--json")
    run("again", "status", "telecom")
    staging = next(home.glob("models/*/v*")).parent / ".staging" / "crashed"
    staging.mkdir(parents=True)
    with suppress(OSError), (staging / "weights").open("wb", buffering=0) as file:
        while file.write(b"x" * 4096):
            pass
    run("crashed", "status", "telecom")
    reports["staging"] = [len(list(staging.parent.glob("*"))), "", ""]
    subprocess.run(["mount", "-o", "remount,ro", place], check=True)
    run("read-only analyze", "analyze", "telecom", "send me my bill")
    run("read-only learn", "learn", "telecom")
    print(json.dumps(reports))
"""


@pytest.fixture(scope="module")
def reports(trained: TrainedHome, fast: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Reports:
    """Exit code, output and messages of each command, in a mount namespace of its own."""
    folder = tmp_path_factory.mktemp("full")
    script, place = folder / "script.py", folder / "disk"
    place.mkdir()
    script.write_text(textwrap.dedent(SCRIPT))
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "true"], check=False).returncode:
        pytest.skip("this system allows no mount namespace")
    command = ["unshare", "-rm", sys.executable, script, place, trained.snapshot, json.dumps(fast)]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root, timeout=300)
    assert done.returncode == 0, done.stderr
    found: Reports = json.loads(done.stdout.splitlines()[-1])
    return found


def test_the_live_model_answers(reports: Reports) -> None:
    for disk in ("full", "read-only"):
        code, out, err = reports[f"{disk} analyze"]
        assert code == 0, err
        assert "billing" in out
        assert "opened to read only" in err


def test_status_is_unhealthy_and_names_the_free_space(reports: Reports) -> None:
    assert reports["before"][0] == 0
    code, out, _ = reports["full status"]
    assert code == 7
    messages = [problem["message"] for problem in json.loads(out)["home_problems"]]
    assert any("are free at" in message for message in messages)
    assert reports["again"][0] == 0


def test_a_cycle_fails_before_its_training_and_is_journalled(
    reports: Reports,
) -> None:
    code, out, _ = reports["full learn"]
    assert code == 5
    assert "the disk is full" in out
    assert "prune" in out
    entries = json.loads(reports["after"][1])
    assert [entry["status"] for entry in entries[:2]] == ["rolled_back", "failed"]


def test_a_rollback_is_possible_on_a_full_disk(reports: Reports) -> None:
    code, out, err = reports["full rollback"]
    assert code == 0, err
    assert f"is live for '{TENANT}'" in out


def test_a_cycle_on_a_read_only_disk_is_an_error(reports: Reports) -> None:
    code, _, err = reports["read-only learn"]
    assert code == 1
    assert "read only" in err


def test_the_candidate_of_a_crashed_cycle_does_not_keep_the_disk_full(reports: Reports) -> None:
    code, _, err = reports["crashed"]
    assert code == 0, err
    assert "can be written again" in err
    assert reports["staging"][0] == 0
