"""Builds the base version of a home from files of labelled texts. No text of a tenant is read.

A learner in a temporary home trains it as the first model of a tenant, with cross-fitting and gates.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from asyncio_extras import call_in_executor

from karen_learner.corpora.corpus_file import CorpusFile
from karen_learner.disk import make_folder, make_private
from karen_learner.errors import InvalidInput, TrainingError
from karen_learner.learner import AutonomousLearner
from karen_learner.models.base_versions import BaseVersion, name_pipeline, use_base
from karen_learner.models.files import HomeLayout, folder_digest, move_into_place, remove_folder, sync_folder
from karen_learner.models.versions import read_manifest
from karen_learner.records import IngestReport, ModelVersion, utc_now
from karen_learner.settings import Settings, as_settings

TENANT = "base"
NAME = "base"
Showing = Callable[[AutonomousLearner], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def _unshown(_learner: AutonomousLearner) -> AsyncIterator[None]:
    yield


async def build_base(
    home: Path, settings: Settings, files: Sequence[CorpusFile], *, showing: Showing = _unshown
) -> BaseVersion:
    """Train a base version on all files, and use it for new tenants of the home.

    `showing` surrounds the training, for a progress bar. Raises InvalidInput for a file with turns or without
    usable texts, ImportFormatError, and TrainingError if no model can be trained.
    """
    if not files:
        raise InvalidInput("give at least one file of labelled texts")
    layout = HomeLayout(home, settings.paths)
    workplace = layout.base("x").with_name(f".building-{uuid.uuid4().hex}")
    await call_in_executor(make_folder, workplace)
    try:
        return await _build(layout, workplace, settings, files, showing)
    finally:
        await call_in_executor(remove_folder, workplace)


async def _build(
    layout: HomeLayout, workplace: Path, settings: Settings, files: Sequence[CorpusFile], showing: Showing
) -> BaseVersion:
    apart = {"models": "models", "model_backups": "backups", "corpus": "corpus"}
    changed = as_settings(settings, overrides={"store.url": "", "paths": apart})
    async with AutonomousLearner(workplace, settings=changed) as learner:
        reports = [await _ingest(learner, file) for file in files]
        async with showing(learner):
            result = await learner.trigger_learning_cycle(TENANT, force_training=True, mode="full")
        if result.status != "deployed":
            raise TrainingError(f"the base is not trained: {result.error_message or result.status}")
        version = (await learner.versions(TENANT))[0]
        labels = await learner.store.labels(TENANT)
    base: BaseVersion = await call_in_executor(
        _place, layout, version, reports, {task: len(found) for task, found in labels.items() if found}
    )
    return base


async def _ingest(learner: AutonomousLearner, file: CorpusFile) -> IngestReport:
    report = await learner.ingest(TENANT, file)
    if report.turns:
        raise InvalidInput(
            f"{report.path} has {report.turns} turns of conversations: a base is trained on shared labelled "
            "texts alone (lines with 'text')"
        )
    if not report.examples:
        raise InvalidInput(f"{report.path} has no usable labelled text")
    return report


def _place(
    layout: HomeLayout, version: ModelVersion, reports: Sequence[IngestReport], labels: dict[str, int]
) -> BaseVersion:
    """Move the pipeline into the home, and make it the base version."""
    manifest = read_manifest(version.path)
    staged = version.path.with_name("staged")
    shutil.copytree(version.path, staged)
    name = name_pipeline(staged, name=NAME, version=f"{utc_now():%Y%m%d%H%M%S}")
    make_private(staged)
    sync_folder(staged)
    target = layout.base(name)
    remove_folder(target)
    move_into_place(staged, target)
    base = BaseVersion(
        name=name,
        language=name.partition("_")[0],
        tasks=manifest.tasks,
        created_at=utc_now(),
        files=tuple(report.path.name for report in reports),
        texts=sum(report.examples for report in reports),
        labels=labels,
        scores=version.scores,
        digest=folder_digest(target),
    )
    use_base(layout, base)
    return base
