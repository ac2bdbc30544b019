"""A data set becomes a candidate: corpora, the trainer and its worker process."""

from karen_learner.training.base import BasePipeline
from karen_learner.training.corpora import write_docs, write_lines
from karen_learner.training.jobs import (
    CrossValidateJob,
    PassReport,
    PipelineSpec,
    PredictionRow,
    PredictJob,
    RightRow,
    TrainJob,
    TrainReport,
)
from karen_learner.training.process import TrainingWorker

__all__ = [
    "BasePipeline",
    "CrossValidateJob",
    "PassReport",
    "PipelineSpec",
    "PredictJob",
    "PredictionRow",
    "RightRow",
    "TrainJob",
    "TrainReport",
    "TrainingWorker",
    "write_docs",
    "write_lines",
]
