"""The base pipeline of new tenants: the pipeline of the user's analyzer, or the pipeline config."""

from __future__ import annotations

import asyncio
from pathlib import Path

from asyncio_extras import call_in_executor

from karen_learner.contracts import Analyzer, BasePipelineSource
from karen_learner.models.files import HomeLayout, move_into_place, remove_folder, sync_folder
from karen_learner.records.training import PipelineSpec
from karen_learner.settings import TrainingSettings, shipped_configs

SHIPPED = {"": "pipeline.cfg", "stock": "stock.cfg"}
"""Pipeline configs with a name: our own pipes, and spaCy's."""


def template_of(pipeline: str) -> Path:
    """The spaCy config that `training.pipeline` names."""
    return shipped_configs() / SHIPPED[pipeline] if pipeline in SHIPPED else Path(pipeline)


class BasePipeline:
    """The base pipeline, resolved at first use.

    A pipeline in memory or in an installed package is written below `home`. The worker loads from files, and
    an upgrade of the package must not change full training.
    """

    def __init__(self, analyzer: Analyzer, layout: HomeLayout, settings: TrainingSettings) -> None:
        self._analyzer = analyzer
        self._layout = layout
        self._settings = settings
        self._lock = asyncio.Lock()
        self._spec: PipelineSpec | None = None

    async def spec(self) -> PipelineSpec:
        """The pipeline of a tenant without champion. Raises ModelError."""
        async with self._lock:
            if self._spec is None:
                self._spec = await self._resolve()
            return self._spec

    async def _resolve(self) -> PipelineSpec:
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
