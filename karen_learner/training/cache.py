"""Memory of the worker between jobs: the pipeline that serves, and outputs of models.

A cycle continues from the champion, which the previous cycle may have left in memory. Shadows are read from
disk. A shadow of the champion may answer for the same texts as before, when it was a candidate.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from cachetools import FIFOCache

from karen_learner.components.online.shim import prepare_to_learn
from karen_learner.records.training import PipelineSpec
from karen_learner.training.pipelines import TrainablePipeline

Identity = tuple[int, int, int]
OutputT = TypeVar("OutputT")
MAX_OUTPUTS = 12
"""Outputs of two models with five shadows each."""
MAX_STRINGS = 100_000


def identity_of(folder: Path) -> Identity | None:
    """Device, inode and modification time of a saved pipeline: unique, and unchanged by a move of the folder.

    None if the folder holds no pipeline.
    """
    try:
        found = (folder / "meta.json").stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns


class WorkerCache:
    """The pipeline that serves, the pipeline of one shadow, and the latest outputs. Not thread-safe."""

    def __init__(self) -> None:
        self._pipelines: dict[bool, tuple[Identity, TrainablePipeline]] = {}
        self._outputs: FIFOCache[str, Any] = FIFOCache(MAX_OUTPUTS)

    def take(self, spec: PipelineSpec) -> TrainablePipeline:
        """Remove and return the pipeline of `spec`, or load it. Raises ModelError."""
        for slot, (_, pipeline) in list(self._pipelines.items()):
            if self._is(spec, slot):
                del self._pipelines[slot]
                return pipeline
        return TrainablePipeline.open(spec)

    def shadow(self, spec: PipelineSpec) -> TrainablePipeline:
        """The pipeline of a shadow for predictions: that in memory, or the saved one. Raises ModelError."""
        is_shadow = True
        return self._pipelines[is_shadow][1] if self._is(spec, is_shadow) else TrainablePipeline.open(spec)

    def _is(self, spec: PipelineSpec, slot: bool) -> bool:
        if slot not in self._pipelines or spec.path is None:
            return False
        identity, pipeline = self._pipelines[slot]
        return identity == identity_of(Path(spec.path)) and dict(spec.tasks) == pipeline.tasks

    def keep(self, pipeline: TrainablePipeline, folder: Path, *, is_shadow: bool = False) -> None:
        """Replace the pipeline in memory by one that is saved in the folder.

        A pipeline with too many strings of training texts is dropped. Optimizer states are loaded now: those
        of untrained pipes are in the folder of an older version, which may be removed.
        """
        for task in pipeline.trainable_tasks:
            prepare_to_learn(pipeline.pipe(task).model)
        identity = identity_of(folder)
        strings = len(pipeline.nlp.vocab.strings) - len(pipeline.kept_strings)
        self._pipelines.pop(is_shadow, None)
        if identity is not None and strings <= MAX_STRINGS:
            self._pipelines[is_shadow] = identity, pipeline

    def outputs(self, spec: PipelineSpec, texts: Sequence[str], run: Callable[[], OutputT]) -> OutputT:
        """The output of a saved pipeline for these texts, if cached, or of `run`."""
        identity = None if spec.path is None else identity_of(Path(spec.path))
        if identity is None:
            return run()
        key = hashlib.sha256(
            repr((identity, sorted(spec.tasks.items()), texts)).encode("utf-8", "backslashreplace")
        ).hexdigest()
        if key not in self._outputs:
            self._outputs[key] = run()
        found: OutputT = self._outputs[key]
        return found
