"""The base version of a home: trained on shared texts alone, and the start of new tenants."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from karen_learner.base_builder import build_base
from karen_learner.corpora.corpus_file import CorpusFile
from karen_learner.errors import InvalidInput, KarenLearnerError, TrainingError
from karen_learner.learner import create_autonomous_learner
from karen_learner.models.base_versions import BaseVersion, read_base, remove_base
from karen_learner.models.files import HomeLayout
from karen_learner.settings import Settings, load_settings
from tests.conftest import TINY, gold_examples


def write(path: Path, rows: list[dict[str, Any]]) -> CorpusFile:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return CorpusFile(path)


@pytest.fixture
def settings() -> Settings:
    return load_settings(overrides=TINY)


def layout_of(home: Path, settings: Settings) -> HomeLayout:
    return HomeLayout(home, settings.paths)


async def test_new_tenants_start_from_the_base(tmp_path: Path, settings: Settings) -> None:
    home, shared = tmp_path / "home", write(tmp_path / "shared.jsonl", gold_examples())
    secret = "my quite secret words"
    async with create_autonomous_learner(home, overrides=TINY) as learner:
        await learner.bootstrap("old", [*gold_examples(), {"text": secret, "intent": "greeting"}])
        assert (await learner.analyze("new", "what is my balance red")).degraded
    base = await build_base(home, settings, [shared])
    assert (base.texts, base.files, base.labels["intent"]) == (45, ("shared.jsonl",), 3)
    assert read_base(layout_of(home, settings)) == base
    async with create_autonomous_learner(home, overrides=TINY) as learner:
        analysis = await learner.analyze("new", "what is my balance red")
        assert (analysis.intent, analysis.degraded, analysis.model_version) == ("balance", False, base.name)
        more = [
            {"text": f"close my account {word}", "intent": "close"} for word in ("now", "today", "please")
        ]
        result = await learner.bootstrap("new", more)
        assert result.status == "deployed", result.error_message
        assert {row.label for row in await learner.labels("new")} >= {"close"}
        assert (await learner.analyze("new", "a flight to green please")).intent == "travel"
    folder = layout_of(home, settings).base(base.name)
    content = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert not any(word.encode() in content for word in ("quite", "secret"))
    assert sorted(path.name for path in folder.parent.iterdir()) == sorted(["current.json", folder.name])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"user_text": "hi", "assistant_response": "ho", "user_id": "ann"}], "1 turns of conversations"),
        ([{"text": "hi"}], "no usable labelled text"),
        ([{"text": "hi", "intent": "greeting"}], "too few labels"),
    ],
)
async def test_unusable_files_build_nothing(
    tmp_path: Path, settings: Settings, rows: list[dict[str, Any]], message: str
) -> None:
    file = write(tmp_path / "shared.jsonl", rows)
    with pytest.raises(KarenLearnerError, match=message) as raised:
        await build_base(tmp_path / "home", settings, [file])
    assert isinstance(raised.value, (InvalidInput, TrainingError))
    where = layout_of(tmp_path / "home", settings)
    assert read_base(where) is None
    assert not list(where.base("x").parent.iterdir())


def test_a_damaged_base_is_reported_and_not_used(tmp_path: Path, settings: Settings) -> None:
    where = layout_of(tmp_path, settings)
    file = where.base("x").with_name("current.json")
    file.parent.mkdir(parents=True)
    file.write_text("{")
    assert read_base(where) is None
    named = {"name": "en_base-1", "language": "en", "tasks": {}, "created_at": "2030-01-01T00:00:00Z",
             "files": [], "texts": 1, "labels": {}, "scores": {}, "digest": "x"}  # fmt: skip
    file.write_text(BaseVersion.model_validate(named).model_dump_json())
    assert read_base(where) is None, "its files are missing"
    remove_base(where)
    remove_base(where)
    assert not file.exists()
