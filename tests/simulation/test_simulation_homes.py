from __future__ import annotations

from pathlib import Path

import pytest

from karen_learner.errors import InvalidInput
from karen_learner.settings import load_settings
from karen_learner.simulation.homes import DEMO_MARK, fresh_home, isolated, make_demo_home


def test_a_temporary_home_is_removed() -> None:
    with fresh_home() as home:
        (home / "models").mkdir()
        assert home.is_dir()
    assert not home.exists()


def test_a_temporary_home_is_removed_after_an_interruption() -> None:
    with pytest.raises(KeyboardInterrupt), fresh_home() as home:
        raise KeyboardInterrupt
    assert not home.exists()


def test_a_kept_home_must_be_new_or_empty(tmp_path: Path) -> None:
    with fresh_home(tmp_path / "deep" / "home") as home:
        (home / "karen.db").write_bytes(b"")
    assert (tmp_path / "deep" / "home" / "karen.db").exists()
    with pytest.raises(InvalidInput, match="not empty"), fresh_home(tmp_path / "deep" / "home"):
        pass
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(InvalidInput, match="not empty"), fresh_home(file):
        pass


def test_the_demo_replaces_only_its_own_home(tmp_path: Path) -> None:
    home = tmp_path / "demo-home"
    make_demo_home(home, "[training]\nn_iter = 3\n")
    (home / "karen.db").write_bytes(b"old")
    make_demo_home(home, "[training]\nn_iter = 4\n")
    assert sorted(path.name for path in home.iterdir()) == ["karen.cfg", DEMO_MARK]
    assert load_settings(home / "karen.cfg", environment={}).training.n_iter == 4

    other = tmp_path / "precious"
    other.mkdir()
    (other / "work.txt").write_text("mine")
    with pytest.raises(InvalidInput, match="is not a home of the demo"):
        make_demo_home(other, "")
    assert (other / "work.txt").read_text() == "mine"


def test_the_demo_does_not_follow_a_link(tmp_path: Path) -> None:
    make_demo_home(tmp_path / "real", "")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(InvalidInput, match="is not a home of the demo"):
        make_demo_home(tmp_path / "link", "")


def test_isolated_settings_use_the_default_database_and_folders() -> None:
    settings = load_settings(
        overrides={
            "store.url": "postgresql+asyncpg://db/live",
            "paths.models": "/srv/models",
            "training.n_iter": 3,
            "learning.validation_threshold": 0.9,
        },
        environment={},
    )
    alone = isolated(settings)
    usual = load_settings(environment={})
    assert alone.store.url == usual.store.url == ""
    assert alone.paths == usual.paths
    assert alone.training.n_iter == 3
    assert alone.learning.validation_threshold == 0.9
