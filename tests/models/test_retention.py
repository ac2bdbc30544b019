"""Retention by age and by size: kept files stay, the oldest goes first."""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from karen_learner.models.files import HomeLayout, Kept, remove, to_remove
from karen_learner.settings import LearningSettings, load_settings

TENANT, SIZE = "acme", 1000


def aged(path: Path, days: float) -> Path:
    moment = (datetime.now(timezone.utc) - timedelta(days=days)).timestamp()
    os.utime(path, (moment, moment))
    return path


def put(folder: Path, days: float, *, size: int = SIZE) -> Path:
    folder.mkdir(parents=True)
    (folder / "file").write_bytes(bytes(size))
    return aged(folder, days)


@pytest.fixture
def layout(tmp_path: Path) -> HomeLayout:
    return HomeLayout(tmp_path, load_settings(environment={}).paths)


def limits(**values: float) -> LearningSettings:
    named = {f"learning.{name}": value for name, value in values.items()}
    return load_settings(overrides=named, environment={}).learning


def kept(*names: str, known: int = 9, corpus: str | None = None) -> Kept:
    return Kept(versions=frozenset(names), known=frozenset(f"v{n}" for n in range(known + 1)), corpus=corpus)


def names_of(layout: HomeLayout, learning: LearningSettings, which: Kept) -> dict[str, str]:
    return {one.path.name: one.reason for one in to_remove(layout, TENANT, learning, which)}


def test_old_versions_backups_and_corpora_are_removed_except_the_kept_ones(layout: HomeLayout) -> None:
    for number, days in enumerate((50, 40, 30, 20, 10), start=1):
        put(layout.version(TENANT, f"v{number}"), days)
        archive = layout.backups(TENANT) / f"v{number}.tar.gz"
        archive.parent.mkdir(parents=True, exist_ok=True)
        archive.write_bytes(bytes(SIZE))
        aged(archive, days)
    put(layout.corpus(TENANT, "old"), 50)
    put(layout.corpus(TENANT, "now"), 50)
    learning = limits(backup_retention_days=25, corpus_retention_days=45)
    found = names_of(layout, learning, kept("v1", corpus="now"))
    assert set(found) == {"v2", "v3", "v2.tar.gz", "v3.tar.gz", "old"}
    assert found["v2"] == "it is older than 25 days"
    remove(to_remove(layout, TENANT, learning, kept("v1", corpus="now")))
    assert names_of(layout, learning, kept("v1", corpus="now")) == {}
    assert sorted(path.name for path in layout.models(TENANT).glob("v*")) == ["v1", "v4", "v5"]


def test_unfinished_files_and_folders_that_were_never_deployed_are_removed(layout: HomeLayout) -> None:
    put(layout.version(TENANT, "v77"), 0)
    put(layout.staging(TENANT, "cycle"), 0)
    put(layout.models(TENANT) / ".restoring" / "young", 0)
    put(layout.models(TENANT) / ".restoring" / "old", 1)
    layout.backups(TENANT).mkdir(parents=True)
    (layout.backups(TENANT) / "v2.tar.gz.partial").write_bytes(b"half")
    assert set(names_of(layout, limits(), kept())) == {"v77", "cycle", "old", "v2.tar.gz.partial"}


def test_a_missing_home_has_nothing_to_remove(layout: HomeLayout) -> None:
    assert to_remove(layout, TENANT, limits(retention_bytes=1), kept()) == []


@given(
    days=st.lists(st.integers(0, 20), min_size=1, max_size=6, unique=True),
    budget=st.integers(0, 7),
    champion=st.integers(0, 5),
)
def test_by_size_the_oldest_go_first_until_the_rest_fits(
    tmp_path_factory: pytest.TempPathFactory, days: list[int], budget: int, champion: int
) -> None:
    layout = HomeLayout(tmp_path_factory.mktemp("home"), load_settings(environment={}).paths)
    for number, age in enumerate(days):
        put(layout.version(TENANT, f"v{number}"), age)
    found = to_remove(layout, TENANT, limits(retention_bytes=budget * SIZE), kept(f"v{champion}"))
    removed = [int(one.path.name[1:]) for one in found]
    assert champion not in removed
    others = sorted((age, number) for number, age in enumerate(days) if number != champion)
    wanted = 0 if budget == 0 else min(len(others), max(0, len(days) - budget))
    assert removed == [number for _, number in reversed(others)][:wanted]
