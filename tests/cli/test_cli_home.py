"""`backup`, `restore` and `prune`."""

import os
import time

from karen_learner.errors import ExitCode
from tests.cli.conftest import TENANT, Cli


def test_a_home_is_saved_and_restored(cli: Cli) -> None:
    archive = cli.home.parent / "saved.tar.gz"
    archive.unlink(missing_ok=True)
    made = cli.json("backup", archive)
    assert list(made["champions"]) == [TENANT]
    assert cli("backup", archive).exit_code == ExitCode.ERROR
    other = Cli(cli.home.parent / "restored")
    assert other.json("restore", archive, "--dry-run")["done"] is False
    assert not other.home.exists()
    assert other.json("restore", archive)["done"] is True
    assert "billing" in other("analyze", TENANT, "send me my bill").stdout
    assert other("status", TENANT).exit_code == 0
    assert other("restore", archive).exit_code == ExitCode.ERROR
    archive.unlink()


def test_prune_shows_then_removes_files_beyond_retention(cli: Cli) -> None:
    corpora = [path for path in cli.home.glob("corpus/*/*") if path.is_dir()]
    assert corpora
    for path in corpora:
        os.utime(path, (time.time() - 40 * 86_400,) * 2)
    planned = cli.json("prune", TENANT, "--dry-run")
    assert planned["done"] is False
    assert {one["kind"] for one in planned["removed"]} == {"corpora"}
    assert all(path.is_dir() for path in corpora)
    assert "older than 30 days" in cli("prune", "--dry-run").stdout
    done = cli.json("prune")
    assert (done["done"], done["bytes"]) == (True, planned["bytes"])
    assert not any(path.exists() for path in corpora)
    assert cli.json("prune")["removed"] == []
    assert cli("status", TENANT).exit_code == 0


def test_prune_by_size_keeps_the_live_version_and_its_parent(cli: Cli) -> None:
    done = cli.json("prune", "--set", "learning.retention_bytes=1")
    assert done["done"]
    assert [one["removed"] for one in cli.json("versions", TENANT)] == [False, False]
    assert cli.json("status", TENANT)["health"]["problems"] == []
