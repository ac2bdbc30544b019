"""`karen-learner base`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.cli.conftest import corpus, write_lines


def test_a_base_is_built_shown_and_removed(empty: Any, tmp_path: Path, fast: tuple[str, ...]) -> None:
    file = write_lines(tmp_path / "shared.jsonl", corpus())
    assert empty.json("base", "build", file, "--dry-run")["texts"] == {str(file): 24}
    assert empty.json("base", "show", code=4) == {"base": None}
    built = empty.json("base", "build", file, *fast)["base"]
    assert (built["texts"], built["files"]) == (24, ["shared.jsonl"])
    assert "24 texts of shared.jsonl; labels: 2 intent" in empty("base", "show").stdout
    assert empty.json("base", "remove")["done"] == "removed"
    assert empty("base", "remove").exit_code == 4


def test_files_are_for_build_alone(empty: Any, tmp_path: Path) -> None:
    file = write_lines(tmp_path / "shared.jsonl", corpus())
    assert empty("base", "build").exit_code == 2
    assert empty("base", "show", file).exit_code == 2
