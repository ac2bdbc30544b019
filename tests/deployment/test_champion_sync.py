"""Champion sync: loading, damage, changes by other processes, announcements."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cachetools import TTLCache

from karen_learner.errors import ModelError, StoreReadOnly
from karen_learner.events import ModelUnloaded
from karen_learner.learner import AutonomousLearner
from karen_learner.models.files import folder_digest, remove_folder
from karen_learner.models.live import LiveModel
from karen_learner.models.versions import verify
from karen_learner.records import PROVISIONAL, ModelVersion, Promotion

ACME = "acme"


def damage(version: ModelVersion) -> None:
    weights = version.path / "intent" / "model"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")


def unload(site: Any) -> None:
    """Unload the model by installing those of other tenants."""
    models = site.analyzer.models
    for number in range(site.settings.analysis.live_models):
        models.install(f"tenant {number}", LiveModel.blank("en"))
    assert models.peek(ACME) is None


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


# Loading ----------------------------------------------------------------------------------------


async def test_the_champion_is_loaded_at_the_first_request(site: Any) -> None:
    champion = await site.champion()
    analyses = await asyncio.gather(*(site.analyze() for _ in range(20)))
    assert {found.model_version for found in analyses} == {champion.version}
    assert not any(found.degraded for found in analyses)
    assert {found.intent for found in analyses} == {"travel"}


async def test_a_home_may_be_moved(taught_home: Path, tmp_path: Path, site: Any) -> None:
    champion = await site.champion()
    assert champion.path.is_relative_to(taught_home)
    assert champion.path.is_dir()
    assert champion.backup_path.is_relative_to(taught_home)
    assert champion.backup_path.is_file()


async def test_the_store_is_not_read_for_each_request_of_a_tenant_without_champion(site: Any) -> None:
    reads = 0
    champion = site.registry.champion

    async def counting(tenant_id: str) -> ModelVersion | None:
        nonlocal reads
        reads += 1
        return await champion(tenant_id)

    site.registry.champion = counting
    assert await asyncio.gather(*(site.champions.ensure("nobody") for _ in range(20))) == [None] * 20
    assert reads == 1
    site.clock.now = 5.1
    assert await site.champions.ensure("nobody") is None
    assert reads == 2


async def test_unknown_tenants_are_remembered_up_to_a_limit(site: Any) -> None:
    site.champions._absent = TTLCache(3, ttl=5.0)
    for number in range(10):
        assert await site.champions.ensure(f"nobody {number}") is None
    assert len(site.champions._absent) <= 3


async def test_a_model_unloaded_by_a_limit_is_published(
    make_learner: Callable[..., AutonomousLearner],
) -> None:
    async with make_learner(analysis__live_models=1) as learner:
        received: list[ModelUnloaded] = []
        learner.events.subscribe(received.append, to=ModelUnloaded)
        version = (await learner.analyze(ACME, "hello")).model_version
        learner.analyzer.models.install("globex", LiveModel.blank("en"))
        await learner.events.drain()
    assert [(event.tenant_id, event.version, event.reason) for event in received] == [
        (ACME, version, "analysis.live_models")
    ]


# Damage -----------------------------------------------------------------------------------------


async def with_lost_provisional(site: Any) -> ModelVersion:
    """The champion, after a provisional version was stored of which the files are missing."""
    champion: ModelVersion = await site.champion()
    changes = {"version": "v0099-00000000", "parent": champion.version, "provisional": True}
    version = champion.model_copy(update=changes | {"backup_path": None})
    promotion = Promotion(version=version, expected=None, alias=PROVISIONAL)
    assert await site.store.promote(ACME, promotion, token=None)
    return champion


async def test_the_champion_serves_instead_of_a_lost_provisional_version(site: Any) -> None:
    champion = await with_lost_provisional(site)
    assert (await site.analyze()).model_version == champion.version
    assert await site.registry.provisional(ACME) is None


async def test_the_champion_answers_if_a_lost_provisional_version_cannot_be_ended(
    site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    champion = await with_lost_provisional(site)

    async def refuse(*_: object, **__: object) -> bool:
        raise StoreReadOnly("the disk is full")

    monkeypatch.setattr(site.store, "end_provisional", refuse)
    assert (await site.analyze()).model_version == champion.version
    assert site.champions.failure(ACME).version == "v0099-00000000"


async def test_a_provisional_version_that_only_this_process_cannot_load_stays(
    site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    champion: ModelVersion = await site.champion()
    name = "v0099-00000000"
    changes = {"version": name, "parent": champion.version, "provisional": True}
    promotion = Promotion(version=champion.model_copy(update=changes), expected=None, alias=PROVISIONAL)
    assert await site.store.promote(ACME, promotion, token=None)
    copy = shutil.copytree(champion.path, site.layout.version(ACME, name))
    assert Path(copy).is_dir()
    load = site.champions.load

    async def lacks_a_package(version: ModelVersion) -> LiveModel:
        if version.version == name:
            raise ModelError("a package is missing")
        return await load(version)

    monkeypatch.setattr(site.champions, "load", lacks_a_package)
    assert (await site.analyze()).model_version == champion.version, "this process answers by the champion"
    assert site.champions.failure(ACME).version == name
    assert (await site.registry.provisional(ACME)).version == name
    monkeypatch.undo()
    await site.champions.refresh(ACME)
    assert (await site.analyze()).model_version == name


async def test_a_damaged_version_is_restored_from_its_backup(
    site: Any, caplog: pytest.LogCaptureFixture
) -> None:
    champion = await site.champion()
    before = folder_digest(champion.path)
    damage(champion)
    found = await site.analyze()
    assert not found.degraded
    assert found.model_version == champion.version
    assert folder_digest(champion.path) == before
    assert errors(caplog) == []
    assert "restored from its backup" in caplog.text


@pytest.mark.parametrize("instead", ["nothing", "file", "link"])
async def test_a_missing_version_is_restored_from_its_backup(site: Any, tmp_path: Path, instead: str) -> None:
    champion = await site.champion()
    kept = Path(shutil.copytree(champion.path, tmp_path / "kept"))
    remove_folder(champion.path)
    if instead == "file":
        champion.path.write_text("in the way")
    elif instead == "link":
        (kept / "config.cfg").unlink()
        champion.path.symlink_to(kept)
    assert not (await site.analyze()).degraded
    assert verify(champion.path, digest=champion.digest)
    assert not champion.path.is_symlink()


@pytest.mark.parametrize("backup", ["gone", "damaged", "of something else"])
async def test_without_a_backup_the_fallback_answers_and_the_error_is_logged_once(
    site: Any, caplog: pytest.LogCaptureFixture, backup: str
) -> None:
    champion = await site.champion()
    if backup == "gone":
        champion.backup_path.unlink()
    elif backup == "damaged":
        champion.backup_path.write_bytes(champion.backup_path.read_bytes()[:1000])
    else:
        other = await site.candidate()
        version = await site.promote(other)
        await site.rollback.to_version(ACME)
        shutil.copy(version.backup_path, champion.backup_path)
        unload(site)
    damage(champion)
    for _ in range(3):
        found = await asyncio.gather(*(site.analyze("hello") for _ in range(5)))
        assert all(one.degraded and one.model_version is None for one in found)
        site.clock.now += 6
    assert len(errors(caplog)) == 1
    assert champion.version in errors(caplog)[0]


async def test_a_model_restored_by_hand_is_served_again(site: Any, tmp_path: Path) -> None:
    champion = await site.champion()
    moved = champion.backup_path.rename(tmp_path / "backup")
    damage(champion)
    assert (await site.analyze()).degraded
    moved.rename(champion.backup_path)
    assert (await site.analyze()).degraded
    site.clock.now = 5.1
    assert not (await site.analyze()).degraded


async def test_unreadable_files_fail_no_request(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("karen_learner.models.files.file_digest", refuse)
    assert (await site.analyze()).degraded
    with pytest.raises(ModelError, match="cannot be read"):
        await site.champions.load(await site.champion())


# Other processes --------------------------------------------------------------------------------


async def test_a_champion_changed_by_another_process_is_loaded(site: Any, other_site: Any) -> None:
    first = await site.champion()
    await site.analyze()
    second = await other_site.promote()
    assert (await site.analyze()).model_version == first.version
    await site.champions.refresh(ACME)
    assert (await site.analyze()).model_version == second.version
    await other_site.rollback.to_version(ACME)
    await site.champions.refresh(ACME)
    assert (await site.analyze()).model_version == first.version


async def test_a_champion_that_cannot_be_loaded_leaves_the_former_one_live(
    site: Any, other_site: Any, caplog: pytest.LogCaptureFixture
) -> None:
    first = await site.champion()
    await site.analyze()
    second = await other_site.promote()
    second.backup_path.unlink()
    damage(second)
    for _ in range(3):
        await site.champions.refresh(ACME)
    found = await site.analyze()
    assert (found.model_version, found.degraded) == (first.version, False)
    assert len(errors(caplog)) == 1
    assert f"{first.version} answers" in errors(caplog)[0]


async def test_an_unloaded_model_is_not_loaded_by_a_refresh(site: Any, other_site: Any) -> None:
    await site.analyze()
    unload(site)
    await other_site.promote()
    await site.champions.refresh(ACME)
    assert site.analyzer.models.peek(ACME) is None


async def test_a_slow_load_does_not_undo_a_deployment(site: Any) -> None:
    """A champion is loaded while the next one is deployed."""
    first, second = await site.champion(), await site.candidate()
    load, loaded, resume = site.champions.load, asyncio.Event(), asyncio.Event()

    async def slow(version: ModelVersion) -> Any:
        model = await load(version)
        if version.version == first.version:
            loaded.set()
            await resume.wait()
        return model

    site.champions.load = slow
    request = asyncio.create_task(site.analyze())
    await loaded.wait()
    deployed = await site.promote(second)
    resume.set()
    assert (await request).model_version == deployed.version
    assert (await site.analyze()).model_version == deployed.version


async def test_a_cancelled_request_does_not_cancel_the_load_that_others_wait_for(site: Any) -> None:
    champion, load = await site.champion(), site.champions.load
    begun, resume, loads = asyncio.Event(), asyncio.Event(), []

    async def slow(version: ModelVersion) -> Any:
        loads.append(version.version)
        begun.set()
        await resume.wait()
        return await load(version)

    site.champions.load = slow
    first = asyncio.create_task(site.analyze())
    await begun.wait()
    others = [asyncio.create_task(site.analyze()) for _ in range(3)]
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    resume.set()
    assert [found.model_version for found in await asyncio.gather(*others)] == [champion.version] * 3
    assert loads == [champion.version]


async def test_a_load_without_waiting_requests_completes(site: Any) -> None:
    load, begun, resume = site.champions.load, asyncio.Event(), asyncio.Event()

    async def slow(version: ModelVersion) -> Any:
        begun.set()
        await resume.wait()
        return await load(version)

    site.champions.load = slow
    request = asyncio.create_task(site.analyze())
    await begun.wait()
    request.cancel()
    resume.set()
    await site.champions.close()
    assert site.analyzer.models.peek(ACME).version == (await site.champion()).version


# Announcements ----------------------------------------------------------------------------------


class Listener:
    """Replaces the `on_deployed` of an analyzer."""

    def __init__(self, site: Any) -> None:
        self.calls: list[tuple[str, Path]] = []
        self._news = asyncio.Event()
        site.analyzer.on_deployed = self._hear

    async def _hear(self, version: str, path: Path) -> None:
        self.calls.append((version, path))
        self._news.set()

    async def next(self) -> tuple[str, Path]:
        await asyncio.wait_for(self._news.wait(), timeout=300)  # so that a failure does not hang
        self._news.clear()
        return self.calls[-1]


async def test_the_analyzer_is_informed_of_deployments_by_other_processes(site: Any, other_site: Any) -> None:
    listener, first = Listener(site), await site.champion()
    await site.analyze()
    assert listener.calls == []  # it was deployed before
    second = await other_site.promote()
    await site.champions.refresh(ACME)
    assert await listener.next() == (second.version, second.path)
    await other_site.rollback.to_version(ACME)
    await site.champions.refresh(ACME)
    assert await listener.next() == (first.version, first.path)
    await site.champions.refresh(ACME)
    assert len(listener.calls) == 2


async def test_the_analyzer_is_informed_once_of_a_deployment(site: Any) -> None:
    listener = Listener(site)
    await site.analyze()
    second = await site.promote()
    await site.champions.refresh(ACME)
    await site.champions.close()
    assert listener.calls == [(second.version, second.path)]


async def test_a_hanging_host_delays_no_request(site: Any, other_site: Any) -> None:
    async def never(version: str, path: Path) -> None:
        await asyncio.Event().wait()

    site.analyzer.on_deployed = never
    await site.analyze()
    second = await other_site.promote()
    await site.champions.refresh(ACME)
    assert (await site.analyze()).model_version == second.version
    await site.champions.close()
    assert site.analyzer.models.peek(ACME).version == second.version
