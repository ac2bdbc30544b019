"""Origins of pipelines: the base pipeline of new tenants, and saved versions."""

from __future__ import annotations

import asyncio
import logging
import uuid
from pathlib import Path

from asyncio_extras import call_in_executor

from karen_learner.contracts import Analyzer, BasePipelineSource
from karen_learner.disk import make_folder, make_private
from karen_learner.errors import ModelError
from karen_learner.models.backups import intact_manifest
from karen_learner.models.files import HomeLayout, move_into_place, remove_folder, sync_folder
from karen_learner.models.versions import labels_in
from karen_learner.records import ModelVersion, Task
from karen_learner.records.training import PipelineSpec
from karen_learner.settings import TrainingSettings, shipped_configs

logger = logging.getLogger(__name__)

SHIPPED = {"": "pipeline.cfg", "stock": "stock.cfg"}
"""Pipeline configs that `training.pipeline` can name: our own pipes, and spaCy's."""


async def version_spec(version: ModelVersion, base: PipelineSpec) -> PipelineSpec:
    """The pipeline of a version with an intact digest; a damaged one is restored first. Raises ModelError."""
    manifest = await call_in_executor(intact_manifest, version)
    return base.model_copy(update={"path": str(version.path), "tasks": manifest.tasks})


async def known_labels(version: ModelVersion | None) -> frozenset[tuple[Task, str]] | None:
    """The labels that a version knows; None without a version, and for one without readable files."""
    if version is None:
        return None
    try:
        manifest = await call_in_executor(intact_manifest, version)
        labels: frozenset[tuple[Task, str]] = await call_in_executor(labels_in, version.path, manifest.tasks)
    except ModelError as error:
        logger.warning("the labels of %s are unknown: %s", version.version, error)
        return None
    return labels


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
        name = settings.pipeline
        template = shipped_configs() / SHIPPED[name] if name in SHIPPED else Path(name)
        source = self._analyzer
        if not isinstance(source, BasePipelineSource) or (info := await source.base_pipeline()) is None:
            return PipelineSpec(template=template, language=settings.language)
        folder = self._layout.base(info.version or "base")
        if not folder.is_dir():
            await _write(source, folder)
        return PipelineSpec(path=str(folder), tasks=info.tasks, template=template, language=info.language)


async def _write(source: BasePipelineSource, folder: Path) -> None:
    """Write the folder. Another process may write it at the same moment: the first one stays."""
    partial = folder.with_name(f"{folder.name}.{uuid.uuid4().hex}.partial")
    try:
        await call_in_executor(make_folder, partial)
        await source.write_base_pipeline(partial)
        await call_in_executor(make_private, partial)
        await call_in_executor(sync_folder, partial)
        await call_in_executor(_place, partial, folder)
    finally:
        await call_in_executor(remove_folder, partial)


def _place(partial: Path, folder: Path) -> None:
    try:
        move_into_place(partial, folder)
    except OSError:
        if not folder.is_dir():
            raise
