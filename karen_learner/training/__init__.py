"""A data set becomes a candidate: corpora, the trainer and its worker process."""

from karen_learner.corpora.docbin import write_docs
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
from karen_learner.training.base_pipeline import BasePipeline
from karen_learner.training.local_worker import TrainingWorker

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
