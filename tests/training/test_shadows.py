"""Shadows on disk: index, predictions of judged texts, damage, and removal."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from karen_learner.models.files import HomeLayout
from karen_learner.records.training import Predicted
from karen_learner.settings import PathSettings
from karen_learner.training.shadows import (
    INDEX,
    JUDGED,
    JudgedText,
    ShadowIndex,
    place_shadows,
    prune_shadows,
    read_index,
    read_judged,
    shadow_folder,
    write_index,
    write_judged,
)

TASKS = {"intent": "intent", "entities": "ner"}
PREDICTED = {
    "one": Predicted(row=("travel", None, ((0, 4, "CITY"),)), right=(0.25, None)),
    "ü\n{": Predicted(row=(None, "sad", None)),
}


def judged() -> list[JudgedText]:
    return [JudgedText(example_id=name, predicted=predicted) for name, predicted in PREDICTED.items()]


def make_shadows(folder: Path, count: int = 3, *, content: str = "") -> ShadowIndex:
    """Folders like those of saved pipelines, with an index."""
    for number in range(count):
        shadow = shadow_folder(folder, number)
        shadow.mkdir(parents=True)
        (shadow / "meta.json").write_text(content or str(number))
    index = ShadowIndex(folds=5, generation="g1", tasks=(TASKS,) * count)
    write_index(folder, index)
    return index


def test_the_index_of_complete_shadows_is_read(tmp_path: Path) -> None:
    index = make_shadows(tmp_path / "v1")
    assert read_index(tmp_path / "v1") == index
    later = index.model_copy(update={"generation": "g2"})
    write_index(tmp_path / "v1", later)
    assert read_index(tmp_path / "v1") == later


@pytest.mark.parametrize("missing", ["0/meta.json", "2/meta.json", INDEX])
def test_shadows_with_a_missing_file_are_missing(tmp_path: Path, missing: str) -> None:
    make_shadows(tmp_path)
    (tmp_path / missing).unlink()
    assert read_index(tmp_path) is None


def test_shadows_of_an_unknown_version_are_missing_without_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert read_index(tmp_path / "nowhere") is None
        assert read_judged(tmp_path / "nowhere", {}) == {}
    assert caplog.messages == []


@pytest.mark.parametrize("content", [b"", b"{", b'{"folds": 5}', b"\xff", b'{"folds": "x", "tasks": []}'])
def test_a_damaged_index_means_missing_shadows(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    make_shadows(tmp_path)
    (tmp_path / INDEX).write_bytes(content)
    assert read_index(tmp_path) is None
    assert "are trained anew" in caplog.text


def test_the_judged_texts_are_read_without_their_words(tmp_path: Path) -> None:
    write_judged(tmp_path / "new", judged())
    assert read_judged(tmp_path / "new", {}) == PREDICTED
    write_judged(tmp_path / "new", judged()[:1])
    assert read_judged(tmp_path / "new", {}) == {"one": PREDICTED["one"]}
    write_judged(tmp_path / "new", [])
    assert read_judged(tmp_path / "new", {}) == {}


@given(st.lists(st.text(min_size=1), unique=True))
def test_any_example_id_is_kept(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    folder = tmp_path_factory.mktemp("judged")
    write_judged(folder, [JudgedText(example_id=name, predicted=PREDICTED["one"]) for name in names])
    assert list(read_judged(folder, {})) == names


@pytest.mark.parametrize("content", [b'{"example_id": "one"', b"\xff\n", b"[]\n", b'{"example_id": 1}\n'])
def test_damaged_judged_texts_are_missing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    write_judged(tmp_path, judged())
    with (tmp_path / JUDGED).open("ab") as file:
        file.write(content)
    assert read_judged(tmp_path, {}) == {}
    assert "cannot be read" in caplog.text


def test_shadows_are_moved_to_their_version(tmp_path: Path) -> None:
    staging, target = tmp_path / ".staging" / "c1-shadows", tmp_path / ".shadows" / "v1"
    index = make_shadows(staging)
    write_judged(staging, judged())
    place_shadows(staging, target)
    assert not staging.exists()
    assert read_index(target) == index
    assert read_judged(target, {}) == PREDICTED


def test_an_unfinished_move_is_replaced(tmp_path: Path) -> None:
    target = tmp_path / ".shadows" / "v1"
    make_shadows(target, 5, content="old")
    (target / INDEX).unlink()
    make_shadows(tmp_path / "new", 2, content="new")
    place_shadows(tmp_path / "new", target)
    assert sorted(path.name for path in target.iterdir()) == ["0", "1", INDEX]
    assert (target / "1" / "meta.json").read_text() == "new"


def test_shadows_of_other_versions_are_removed(tmp_path: Path) -> None:
    for name in ("v1", "v2", "v3"):
        make_shadows(tmp_path / name)
    prune_shadows(tmp_path, keep=frozenset({"v1", "v3", "v9"}))
    assert {path.name for path in tmp_path.iterdir()} == {"v1", "v3"}
    prune_shadows(tmp_path / "nowhere", keep=frozenset())
    prune_shadows(tmp_path, keep=frozenset())
    assert list(tmp_path.iterdir()) == []


def test_shadows_are_below_the_models_of_their_tenant(tmp_path: Path) -> None:
    layout = HomeLayout(tmp_path, PathSettings(models="models", model_backups="backups", corpus="corpus"))
    assert layout.shadows("acme", "v1").parent.parent == layout.models("acme")
    assert layout.shadow_staging("acme", "c1").parent == layout.staging("acme", "c1").parent
    assert layout.shadow_staging("acme", "c1") != layout.staging("acme", "c1")
    assert layout.shadows("acme", "v1") != layout.shadows("other", "v1")


def test_anchors_keep_their_predictions_without_pipelines(tmp_path: Path) -> None:
    for name in ("v1", "v2"):
        write_judged(tmp_path / name, judged())
        make_shadows(tmp_path / name)
    prune_shadows(tmp_path, keep=frozenset({"v2"}), judged_only=frozenset({"v1", "v2"}))
    assert [path.name for path in (tmp_path / "v1").iterdir()] == [JUDGED]
    assert read_judged(tmp_path / "v1", {}) == PREDICTED
    assert read_index(tmp_path / "v2") is not None
