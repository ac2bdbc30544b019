"""Backups of a whole home: made while it is used, restored elsewhere, refused if damaged."""

from __future__ import annotations

import asyncio
import json
import shutil
import tarfile
from pathlib import Path

import pytest

from karen_learner.disk import FULL_BYTES
from karen_learner.errors import InvalidInput, ModelError
from karen_learner.learner import AutonomousLearner
from karen_learner.models.home_archives import restore_home, write_archive
from karen_learner.settings import load_settings
from tests.conftest import ACME, MakeLearner

TEXT = "a flight to red please"


@pytest.fixture
async def archive(acme: AutonomousLearner, tmp_path: Path) -> Path:
    if not acme.settings.store.url:
        await acme.backup(tmp_path / "saved" / "home.tar.gz")
    return tmp_path / "saved" / "home.tar.gz"


pytestmark = pytest.mark.parametrize("store_kind", ["file"])


async def test_a_restored_home_serves_and_has_all_data(
    acme: AutonomousLearner, archive: Path, tmp_path: Path, make_learner: MakeLearner
) -> None:
    home = tmp_path / "elsewhere"
    made = restore_home(archive, home)
    before = await acme.status(ACME)
    assert before.champion is not None
    assert made.champions == {ACME: before.champion.version}
    async with make_learner(home) as restored:
        answer = await restored.analyze(ACME, TEXT)
        assert (answer.intent, answer.model_version) == ("travel", before.champion.version)
        after = await restored.status(ACME)
        assert (after.counts, after.labels) == (before.counts, before.labels)
        assert not after.health.problems
        assert not (await restored.health()).problems
        (entry,) = await restored.history(ACME)
        assert entry.backup_path is None
    assert {path.stat().st_mode & 0o077 for path in (home, *home.rglob("*"))} == {0}


async def test_turns_are_collected_during_a_backup(
    acme: AutonomousLearner, tmp_path: Path, make_learner: MakeLearner
) -> None:
    archive, home = tmp_path / "home.tar.gz", tmp_path / "elsewhere"
    await acme.collect_conversation_metadata(ACME, "before the backup", "ok", "u1")
    made, *_ = await asyncio.gather(
        acme.backup(archive),
        *(acme.collect_conversation_metadata(ACME, f"turn {n}", "ok", "u1") for n in range(20)),
    )
    assert made.files > 3
    assert [path.name for path in tmp_path.glob("*.partial")] == []
    restore_home(archive, home)
    async with make_learner(home) as restored:
        assert 1 <= (await restored.status(ACME)).counts.turns <= 21
    assert (await acme.status(ACME)).counts.turns == 21


async def test_nothing_is_overwritten(acme: AutonomousLearner, archive: Path, taught_home: Path) -> None:
    with pytest.raises(InvalidInput, match="exists"):
        await acme.backup(archive)
    with pytest.raises(InvalidInput, match="not empty"):
        restore_home(archive, taught_home)
    with pytest.raises(InvalidInput, match="no backup at"):
        restore_home(archive.with_name("nothing"), archive.with_name("new"))


async def test_a_dry_run_checks_the_archive(archive: Path, tmp_path: Path) -> None:
    made = restore_home(archive, tmp_path / "new", dry_run=True)
    assert not made.done
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("damage", ["cut", "other content", "missing", "added", "no list", "link"])
async def test_a_damaged_archive_changes_nothing(archive: Path, tmp_path: Path, damage: str) -> None:
    unpacked, bad = tmp_path / "unpacked", tmp_path / "bad.tar.gz"
    if damage == "cut":
        bad.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])
    else:
        shutil.unpack_archive(archive, unpacked, filter="data")
        manifest = next(unpacked.rglob("manifest.json"))
        if damage == "other content":
            manifest.write_text("{}")
        elif damage == "missing":
            manifest.unlink()
        elif damage == "added":
            (unpacked / "added").write_text("x")
        elif damage == "no list":
            (unpacked / "backup.json").unlink()
        else:
            manifest.unlink()
            manifest.symlink_to("/etc/hostname")
        with tarfile.open(bad, "w:gz") as packed:
            for path in sorted(unpacked.rglob("*")):
                if not path.is_dir() or path.is_symlink():
                    packed.add(path, arcname=str(path.relative_to(unpacked)))
    home = tmp_path / "new"
    with pytest.raises(InvalidInput, match="cannot be restored"):
        restore_home(bad, home)
    assert not home.exists()
    assert not list(tmp_path.glob(".new*"))


