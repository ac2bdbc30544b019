"""Memory of the worker between jobs: the pipeline trained last, and predictions of models.

A cycle continues from the champion, which the previous cycle may have left in memory. A champion predicts for
the same holdout as before, when it was a candidate. A candidate always predicts as loaded from disk, because
that is the model that will serve.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from cachetools import FIFOCache

from karen_learner.components.online.shim import prepare_to_learn
from karen_learner.records.training import PipelineSpec, PredictionRow, RightRow
from karen_learner.training.pipelines import TrainablePipeline

Identity = tuple[int, int, int]
Predicted = list[tuple[PredictionRow, RightRow]]
MAX_PREDICTIONS = 4
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
    """One pipeline, and the latest predictions. Not thread-safe."""

    def __init__(self) -> None:
        self._pipeline: tuple[Identity, TrainablePipeline] | None = None
        self._predictions: FIFOCache[str, Predicted] = FIFOCache(MAX_PREDICTIONS)

    def take(self, spec: PipelineSpec) -> TrainablePipeline:
        """Remove and return the pipeline of `spec`, or load it. Raises ModelError."""
        cached, self._pipeline = self._pipeline, None
        if cached is not None and spec.path is not None:
            identity, pipeline = cached
            if identity == identity_of(Path(spec.path)) and dict(spec.tasks) == pipeline.tasks:
                return pipeline
        return TrainablePipeline.open(spec)

    def keep(self, pipeline: TrainablePipeline, folder: Path) -> None:
        """Replace the cached pipeline by one that is saved in the folder.

        A pipeline with too many strings of training texts is dropped. Optimizer states are loaded now: those
        of untrained pipes are in the folder of an older version, which may be removed.
        """
        for task in pipeline.trainable_tasks:
            prepare_to_learn(pipeline.pipe(task).model)
        identity = identity_of(folder)
        strings = len(pipeline.nlp.vocab.strings) - len(pipeline.kept_strings)
        self._pipeline = None if identity is None or strings > MAX_STRINGS else (identity, pipeline)

    def predictions(self, spec: PipelineSpec, holdout: Path, predict: Callable[[], Predicted]) -> Predicted:
        """The predictions of a saved pipeline for the content of the holdout, if cached, or of `predict`."""
        identity = None if spec.path is None else identity_of(Path(spec.path))
        if identity is None:
            return predict()
        model = repr((identity, sorted(spec.tasks.items())))
        key = hashlib.sha256(model.encode() + holdout.read_bytes()).hexdigest()
        if key not in self._predictions:
            self._predictions[key] = predict()
        return self._predictions[key]
