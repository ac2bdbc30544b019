"""The base pipeline on disk."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from karen_learner.contracts import BasePipelineInfo
from karen_learner.errors import ModelError
from karen_learner.models.files import HomeLayout
from karen_learner.settings import Settings
from karen_learner.training.base import BasePipeline


class Source:
    """An analyzer whose writing takes a while, and may fail."""

    def __init__(self, *, fails: bool = False) -> None:
        self.fails = fails

    async def base_pipeline(self) -> BasePipelineInfo:
        return BasePipelineInfo(version="base", tasks={"intent": "textcat"}, language="en")

    async def write_base_pipeline(self, folder: Path) -> None:
        for part in ("config.cfg", "meta.json"):
            (folder / part).write_text(part)
            await asyncio.sleep(0.05)
            if self.fails:
                raise ModelError("the pipeline cannot be written")


def base_of(source: Any, home: Path, settings: Settings) -> BasePipeline:
    return BasePipeline(source, HomeLayout(home, settings.paths), settings.training)


async def test_two_processes_write_the_base_pipeline_at_once(tmp_path: Path, settings: Settings) -> None:
    several = [base_of(Source(), tmp_path, settings) for _ in range(3)]
    specs = await asyncio.gather(*(base.spec() for base in several))
    folder = Path(specs[0].path or "")
    assert {spec.path for spec in specs} == {str(folder)}
    assert sorted(path.name for path in folder.iterdir()) == ["config.cfg", "meta.json"]
    assert list(folder.parent.iterdir()) == [folder]


async def test_a_base_pipeline_that_cannot_be_written_leaves_no_files(
    tmp_path: Path, settings: Settings
) -> None:
    with pytest.raises(ModelError):
        await base_of(Source(fails=True), tmp_path, settings).spec()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
