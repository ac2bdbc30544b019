"""A data set becomes a candidate: base pipeline, training backend, trainer."""

from karen_learner.training.base import BasePipeline
from karen_learner.training.local_worker import LocalWorker

__all__ = ["BasePipeline", "LocalWorker"]
