"""The exceptions of karen_learner, with the exit codes of commands and the status codes of HTTP.

    KarenLearnerError
    ├── InvalidInput (ValueError)          an unusable argument or file
    │   ├── SettingsError                  an unknown key or a value out of range
    │   ├── LabelCollision                 one label in two tasks
    │   └── ImportFormatError              a file in an unknown format
    ├── UnknownTenant (LookupError)        the tenant has no data here
    ├── UnknownTurn (LookupError)          the turn is not stored
    ├── UnknownVersion (LookupError)       no such model version or backup
    ├── UnknownCycle (LookupError)         no such cycle
    ├── UnknownJob (LookupError)           the service has no such job
    ├── UnknownEntry (LookupError)         no such log entry
    ├── UnknownRecommendation (LookupError)  no such recommendation
    ├── AccessError                        the service refuses a caller
    │   ├── Unauthenticated                without a valid API key
    │   ├── Forbidden                      the key does not allow the action
    │   └── TooManyRequests                more requests than the limit
    ├── UnknownIncident (LookupError)      no such incident
    ├── UnknownReport (LookupError)        no such report
    ├── UnknownTicket (LookupError)        no such ticket of an improvement
    ├── LearnerClosed (RuntimeError)       used after `close()`
    ├── WrongEventLoop (RuntimeError)      used in another event loop, or after a fork
    ├── StoreError                         the memory store fails
    │   ├── StoreReadOnly
    │   ├── StoreFull                      the disk is full
    │   ├── SpoolFull                      too many turns wait for their analysis
    │   ├── StoreLocked
    │   ├── StoreNotOurs                   a database of another program
    │   ├── SchemaTooNew                   written by a newer release
    │   └── FencedOut                      another process took over the lease
    ├── ModelError                         a model cannot be saved, loaded or used
    │   ├── DigestMismatch                 the files differ from those of the manifest
    │   ├── PipelineUnsuitable             a spaCy pipeline without a usable pipe
    │   └── EncoderError                   an encoder cannot be opened or used
    │       ├── EncoderNotInstalled        the extra `encoder` is not installed
    │       └── EncoderMismatch            other vectors than those of the training
    ├── TrainingError                      training produces no candidate
    │   ├── TrainingDiverged               the loss is NaN, infinite or exploding
    │   ├── WorkerCrashed                  the worker process died
    │   └── WorkerTimedOut                 a job exceeded its time limit
    ├── DeploymentError                    a promotion or rollback failed
    └── DeliveryFailed                     a target has not accepted a notification

A message names the problem, its place and the remedy. Errors of a cycle carry `backup_path`, the archive of
the champion.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Mapping
from enum import IntEnum
from pathlib import Path
from typing import ClassVar


class ExitCode(IntEnum):
    """Exit code of a command."""

    OK = 0
    ERROR = 1
    USAGE = 2
    REJECTED = 3
    SKIPPED = 4
    FAILED = 5
    TOO_CLOSE = 6
    UNHEALTHY = 7
    INTERRUPTED = 130


STATUS_EXIT_CODES: Mapping[str, ExitCode] = {
    "deployed": ExitCode.OK,
    "rolled_back": ExitCode.OK,
    "rejected": ExitCode.REJECTED,
    "skipped": ExitCode.SKIPPED,
    "failed": ExitCode.FAILED,
}
"""Exit code of a cycle by its status. The exit code of an error is its attribute `exit_code`."""


def cycle_exit_code(status: str, decision: str | None) -> ExitCode:
    """Exit code of a cycle with this status, and with this decision of its gates if they decided."""
    if status == "rejected" and decision == "too_close":
        return ExitCode.TOO_CLOSE
    return STATUS_EXIT_CODES[status]


class KarenLearnerError(Exception):
    """Base of the tree. Errors of a learning cycle have a `backup_path`."""

    exit_code: ClassVar[ExitCode] = ExitCode.ERROR
    http_status: ClassVar[int] = 500
    backup_path: Path | None = None


class InvalidInput(KarenLearnerError, ValueError):
    """An argument or file is unusable; nothing was stored."""

    http_status = 400


class SettingsError(InvalidInput):
    """A setting is unknown or its value is not allowed."""

    exit_code = ExitCode.USAGE


class LabelCollision(InvalidInput):
    """Two tasks use the same label; both write `doc.cats`, so one overwrites the other."""

    http_status = 409

    @classmethod
    def between(cls, labels: Iterable[str]) -> LabelCollision:
        """The error for labels that are both intents and sentiments."""
        names = ", ".join(map(repr, sorted(labels)[:5]))
        return cls(
            f"{names}: used for intents and for sentiments, which share `doc.cats`; rename one of the two"
        )


class ImportFormatError(InvalidInput):
    """No importer reads the format of the file."""


class UnknownTenant(KarenLearnerError, LookupError):
    """The tenant has no data in this store."""

    http_status = 404


class UnknownTurn(KarenLearnerError, LookupError):
    """The tenant has no turn with this id."""

    http_status = 404


class UnknownVersion(KarenLearnerError, LookupError):
    """The version or backup does not exist."""

    http_status = 404


class UnknownCycle(KarenLearnerError, LookupError):
    """The tenant has no cycle with this id."""

    http_status = 404


class UnknownEntry(KarenLearnerError, LookupError):
    """The production log of the tenant has no entry with this key."""

    http_status = 404


class UnknownRecommendation(KarenLearnerError, LookupError):
    """The tenant has no recommendation with this id."""

    http_status = 404


class UnknownTicket(KarenLearnerError, LookupError):
    """The tenant has no ticket with this id."""

    http_status = 404


class UnknownJob(KarenLearnerError, LookupError):
    """The service has no job with this id for the tenant."""

    http_status = 404


class AccessError(KarenLearnerError):
    """The service refuses a request because of its caller."""

    http_status = 403


class Unauthenticated(AccessError):
    """The request has no valid API key."""

    http_status = 401


class Forbidden(AccessError):
    """The API key does not allow the action."""


class TooManyRequests(AccessError):
    """The caller sends more requests than the limit allows. `retry_after_s`: the time until the next one."""

    http_status = 429
    retry_after_s: float = 1.0


class UnknownIncident(KarenLearnerError, LookupError):
    """There is no incident with this id."""

    http_status = 404


class UnknownReport(KarenLearnerError, LookupError):
    """The tenant has no readable report with this id."""

    http_status = 404


class LearnerClosed(KarenLearnerError, RuntimeError):
    """An object was used after its `close()`."""

    http_status = 503


class WrongEventLoop(KarenLearnerError, RuntimeError):
    """An object was used in another event loop than its own, or in a forked process."""


class StoreError(KarenLearnerError):
    """The memory store fails."""

    http_status = 503


class StoreReadOnly(StoreError):
    """The database or its folder is not writable."""


class StoreFull(StoreError):
    """The disk of the database is full."""

    http_status = 507


class SpoolFull(StoreError):
    """Turns are not spooled, because too many wait. `retry_after_s`: the time until the next attempt."""

    retry_after_s: float = 5.0


class StoreLocked(StoreError):
    """Another process holds the database longer than the timeout."""


class StoreNotOurs(StoreError):
    """The file is a database of another program, or no database."""


class SchemaTooNew(StoreError):
    """A newer release of karen_learner wrote the database."""


class FencedOut(StoreError):
    """Another process holds the lease of this write."""


class ModelError(KarenLearnerError):
    """A model cannot be saved, loaded or used."""


class DigestMismatch(ModelError):
    """The files of a version differ from those of its manifest."""


class PipelineUnsuitable(ModelError):
    """A spaCy pipeline has no pipe for a task."""


class EncoderError(ModelError):
    """An encoder cannot be opened or used."""


class EncoderNotInstalled(EncoderError):
    """The extra `encoder` is not installed."""


class EncoderMismatch(EncoderError):
    """A model is loaded with other vectors than those of its training."""


class TrainingError(KarenLearnerError):
    """Training produces no candidate."""


class TrainingDiverged(TrainingError):
    """The loss is NaN, infinite or exploding."""


class WorkerCrashed(TrainingError):
    """The worker process died during a job."""


class WorkerTimedOut(TrainingError):
    """A job exceeded its time limit, and its worker process was killed."""


class DeploymentError(KarenLearnerError):
    """A promotion or a rollback failed; the champion is unchanged."""

    http_status = 409


class DeliveryFailed(KarenLearnerError):
    """A target has not accepted a notification; it may want the next attempt after `retry_after_s`."""

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


def without_message(error: Exception) -> str:
    """The type of an error, with the message if it is from the operating system. Others may quote texts."""
    return f"{type(error).__name__}: {error if isinstance(error, OSError) else 'see the log'}"


def trace_of(error: BaseException) -> str:
    """The type of an error and its traceback, for a log. Messages and causes may quote texts."""
    return "".join([f"{type(error).__name__}\n", *traceback.format_tb(error.__traceback__)]).rstrip()
