"""Each tenant id has its own folder inside the home."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from karen_learner.errors import InvalidInput
from karen_learner.models.files import HomeLayout, tenant_folder
from karen_learner.records import ModelVersion, utc_now
from karen_learner.settings import PathSettings

PATHS = PathSettings(models="models", model_backups="model_backups", corpus="corpus")
HOSTILE = (
    "../..", "..", ".", "/", "/etc/passwd", "..\\..", "C:\\x", "a/b", "a\\b", "a\x00b", "~", "-", "--", "é",
    "🙂", "🙂🙂", "x" * 1000, "x" * 1001, "CON", "con", ".base", ".staging", "a b", "a-b", "\ud800",
    "$(rm -rf)", "a\nb", " ", "\u202e", "acme", "Acme", "acme.",
)  # fmt: skip

tenant_ids = st.one_of(st.sampled_from(HOSTILE), st.text(min_size=1), st.text("./\\~-a\x00", min_size=1))


def layout(home: Path) -> HomeLayout:
    return HomeLayout(home, PATHS)


def test_a_tilde_is_the_folder_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/srv/ann")
    assert layout(Path("~/karen")).home == Path("/srv/ann/karen")
    assert layout(Path("a~/b")).home == Path("a~/b").absolute()


@pytest.mark.parametrize("home", [None, 5, b"home", "a\0b", "~no-such-user/karen"])
def test_a_home_that_is_no_path_is_refused(home: Any) -> None:
    with pytest.raises(InvalidInput, match="home"):
        HomeLayout(home, PATHS)


@given(tenant_ids)
def test_a_tenant_folder_is_one_safe_name(tenant_id: str) -> None:
    name = tenant_folder(tenant_id)
    assert name.isascii()
    assert set(name) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")
    assert 0 < len(name) <= 60
    assert not name.startswith(("-", "."))


@given(tenant_ids, st.sampled_from(["models", "backups", "corpora"]))
def test_every_tenant_folder_is_inside_the_home(tenant_id: str, folder: str) -> None:
    home = Path("/srv/karen").absolute()
    found = Path(getattr(layout(home), folder)(tenant_id))
    assert found.resolve().parent.parent == home.resolve()


@given(tenant_ids, tenant_ids)
@example("a/b", "a-b")
@example("x" * 1000, "x" * 1001)
@example("🙂", "🙂🙂")
@example("acme", "Acme")
def test_two_tenants_never_share_a_folder(one: str, other: str) -> None:
    assert (tenant_folder(one).lower() == tenant_folder(other).lower()) is (one == other)


def test_a_folder_name_contains_the_tenant() -> None:
    assert tenant_folder("acme").startswith("acme-")
    assert tenant_folder("acme/eu west").startswith("acme-eu-west-")
    assert tenant_folder("🙂").isalnum()


def test_all_paths_of_a_home_are_below_it(tmp_path: Path) -> None:
    where = layout(tmp_path)
    assert where.database == tmp_path / "karen.db"
    assert where.version("a", "v0001-x") == where.models("a") / "v0001-x"
    assert where.staging("a", "c1") == where.models("a") / ".staging" / "c1"
    assert where.corpus("a", "c1") == where.corpora("a") / "c1"
    assert where.base("en_core_web_sm-3.8").parent == tmp_path / "models" / ".base"
    assert where.base("../../x").parent == tmp_path / "models" / ".base"


def test_backups_and_paths_may_be_outside_of_the_home(tmp_path: Path) -> None:
    own = HomeLayout(tmp_path / "home", PATHS, model_backups=tmp_path / "safe")
    assert own.backups("a").parent == tmp_path / "safe"
    absolute = PATHS.model_copy(update={"models": str(tmp_path / "fast")})
    assert HomeLayout(tmp_path / "home", absolute).models("a").parent == tmp_path / "fast"


def test_a_relative_home_becomes_absolute_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    where = layout(Path("home"))
    monkeypatch.chdir("/")
    assert where.home == tmp_path / "home"


@pytest.mark.parametrize("backup", [None, Path("/old/model_backups/a-123/v0001-x.tar.gz")])
def test_a_version_has_its_path_in_the_moved_home(tmp_path: Path, backup: Path | None) -> None:
    old = ModelVersion(
        tenant_id="a", version="v0001-x", path=Path("/old/models/a/v0001-x"), digest="x", parent=None,
        cycle_id=None, created_at=utc_now(), backup_path=backup,
    )  # fmt: skip
    where = layout(tmp_path)
    placed = where.placed(old)
    assert placed.path == where.models("a") / "v0001-x"
    assert placed.backup_path == (backup and where.backups("a") / "v0001-x.tar.gz")
    assert placed.digest == old.digest
