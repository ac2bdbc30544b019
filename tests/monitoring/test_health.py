"""Health of homes and tenants: answers, problems with remedies, disk use, permissions."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from karen_learner.disk import make_private
from karen_learner.learner import AutonomousLearner, create_autonomous_learner
from karen_learner.models.backups import check_version
from karen_learner.models.files import HomeLayout
from karen_learner.monitoring.health import KINDS, disk_use, home_health
from karen_learner.settings import load_settings
from tests.conftest import ACME, MakeLearner

TEXT = "what is my balance red"


async def test_a_live_model_is_healthy_with_its_age(acme: AutonomousLearner) -> None:
    await acme.analyze(ACME, TEXT)
    status = await acme.status(ACME)
    assert status.champion is not None
    health = status.health
    assert (health.served_by, health.version, health.reason) == ("model", status.champion.version, None)
    assert health.healthy
    assert not health.problems
    assert health.since is not None
    assert health.since >= status.champion.created_at
    assert health.model_created_at == status.champion.created_at


async def test_a_model_that_is_not_loaded_yet_is_checked(acme: AutonomousLearner) -> None:
    assert (await acme.status(ACME)).health.served_by == "model"


async def test_a_lost_model_is_unhealthy_before_and_after_a_request(make_learner: MakeLearner) -> None:
    async with make_learner() as learner:
        await _lose(learner)
        before = (await learner.status(ACME)).health
        answer = await learner.analyze(ACME, TEXT)
        after = (await learner.status(ACME)).health
        loaded = (await learner.status(ACME, load=True)).health
    assert answer.degraded
    for health in (before, after, loaded):
        assert not health.healthy
        assert health.served_by == "fallback"
        assert health.since is not None
        assert "missing" in (health.reason or "")
        assert health.last_error
        assert any("repair" in problem.remedy for problem in health.problems)


async def test_a_damaged_model_with_a_backup_is_a_warning_until_it_is_restored(
    make_learner: MakeLearner,
) -> None:
    async with make_learner() as learner:
        champion = (await learner.versions(ACME))[0]
        (champion.path / "meta.json").write_text("{}")
        damaged = (await learner.status(ACME)).health
        restored = (await learner.status(ACME, load=True)).health
    assert damaged.healthy
    assert [problem.severity for problem in damaged.problems] == ["warning"]
    assert restored.served_by == "model"
    assert not restored.problems


async def test_a_model_in_memory_serves_after_its_files_are_lost(make_learner: MakeLearner) -> None:
    async with make_learner() as learner:
        await learner.analyze(ACME, TEXT)
        await _lose(learner)
        health = (await learner.status(ACME)).health
    assert health.served_by == "model"
    assert health.healthy
    assert "memory only" in health.problems[0].message


async def test_a_version_without_backup_is_a_warning(acme: AutonomousLearner) -> None:
    shutil.rmtree(acme.layout.backup_root)
    (problem,) = (await acme.status(ACME)).health.problems
    assert problem.severity == "warning"
    assert "no backup" in problem.message


async def test_disk_use_adds_up(acme: AutonomousLearner) -> None:
    use = disk_use(acme.layout)
    files = [path for path in acme.layout.home.rglob("*") if path.is_file()]
    assert set(use.by_kind) == set(KINDS)
    assert use.total == sum(path.stat().st_size for path in files)
    assert all(use.by_kind[kind] > 0 for kind in ("models", "shadows", "backups", "corpora"))
    assert 0 < use.free <= use.size


@pytest.mark.skipif(os.name != "posix", reason="modes of POSIX")
async def test_a_new_home_is_private(tmp_path: Path) -> None:
    home = tmp_path / "new" / "home"
    async with create_autonomous_learner(home) as learner:
        await learner.ingest(ACME, _gold(tmp_path))
        await learner.export(ACME, home / "out.jsonl")
        assert not (await learner.health()).problems
        paths = [home, *home.rglob("*")]
        assert len(paths) > 2
        assert {path.stat().st_mode & 0o777 for path in paths if path.is_dir()} == {0o700}
        assert {path.stat().st_mode & 0o777 for path in paths if path.is_file()} == {0o600}


@pytest.mark.skipif(os.name != "posix", reason="modes of POSIX")
def test_a_home_that_others_may_enter_is_told(tmp_path: Path) -> None:
    home, outside = tmp_path / "home", tmp_path / "backups"
    for folder in (home, outside):
        folder.mkdir()
        folder.chmod(0o700)
    layout = HomeLayout(home, load_settings(environment={}).paths, model_backups=outside)
    assert not home_health(layout).problems
    home.chmod(0o750)
    outside.chmod(0o755)
    messages = " ".join(problem.message + problem.remedy for problem in home_health(layout).problems)
    assert f"{home} (mode 750)" in messages
    assert f"{outside} (mode 755)" in messages
    assert f"chmod -R go= {home}" in messages


async def test_a_check_names_the_state_of_files_and_backup(acme: AutonomousLearner) -> None:
    (version,) = await acme.versions(ACME)
    assert check_version(version).files == "intact"
    (version.path / "meta.json").write_text("{}")
    damaged = check_version(version)
    assert (damaged.files, damaged.backup) == ("damaged", "present")
    assert damaged.changed_at is not None
    shutil.rmtree(version.path)
    missing = check_version(version)
    assert missing.files == "missing"
    assert str(version.path) in (missing.problem or "")


async def _lose(learner: AutonomousLearner) -> None:
    for version in await learner.versions(ACME):
        shutil.rmtree(version.path)
        if version.backup_path is not None:
            version.backup_path.unlink()


def _gold(folder: Path) -> Path:
    path = folder / "gold.csv"
    path.write_text("text,intent\nwhere is it,search\nfly me,travel\n")
    return path


@pytest.mark.skipif(os.name != "posix", reason="modes of POSIX")
def test_a_private_folder_keeps_the_rights_of_its_owner(tmp_path: Path) -> None:
    home = tmp_path / "my home"
    script, readable = home / "bin" / "run", home / "texts"
    script.parent.mkdir(parents=True)
    for path, mode in ((script, 0o755), (readable, 0o444), (home, 0o755), (script.parent, 0o755)):
        path.touch()
        path.chmod(mode)
    (home / "outside").symlink_to(tmp_path)
    outside = tmp_path.stat().st_mode
    layout = HomeLayout(home, load_settings(environment={}).paths)
    assert [problem.remedy for problem in home_health(layout).problems] == [f"chmod -R go= '{home}'"]
    make_private(home)
    modes = [path.stat().st_mode & 0o777 for path in (home, script.parent, script, readable)]
    assert modes == [0o700, 0o700, 0o700, 0o400]
    assert tmp_path.stat().st_mode == outside