async def test_an_archive_with_a_damaged_byte_is_refused(archive: Path, tmp_path: Path) -> None:
    content, bad = archive.read_bytes(), tmp_path / "bad.tar.gz"
    for at in range(200, len(content), len(content) // 20):
        bad.write_bytes(content[:at] + bytes([255] * 64) + content[at + 64 :])
        with pytest.raises(InvalidInput, match="cannot be restored"):
            restore_home(bad, tmp_path / "new")
    assert not list(tmp_path.glob("*new*"))


@pytest.mark.parametrize("found", ["no database", "a newer format"])
async def test_an_archive_of_another_kind_is_refused(archive: Path, tmp_path: Path, found: str) -> None:
    unpacked, other = tmp_path / "unpacked", tmp_path / "other.tar.gz"
    shutil.unpack_archive(archive, unpacked, filter="data")
    contents = json.loads((unpacked / "backup.json").read_text())
    if found == "no database":
        (unpacked / "karen.db").unlink()
        del contents["files"]["karen.db"]
    else:
        contents["format"] = 2
    (unpacked / "backup.json").write_text(json.dumps(contents))
    with tarfile.open(other, "w:gz") as packed:
        for path in sorted(unpacked.rglob("*")):
            if path.is_file():
                packed.add(path, arcname=str(path.relative_to(unpacked)))
    with pytest.raises(InvalidInput, match="cannot be restored"):
        restore_home(other, tmp_path / "new")


async def test_a_backup_without_its_snapshot_is_not_written(acme: AutonomousLearner, tmp_path: Path) -> None:
    target = tmp_path / "home.tar.gz"
    with pytest.raises(ModelError, match="repeat it"):
        write_archive(target, acme.layout, tmp_path / "removed.db", {})
    assert not list(tmp_path.glob("home*"))


async def test_folders_that_settings_name_are_restored_there(
    taught_home: Path, make_learner: MakeLearner, tmp_path: Path
) -> None:
    (taught_home / "data").mkdir()
    (taught_home / "models").rename(taught_home / "data" / "versions")
    archive, home = tmp_path / "home.tar.gz", tmp_path / "elsewhere"
    async with make_learner(paths__models="data/versions") as learner:
        await learner.backup(archive)
    restore_home(archive, home)
    async with make_learner(home, paths__models="data/versions") as restored:
        assert (await restored.analyze(ACME, TEXT)).model_version is not None
    assert not (home / "models").exists()


async def test_settings_of_the_former_home_are_left_behind(taught_home: Path, tmp_path: Path) -> None:
    """A restored home uses neither the database nor the folders of the home that it was made from."""
    outside, archive, home = tmp_path / "disk", tmp_path / "home.tar.gz", tmp_path / "elsewhere"
    (taught_home / "models").rename(outside)
    settings = taught_home / "karen.cfg"
    settings.write_text(
        f"[store]\n# the database\nurl = sqlite:///{taught_home}/karen.db\nbusy_timeout_s = 3\n"
        f"[paths]\nmodels = {outside}\ncorpus = ../corpora\nmodel_backups = model_backups\n"
    )
    async with AutonomousLearner(taught_home, settings=settings) as learner:
        await learner.backup(archive)
    notes = restore_home(archive, home, dry_run=True).notes
    made = restore_home(archive, home)
    assert made.notes == notes
    assert [note.split(" ")[1] for note in notes] == ["store.url", "paths.models", "paths.corpus"]
    left = load_settings(home / "karen.cfg", environment={})
    assert (left.store.url, left.store.busy_timeout_s) == ("", 3)
    assert (left.paths.models, left.paths.corpus, left.paths.model_backups) == (
        "models", "corpus", "model_backups",
    )  # fmt: skip
    shutil.rmtree(outside)
    shutil.rmtree(taught_home)
    async with AutonomousLearner(home, settings=home / "karen.cfg") as restored:
        assert not (await restored.analyze(ACME, TEXT)).degraded


async def test_an_empty_folder_becomes_the_home_in_place(archive: Path, tmp_path: Path) -> None:
    """It may be a mount point, which cannot be replaced, with the folder of a new file system."""
    home = tmp_path / "mounted"
    (home / "lost+found").mkdir(parents=True)
    before = home.stat().st_ino
    restore_home(archive, home)
    assert home.stat().st_ino == before
    assert {"karen.db", "models", "model_backups", "lost+found"} <= {path.name for path in home.iterdir()}
    assert not list(home.glob("*.partial")) + list(home.glob(".*.partial"))
    with pytest.raises(InvalidInput, match="not empty"):
        restore_home(archive, home)


async def test_an_archive_that_does_not_fit_on_the_disk_is_refused(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before its content is written: a small archive can hold terabytes of zeros."""
    monkeypatch.setattr("karen_learner.models.backups.free_bytes", lambda _: FULL_BYTES + 50_000)
    with pytest.raises(InvalidInput, match="does not fit on the disk"):
        restore_home(archive, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    assert not list(tmp_path.glob(".new*"))
