"""The examples of files in `docs/data.md` are read without an error or a note."""

import re
from pathlib import Path

import pytest

from karen_learner.corpora.exporters import exporters
from karen_learner.corpora.importers import importers, iter_records

PAGE = Path(__file__).parents[2] / "docs" / "data.md"
EXAMPLES = re.findall(
    r"^```(jsonl|json|csv|yaml|conll)(?: (\S+))?\n(.*?)^```", PAGE.read_text("utf-8"), flags=re.M | re.S
)


@pytest.mark.parametrize(("language", "name", "content"), EXAMPLES)
def test_an_example_is_read(language: str, name: str, content: str, tmp_path: Path) -> None:
    path = tmp_path / f"example{'_usersays_en' if name == 'dialogflow' else ''}.{language}"
    path.write_text(content, encoding="utf-8")
    reading = iter_records(path)
    lines = list(reading)
    assert len(lines) >= 2
    assert [line.error for line in lines if line.error is not None] == []
    assert [f"--format {name}" in note for note in reading.notes] == [True] * (name not in ("", "dialogflow"))


def test_all_formats_are_listed() -> None:
    table = PAGE.read_text("utf-8").split("## Formats")[1].split("## ")[0]
    listed = set(re.findall(r"^\| `([\w-]+)` \|", table, flags=re.M))
    assert listed == set(importers.names()) == set(exporters.names())
