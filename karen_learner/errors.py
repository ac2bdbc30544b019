"""Every exception that karen_learner raises on purpose.

    KarenLearnerError
    ├── InvalidInput (ValueError)          what was given cannot be used
    │   ├── SettingsError                  an unknown key or a value out of range
    │   ├── LabelCollision                 one label in two tasks
    │   └── ImportFormatError              a file that no importer understands
    ├── UnknownTenant (LookupError)        the tenant has no data here
    ├── UnknownTurn (LookupError)          feedback for a turn that was never stored
    ├── UnknownVersion (LookupError)       no such model version or backup
    ├── LearnerClosed (RuntimeError)       used after `close()`
    ├── StoreError                         the memory store cannot do its work
    │   ├── StoreReadOnly
    │   ├── StoreLocked
    │   ├── StoreNotOurs                   a database that belongs to something else
    │   ├── SchemaTooNew                   written by a newer release
    │   └── FencedOut                      another process has taken the lease over
    ├── ModelError                         a model cannot be saved, loaded or used
    │   ├── DigestMismatch                 the files are not those of the manifest
    │   ├── PipelineUnsuitable             a spaCy pipeline without a usable pipe
    │   └── EncoderError                   an encoder cannot be opened or used
    │       ├── EncoderNotInstalled        the packages of the extra `encoder` are absent
    │       └── EncoderMismatch            a model is loaded beside other vectors than it was trained on
    ├── TrainingError                      the trainer cannot produce a candidate
    │   ├── TrainingDiverged               the loss is NaN, infinite or exploding
    │   ├── WorkerCrashed                  the worker process died
    │   └── WorkerTimedOut                 the worker process took longer than it may
    └── DeploymentError                    a promotion or rollback did not take place

Messages say what was wrong, where, and what to do about it. What a cycle raises carries
`backup_path`, the archive from which the live model can be restored.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


class KarenLearnerError(Exception):
    """Base of the tree. `backup_path` is set on errors raised inside a learning cycle."""

    backup_path: Path | None = None


class InvalidInput(KarenLearnerError, ValueError):
    """What was given cannot be used; nothing was stored."""


class SettingsError(InvalidInput):
    """A setting is unknown or its value is not allowed."""


class LabelCollision(InvalidInput):
    """One label is used by two tasks; both write `doc.cats`, so one would overwrite the other."""

    @classmethod
    def between(cls, labels: Iterable[str]) -> LabelCollision:
        """Of labels that would be intents and sentiments."""
        names = ", ".join(map(repr, sorted(labels)[:5]))
        return cls(
            f"{names} would be an intent and a sentiment: both write `doc.cats`; rename one of the two"
        )


class ImportFormatError(InvalidInput):
    """A file that no importer understands."""


class UnknownTenant(KarenLearnerError, LookupError):
    """The tenant has no data in this store."""


class UnknownTurn(KarenLearnerError, LookupError):
    """No turn of that id is stored for the tenant."""


class UnknownVersion(KarenLearnerError, LookupError):
    """No such version or backup."""


class LearnerClosed(KarenLearnerError, RuntimeError):
    """Something was used after it was closed."""


class StoreError(KarenLearnerError):
    """The memory store cannot do its work."""


class StoreReadOnly(StoreError):
    """The database or its folder cannot be written."""


class StoreLocked(StoreError):
    """Another process holds the database for longer than the timeout."""


class StoreNotOurs(StoreError):
    """The database holds tables of something else, or is no database at all."""


class SchemaTooNew(StoreError):
    """The database was written by a newer release of karen_learner."""


class FencedOut(StoreError):
    """The lease under which this write was made now belongs to somebody else."""


class ModelError(KarenLearnerError):
    """A model cannot be saved, loaded or used."""


class DigestMismatch(ModelError):
    """The files of a version are not those that its manifest names."""


class PipelineUnsuitable(ModelError):
    """A spaCy pipeline lacks the pipe that a task needs."""


class EncoderError(ModelError):
    """An encoder cannot be opened or used."""


class EncoderNotInstalled(EncoderError):
    """The packages of the extra `encoder` are absent."""


class EncoderMismatch(EncoderError):
    """A model is loaded beside other vectors than those that it was trained on."""


class TrainingError(KarenLearnerError):
    """The trainer cannot produce a candidate."""


class TrainingDiverged(TrainingError):
    """The loss became NaN, infinite or exploded."""


class WorkerCrashed(TrainingError):
    """The worker process died before it had finished its job."""


class WorkerTimedOut(TrainingError):
    """The worker process had not finished its job within the time limit, and was killed."""


class DeploymentError(KarenLearnerError):
    """A promotion or a rollback did not take place; the champion is what it was."""
