"""What the worker keeps between jobs: the pipeline that it trained last, and what models predicted.

A cycle trains on from the champion, which the cycle before may have left in memory; and a champion says of
the same holdout what it said as a candidate. A candidate is always judged as it was read back from the disk:
that is what will serve.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

from karen_learner.components.online.trainable import prepare_to_learn
from karen_learner.records import Task
from karen_learner.records.training import PipelineSpec, PredictionRow, RightRow
from karen_learner.training.pipelines import TrainablePipeline

Identity = tuple[int, int, int]
Predicted = list[tuple[PredictionRow, RightRow]]
PREDICTIONS_KEPT = 4
MOST_WORDS = 100_000


def identity_of(folder: Path) -> Identity | None:
    """What stays the same when a saved pipeline is moved, and differs from every other one.

    None if it is no folder of a pipeline.
    """
    try:
        found = (folder / "meta.json").stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns


class Warm:
    """One pipeline, and a few predictions. Not for use by two threads."""

    def __init__(self) -> None:
        self._pipeline: tuple[Identity, TrainablePipeline] | None = None
        self._predictions: OrderedDict[tuple[Identity, str], Predicted] = OrderedDict()

    def take(self, spec: PipelineSpec) -> TrainablePipeline:
        """The pipeline of `spec`, to be changed at will: it is no longer kept. Raises ModelError."""
        kept = self._kept(spec)
        self._pipeline = None
        return kept or TrainablePipeline.open(spec)

    def keep(self, pipeline: TrainablePipeline, folder: Path) -> None:
        """Keep the pipeline as it was saved to the folder, in the place of the one before.

        Not for ever: it remembers the words of its training texts. What a pipe that was not trained this
        time needs for learning on still lies in the folder of an older version; it is read now, because that
        folder may be gone when it is needed.
        """
        for task in pipeline.trainable_tasks:
            prepare_to_learn(pipeline.pipe(task).model)
        identity = identity_of(folder)
        known = len(pipeline.nlp.vocab.strings) - len(pipeline.kept_strings)
        self._pipeline = None if identity is None or known > MOST_WORDS else (identity, pipeline)

    def _kept(self, spec: PipelineSpec) -> TrainablePipeline | None:
        if self._pipeline is None or spec.path is None:
            return None
        identity, pipeline = self._pipeline
        same = identity == identity_of(Path(spec.path)) and dict(spec.tasks) == pipeline.tasks
        return pipeline if same else None

    def recall(self, spec: PipelineSpec, holdout: Path) -> Predicted | None:
        """What the pipeline predicted of the same holdout before."""
        key = _prediction_key(spec, holdout)
        return None if key is None else self._predictions.get(key)

    def remember(self, spec: PipelineSpec, holdout: Path, predicted: Predicted) -> None:
        """Keep predictions; the oldest give way."""
        key = _prediction_key(spec, holdout)
        if key is not None:
            self._predictions[key] = predicted
            while len(self._predictions) > PREDICTIONS_KEPT:
                self._predictions.popitem(last=False)


def _prediction_key(spec: PipelineSpec, holdout: Path) -> tuple[Identity, str] | None:
    identity = None if spec.path is None else identity_of(Path(spec.path))
    if identity is None:
        return None
    tasks: Sequence[tuple[Task, str]] = sorted(spec.tasks.items())
    digest = hashlib.sha256(repr(tasks).encode() + holdout.read_bytes()).hexdigest()
    return identity, digest
