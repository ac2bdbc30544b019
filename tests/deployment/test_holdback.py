"""Holdbacks: some users keep the former champion after a deployment."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from karen_learner.errors import InvalidInput
from karen_learner.models.files import remove_folder
from karen_learner.models.live import LiveModel
from karen_learner.records import Holdback, ModelVersion, utc_now

ACME = "acme"
TEXT = "a flight to blue please"
USERS = tuple(f"user {number}" for number in range(40))


async def promote(site: Any, *, share: float = 0.3) -> ModelVersion:
    site.settings.impact.holdback_share = share
    version: ModelVersion = await site.promote()
    return version


async def answers(site: Any, users: Sequence[str] = USERS) -> dict[str, str | None]:
    """The version that answers each user."""
    await site.champions.ensure(ACME)
    found = [await site.analyzer.analyze(TEXT, tenant_id=ACME, user_id=user) for user in users]
    return {user: one.model_version for user, one in zip(users, found, strict=True)}


async def expected(site: Any, former: ModelVersion, champion: ModelVersion) -> dict[str, str]:
    holdback = await site.store.holdback(ACME)
    return {user: (former if holdback.keeps(ACME, user) else champion).version for user in USERS}


async def test_a_share_of_the_users_keeps_the_former_champion(site: Any) -> None:
    former = await site.champion()
    champion = await promote(site)
    found = await answers(site)
    assert found == await expected(site, former, champion)
    assert set(found.values()) == {former.version, champion.version}
    assert (await site.analyze()).model_version == champion.version, "without a user"


async def test_by_default_nobody_keeps_it(site: Any) -> None:
    champion = await site.promote()
    assert set((await answers(site)).values()) == {champion.version}
    assert await site.store.holdback(ACME) is None


async def test_other_processes_follow(site: Any, other_site: Any) -> None:
    former = await other_site.champion()
    await answers(other_site)
    champion = await promote(site)
    await other_site.champions.refresh(ACME)
    assert await answers(other_site) == await expected(site, former, champion)


async def test_a_process_that_starts_later_holds_back(site: Any, other_site: Any) -> None:
    former = await site.champion()
    champion = await promote(site)
    assert await answers(other_site) == await expected(site, former, champion)


async def test_later_deployments_change_neither_the_group_nor_its_version(site: Any) -> None:
    former = await site.champion()
    await promote(site)
    holdback = await site.store.holdback(ACME)
    newest = await promote(site, share=0.5)
    assert await site.store.holdback(ACME) == holdback
    assert await answers(site) == await expected(site, former, newest)


async def test_a_holdback_that_has_ended_serves_nobody_and_gives_way_to_the_next_one(site: Any) -> None:
    former = await site.champion()
    champion = await promote(site)
    assert await site.store.end_holdback(ACME, former.version, at=utc_now())
    assert not await site.store.end_holdback(ACME, former.version, at=utc_now())
    await site.champions.refresh(ACME)
    assert set((await answers(site)).values()) == {champion.version}
    newest = await promote(site)
    assert await answers(site) == await expected(site, champion, newest)


async def test_a_rollback_removes_it(site: Any) -> None:
    former = await site.champion()
    await promote(site)
    await site.rollback.to_version(ACME)
    assert set((await answers(site)).values()) == {former.version}
    assert await site.store.holdback(ACME) is None


async def test_its_version_is_kept_by_clean_ups(site: Any) -> None:
    former = await site.champion()
    await promote(site)
    for _ in range(2):
        newest = await promote(site)
    assert newest.parent != former.version
    site.settings.learning.retention_bytes = 1
    await site.deployer.clean_up(ACME)
    assert former.path.is_dir()
    await site.store.end_holdback(ACME, former.version, at=utc_now())
    await site.deployer.clean_up(ACME)
    assert not former.path.is_dir()


async def test_a_lost_version_ends_it(site: Any, other_site: Any, caplog: pytest.LogCaptureFixture) -> None:
    former = await site.champion()
    champion = await promote(site)
    remove_folder(former.path)
    former.backup_path.unlink()
    with caplog.at_level(logging.ERROR):
        assert set((await answers(other_site)).values()) == {champion.version}
    assert f"{former.version} cannot be held back" in caplog.text
    assert not (await site.store.holdback(ACME)).runs(utc_now())


async def test_a_damaged_version_is_restored(site: Any, other_site: Any) -> None:
    former = await site.champion()
    champion = await promote(site)
    (former.path / "meta.json").write_text("{}")
    assert await answers(other_site) == await expected(site, former, champion)


@given(st.floats(0.01, 0.99), st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_groups_are_stable_random_and_grow_with_the_share(share: float, tenant: str) -> None:
    now = utc_now()
    small, large = (
        Holdback(version="v1", share=one, started_at=now, ends_at=now + timedelta(days=1))
        for one in (share / 2, share)
    )
    kept = {user for user in USERS if small.keeps(tenant, user)}
    assert kept <= {user for user in USERS if large.keeps(tenant, user)}


def test_the_group_has_the_size_of_the_share_and_differs_by_version() -> None:
    now = utc_now()
    first, second = (Holdback(version=name, share=0.2, started_at=now, ends_at=now) for name in ("v1", "v2"))
    users = [f"u{number}" for number in range(5000)]
    kept = [{user for user in users if one.keeps(ACME, user)} for one in (first, second)]
    assert [len(one) / 5000 for one in kept] == pytest.approx([0.2, 0.2], abs=0.02)
    assert len(kept[0] & kept[1]) / 5000 == pytest.approx(0.04, abs=0.01)


async def test_the_second_model_leaves_the_memory_with_the_first_and_comes_back(site: Any) -> None:
    former = await site.champion()
    champion = await promote(site)
    models = site.analyzer.models
    for number in range(site.settings.analysis.live_models):
        models.install(f"tenant {number}", LiveModel.blank("en"))
    assert models.peek(ACME) is None
    assert models.held(ACME) is None
    assert await answers(site) == await expected(site, former, champion)


@pytest.mark.parametrize("user", ["", "x" * 1001, "a\0b", "\ud800", 7])
async def test_an_unusable_user_is_refused(site: Any, user: Any) -> None:
    await site.champions.ensure(ACME)
    with pytest.raises(InvalidInput, match="user_id"):
        await site.analyzer.analyze(TEXT, tenant_id=ACME, user_id=user)
