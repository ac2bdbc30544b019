"""A data set becomes a candidate: base pipeline, training backend, trainer."""

from karen_learner.training.local_worker import LocalWorker
from karen_learner.training.stage import BasePipeline

__all__ = ["BasePipeline", "LocalWorker"]
