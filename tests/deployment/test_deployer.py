"""Promotion, rollback, backups, hot swap and clean-up."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from karen_learner.errors import (
    DeploymentError,
    DigestMismatch,
    FencedOut,
    ModelError,
    StoreLocked,
    UnknownVersion,
)
from karen_learner.events import ModelDeployed, ModelRolledBack
from karen_learner.memory.leases import hold_files
from karen_learner.models.backups import backup_file, make_backup
from karen_learner.models.files import remove_folder
from karen_learner.models.versions import read_manifest, verify
from karen_learner.records import ModelVersion, Promotion
from karen_learner.training.shadows import read_index, read_judged
from tests.deployment.conftest import folder_of

ACME = "acme"


def version_folders(site: Any) -> list[str]:
    return sorted(path.name for path in site.layout.models(ACME).iterdir() if path.name.startswith("v"))


# Promotion --------------------------------------------------------------------------------------


async def test_a_promoted_candidate_is_sealed_saved_recorded_and_live(site: Any) -> None:
    first = await site.champion()
    version = await site.promote()
    assert await site.champion() == version
    assert version.parent == first.version
    assert version.scores == {"accuracy": 0.5}
    assert verify(version.path, digest=version.digest).counts["new"] == 0
    assert version.backup_path.is_file()
    assert (await site.analyze()).model_version == version.version
    assert [(type(event), event.version, event.previous_version) for event in await site.published()] == [
        (ModelDeployed, version.version, first.version)
    ]


async def test_the_shadows_of_a_version_are_kept_with_their_predictions_and_masks(site: Any) -> None:
    site.masks = {"group:a": 0b01, "person:b": 0b11}
    candidate = await site.candidate()
    version = await site.promote(candidate)
    folder = site.layout.shadows(ACME, version.version)
    index = read_index(folder)
    assert index is not None
    assert (index.folds, len(index.tasks)) == (2, 2)
    assert read_judged(folder, {}) == {one.example_id: one.predicted for one in candidate.judged}
    assert await site.store.masks(ACME, index.generation, ["group:a", "person:b"]) == site.masks
    staging = site.layout.shadow_staging(ACME, candidate.cycle.cycle_id)
    assert not staging.exists()


async def test_shadows_of_other_versions_than_champion_parent_and_anchors_are_removed(site: Any) -> None:
    first = await site.champion()
    site.best = ("intent",)
    await site.store.promote(
        ACME, Promotion(version=first, expected=None, alias="anchor/sentiment"), token=None
    )
    versions = [first, await site.promote()]
    site.best = ()
    versions += [await site.promote() for _ in range(3)]
    await site.deployer.clean_up(ACME)
    anchors = [await site.store.alias(ACME, f"anchor/{task}") for task in ("intent", "sentiment")]
    assert [anchor.version for anchor in anchors] == [versions[1].version, versions[0].version]
    kept = {path.name for path in site.layout.shadows(ACME, "v").parent.iterdir()}
    assert kept == {versions[at].version for at in (0, 1, 3, 4)}


async def test_missing_backups_are_made_by_the_clean_up(site: Any) -> None:
    parent, version = await site.champion(), await site.promote()
    for one in (parent, version):
        one.backup_path.unlink()
    await site.deployer.clean_up(ACME)
    assert parent.backup_path.is_file()
    assert version.backup_path.is_file()


async def test_a_version_serves_though_its_backup_cannot_be_written(
    site: Any, caplog: pytest.LogCaptureFixture
) -> None:
    first = await site.champion()
    remove_folder(first.backup_path.parent)
    first.backup_path.parent.write_text("a file where the folder should be")
    version = await site.promote()
    assert (await site.analyze()).model_version == version.version
    assert "its backup cannot be written" in caplog.text
    first.backup_path.parent.unlink()
    await site.deployer.clean_up(ACME)
    assert version.backup_path.is_file()


async def test_nothing_is_deployed_if_the_champion_changed(site: Any, other_site: Any) -> None:
    late = await site.candidate()
    winner = await other_site.promote()
    with pytest.raises(DeploymentError, match="changed while the candidate was trained"):
        await site.promote(late)
    assert (await site.champion()).version == winner.version
    assert await site.published() == []
    assert len(await site.store.versions(ACME)) == 2
    await site.deployer.clean_up(ACME)
    assert version_folders(site) == sorted([winner.version, winner.parent])


async def test_nothing_is_deployed_under_a_lost_lease(site: Any) -> None:
    first = await site.champion()
    await site.analyze()
    with pytest.raises(FencedOut):
        await site.promote_as(await site.candidate(), token=999)
    assert (await site.champion()).version == first.version
    assert (await site.analyze()).model_version == first.version


async def test_a_candidate_that_cannot_be_loaded_is_not_deployed(site: Any) -> None:
    first = await site.champion()
    broken = await site.candidate()
    (folder_of(broken) / "config.cfg").write_text("[nlp]\nlang = 3\n")
    with pytest.raises(ModelError):
        await site.promote(broken)
    assert (await site.champion()).version == first.version
    assert not (await site.analyze()).degraded


async def test_a_candidate_that_was_changed_after_it_was_loaded_is_not_deployed(site: Any) -> None:
    first, candidate = await site.champion(), await site.candidate()
    async with site.deployer.loading(candidate.trained.candidate) as loading:
        loaded = await loading
        (folder_of(candidate) / "meta.json").write_text("{}")
        with pytest.raises(DigestMismatch, match="changed after it was loaded"):
            await site.deployer.deploy(candidate, loaded)
    await asyncio.sleep(0)
    assert loaded.model.closed
    assert (await site.champion()).version == first.version


async def test_an_analyzer_that_fails_on_a_deployment_does_not_undo_it(
    site: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def fails(version: str, path: Path) -> None:
        raise RuntimeError("not today")

    site.analyzer.on_deployed = fails
    version = await site.promote()
    assert (await site.champion()).version == version.version
    assert len(await site.published()) == 1
    assert "the analyzer failed" in caplog.text


# Rollback ---------------------------------------------------------------------------------------


async def test_rollback_to_the_parent_and_forward_again(site: Any) -> None:
    first, second = await site.champion(), await site.promote()
    assert (await site.rollback.to_version(ACME)).version == first.version
    assert (await site.analyze()).model_version == first.version
    assert (await site.rollback.to_version(ACME, second.version)).version == second.version
    assert (await site.analyze()).model_version == second.version
    assert [type(event) for event in (await site.published())[1:]] == [ModelRolledBack, ModelRolledBack]


async def test_impossible_rollbacks_are_refused(site: Any) -> None:
    first = await site.champion()
    with pytest.raises(UnknownVersion, match="no earlier version"):
        await site.rollback.to_version(ACME)
    for name in ("v9999-deadbeef", "../../etc", "", "x" * 1000):
        with pytest.raises(UnknownVersion, match="no version"):
            await site.rollback.to_version(ACME, name)
    with pytest.raises(UnknownVersion):
        await site.rollback.to_version("nobody")
    with pytest.raises(DeploymentError, match="serves already"):
        await site.rollback.to_version(ACME, first.version)
    assert await site.champion() == first


async def test_rollback_restores_a_damaged_version(site: Any) -> None:
    first = await site.champion()
    await site.promote()
    remove_folder(first.path)
    assert (await site.rollback.to_version(ACME)).version == first.version
    assert verify(first.path, digest=first.digest)


async def test_a_rollback_to_an_unrestorable_version_changes_nothing(site: Any) -> None:
    first, second = await site.champion(), await site.promote()
    remove_folder(first.path)
    first.backup_path.unlink()
    with pytest.raises(ModelError, match="no backup"):
        await site.rollback.to_version(ACME)
    assert (await site.champion()).version == second.version
    assert (await site.analyze()).model_version == second.version


async def test_one_of_two_concurrent_rollbacks_is_refused(site: Any, other_site: Any) -> None:
    first, second = await site.champion(), await site.promote()
    third = await site.promote()
    answers = await asyncio.gather(
        site.rollback.to_version(ACME, first.version),
        other_site.rollback.to_version(ACME, second.version),
        return_exceptions=True,
    )
    done = [answer for answer in answers if isinstance(answer, ModelVersion)]
    assert done
    assert (await site.champion()).version in {version.version for version in done}
    assert (await site.champion()).version != third.version
    assert all(isinstance(answer, (ModelVersion, DeploymentError)) for answer in answers)


async def test_a_rollback_waits_for_a_clean_up_that_removes_files(site: Any) -> None:
    first, second = await site.champion(), await site.promote()
    async with hold_files(site.store, ACME):
        rolling_back = asyncio.create_task(site.rollback.to_version(ACME, first.version))
        await asyncio.sleep(0.2)
        assert (await site.champion()).version == second.version
    assert (await rolling_back).version == first.version


async def test_a_clean_up_waits_for_a_rollback(site: Any) -> None:
    """It keeps the files of the version that the rollback has made the champion."""
    first, second = await site.champion(), await site.promote()
    third = await site.promote()
    site.settings.learning.update({"backup_retention_days": 0})
    async with hold_files(site.store, ACME):
        cleaning = asyncio.create_task(site.deployer.clean_up(ACME))
        await asyncio.sleep(0.2)
        assert await site.store.promote(ACME, Promotion(version=first, expected=third.version), token=None)
    await cleaning
    assert version_folders(site) == [first.version], "the champion, which has no parent"
    assert not second.path.exists()


async def test_files_that_stay_in_use_are_an_error(site: Any) -> None:
    async with hold_files(site.store, ACME):
        with pytest.raises(StoreLocked, match=r"in use by .* repeat"):
            async with hold_files(site.store, ACME, patience_s=0):
                pass


async def test_a_crash_after_the_switch_leaves_a_rollback_in_the_journal(
    site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = await site.champion(), await site.promote()

    def crash(*_: object) -> None:
        raise SystemError("the process dies here")

    monkeypatch.setattr(site.champions, "_install", crash)
    with pytest.raises(SystemError):
        await site.rollback.to_version(ACME)
    assert (await site.champion()).version == first.version
    (row, *_) = await site.store.cycles(ACME, limit=1)
    assert (row.result.status, row.result.previous_version) == ("rolled_back", second.version)


# Backups ----------------------------------------------------------------------------------------


async def test_a_known_backup_becomes_champion_again(site: Any, tmp_path: Path) -> None:
    first = await site.champion()
    await site.promote()
    safe = shutil.copy(first.backup_path, tmp_path / "kept elsewhere.tar.gz")
    remove_folder(first.path)
    first.backup_path.unlink()
    assert (await site.rollback.to_backup(Path(safe))).version == first.version
    assert verify(first.path, digest=first.digest)
    assert (await site.analyze()).model_version == first.version


async def test_a_damaged_folder_is_restored_from_the_named_backup(site: Any, tmp_path: Path) -> None:
    first = await site.champion()
    await site.promote()
    safe = Path(shutil.copy(first.backup_path, tmp_path / "kept.tar.gz"))
    first.backup_path.unlink()
    (first.path / "config.cfg").write_text("damaged")
    assert (await site.rollback.to_backup(safe)).version == first.version
    assert verify(first.path, digest=first.digest)


async def test_foreign_archives_are_refused(site: Any, tmp_path: Path) -> None:
    first, second = await site.champion(), await site.promote()

    def forged(name: str, **changes: Any) -> Path:
        folder = tmp_path / name / first.version
        shutil.copytree(first.path, folder)
        (folder / "meta.json").write_text("{}")
        manifest = read_manifest(folder).model_copy(update=changes)
        (folder / "manifest.json").write_text(manifest.model_dump_json())
        return make_backup(folder, backup_file(folder, tmp_path / name / "out"))

    (tmp_path / "text.tar.gz").write_text("Dear diary")
    refused: list[tuple[Path, type[Exception]]] = [
        (forged("another tenant", tenant_id="globex"), UnknownVersion),
        (forged("another version", version="v0077-x"), UnknownVersion),
        (forged("another digest", digest="0" * 64), DigestMismatch),
        (tmp_path / "none.tar.gz", UnknownVersion),
        (tmp_path / "text.tar.gz", ModelError),
    ]
    for path, kind in refused:
        with pytest.raises(kind):
            await site.rollback.to_backup(path)
    remove_folder(first.path)
    first.backup_path.unlink()
    with pytest.raises(DigestMismatch):
        await site.rollback.to_backup(forged_from_nothing(second, first, tmp_path))
    assert not first.path.exists()
    assert (await site.champion()).version == second.version


def forged_from_nothing(source: ModelVersion, claimed: ModelVersion, tmp_path: Path) -> Path:
    """Other files with the manifest and the digest of a stored version."""
    folder = tmp_path / "claimed" / claimed.version
    shutil.copytree(source.path, folder)
    manifest = read_manifest(folder).model_copy(update={"version": claimed.version, "digest": claimed.digest})
    (folder / "manifest.json").write_text(manifest.model_dump_json())
    return make_backup(folder, backup_file(folder, tmp_path / "claimed" / "out"))


# Hot swap ---------------------------------------------------------------------------------------


async def test_no_request_fails_or_waits_while_models_are_swapped(site: Any) -> None:
    """Each request is answered by a version that was live at its time."""
    first = await site.champion()
    await site.analyze()
    known = {first.version}
    answers, swapping = [], True

    async def user() -> None:
        while swapping:
            answers.append(await site.analyze())
            await asyncio.sleep(0.005)

    users = [asyncio.create_task(user()) for _ in range(4)]
    for _ in range(3):
        known.add((await site.promote()).version)
        while not answers or answers[-1].model_version != max(known):
            await asyncio.sleep(0.005)
        await site.rollback.to_version(ACME)
        await site.rollback.to_version(ACME, max(known))
    swapping = False
    await asyncio.gather(*users)
    assert {answer.model_version for answer in answers} <= known
    assert len({answer.model_version for answer in answers}) == 4
    assert not any(answer.degraded for answer in answers)
    assert {answer.intent for answer in answers} == {"travel"}


async def test_a_request_is_answered_while_a_version_loads(site: Any) -> None:
    """Loading blocks no request, even in an endless deployment."""
    await site.analyze()
    first, second = await site.champion(), await site.candidate()
    load, loading = site.deployer.load, asyncio.Event()

    async def endless(*candidate: Any) -> Any:
        await load(*candidate)
        loading.set()
        await asyncio.Event().wait()

    site.deployer.load = endless
    deployment = asyncio.create_task(site.promote(second))
    await loading.wait()
    assert (await site.analyze()).model_version == first.version
    deployment.cancel()
    await asyncio.gather(deployment, return_exceptions=True)
    assert (await site.champion()).version == first.version


# Cleaning up ------------------------------------------------------------------------------------


async def test_clean_up_removes_files_without_a_row(site: Any) -> None:
    first = await site.champion()
    folder, backups = site.layout.models(ACME), site.layout.backups(ACME)
    shutil.copytree(first.path, folder / "v0099-orphaned")
    for name, age_s in (("crashed", 7_200), ("in use", 60)):
        restoring = folder / ".restoring" / name
        restoring.mkdir(parents=True)
        os.utime(restoring, (time.time() - age_s,) * 2)
    abandoned = await site.candidate()
    (backups / "v0099-orphaned.tar.gz.partial").write_bytes(b"half")
    await site.deployer.clean_up(ACME)
    assert version_folders(site) == [first.version]
    assert not folder_of(abandoned).exists()
    assert [path.name for path in (folder / ".restoring").iterdir()] == ["in use"]
    assert [path.name for path in backups.iterdir()] == [f"{first.version}.tar.gz"]
    assert not (await site.analyze()).degraded


async def test_retention_keeps_the_champion_and_its_parent(site: Any) -> None:
    versions = [await site.champion(), *[await site.promote() for _ in range(3)]]
    for version in versions:
        for path in (version.path, version.backup_path):
            os.utime(path, (0, 0))
    await site.deployer.clean_up(ACME)
    kept = sorted(version.version for version in versions[-2:])
    assert version_folders(site) == kept
    assert sorted(p.name for p in site.layout.backups(ACME).iterdir()) == [f"{v}.tar.gz" for v in kept]
    listed = await site.registry.versions(ACME)
    assert [one.version for one in listed] == [one.version for one in reversed(versions)]
    assert [one.removed for one in listed] == [False, False, True, True]
    assert (await site.rollback.to_version(ACME)).version == versions[-2].version
    await site.deployer.clean_up(ACME)
    with pytest.raises(ModelError, match="no backup"):
        await site.rollback.to_version(ACME)
