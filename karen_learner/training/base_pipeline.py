"""What new tenants start from: a pipeline that the user already has, or the pipeline config."""

from __future__ import annotations

import asyncio
from pathlib import Path

from asyncio_extras import call_in_executor

from karen_learner.contracts import Analyzer, BasePipelineSource
from karen_learner.models.files import move_into_place, remove_folder, sync_folder
from karen_learner.models.layout import HomeLayout
from karen_learner.records.training import PipelineSpec
from karen_learner.settings import TrainingSettings, shipped_configs

SHIPPED = {"": "pipeline.cfg", "stock": "stock.cfg"}
"""Pipelines that go by a name: the one that learns on the fly, and spaCy's own pipes."""


def template_of(pipeline: str) -> Path:
    """The spaCy config that `training.pipeline` names."""
    return shipped_configs() / SHIPPED[pipeline] if pipeline in SHIPPED else Path(pipeline)


class BasePipeline:
    """Settles once, at first need, what the worker starts from.

    A pipeline in memory or in an installed package is written below `home`, because the worker loads
    from files, and so that an upgrade of the package does not change what a full training means.
    """

    def __init__(self, analyzer: Analyzer, layout: HomeLayout, settings: TrainingSettings) -> None:
        self._analyzer = analyzer
        self._layout = layout
        self._settings = settings
        self._settling = asyncio.Lock()
        self._settled: PipelineSpec | None = None

    async def spec(self) -> PipelineSpec:
        """The pipeline of a tenant that has no champion. Raises ModelError."""
        async with self._settling:
            if self._settled is None:
                self._settled = await self._settle()
            return self._settled

    async def _settle(self) -> PipelineSpec:
        settings = self._settings
        template = template_of(settings.pipeline)
        empty = PipelineSpec(template=template, language=settings.language)
        source = self._analyzer
        if not isinstance(source, BasePipelineSource) or (info := await source.base_pipeline()) is None:
            return empty
        folder = self._layout.base(info.version or "base")
        if not folder.is_dir():
            await _write(source, folder)
        return empty.model_copy(
            update={"path": str(folder), "tasks": dict(info.tasks), "language": info.language}
        )


async def _write(source: BasePipelineSource, folder: Path) -> None:
    partial = folder.with_name(folder.name + ".partial")
    await call_in_executor(_create, partial)
    await source.write_base_pipeline(partial)
    await call_in_executor(sync_folder, partial)
    await call_in_executor(move_into_place, partial, folder)


def _create(folder: Path) -> None:
    remove_folder(folder)
    folder.mkdir(parents=True)
