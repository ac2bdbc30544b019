"""A data set becomes a candidate: base pipeline, training backend, trainer."""

from karen_learner.corpora.lines import write_lines
from karen_learner.records.training import (
    CrossValidateJob,
    PassReport,
    PipelineSpec,
    PredictionRow,
    PredictJob,
    RightRow,
    TrainJob,
    TrainReport,
)
from karen_learner.training.local_worker import LocalWorker
from karen_learner.training.stage import BasePipeline

__all__ = [
    "BasePipeline",
    "CrossValidateJob",
    "LocalWorker",
    "PassReport",
    "PipelineSpec",
    "PredictJob",
    "PredictionRow",
    "RightRow",
    "TrainJob",
    "TrainReport",
    "write_lines",
]
