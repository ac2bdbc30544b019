"""`AutomatedRetrainer`: retrains a tenant after 30 days or 50 new samples, and writes a history."""

from __future__ import annotations

import json
import logging
from datetime import datetime, timedelta
from typing import Literal, Protocol

from asyncio_extras import call_in_executor

from karen_learner.autonomy.log_files import (
    CRON_LOG,
    HISTORY,
    RETRAIN_LOG,
    append_line,
    log_folder,
    rotate,
    write_status,
)
from karen_learner.autonomy.parts import ServedLearner
from karen_learner.autonomy.triggers.part import new_samples
from karen_learner.contracts import Clock
from karen_learner.cycle.policy import undecided_examples
from karen_learner.errors import InvalidInput, KarenLearnerError, without_message
from karen_learner.records import (
    LearningCycleResult,
    Record,
    TenantCounts,
    check_id,
    check_limit,
    new_id,
    utc_now,
)

logger = logging.getLogger(__name__)

RetrainMode = Literal["auto", "incremental", "full"]
RetrainStatus = Literal["deployed", "rejected", "skipped", "failed"]


class DatasetQuality(Record):
    """Numbers of examples, and the change of the accuracy on judged texts; None without two scores."""

    total_entries: int
    new_samples: int
    accuracy_improvement: float | None


class RetrainRecord(Record):
    """One entry of `retrain_history.jsonl`. `status` is that of the cycle."""

    retrain_id: str
    tenant_id: str
    timestamp: datetime
    status: RetrainStatus
    reason: str
    cycle_id: str | None = None
    dataset_quality: DatasetQuality
    training_duration_s: float
    message: str | None = None


class RetrainDecision(Record):
    """Whether a retraining is due, with the reason. True or false as a condition."""

    due: bool
    reason: str
    days_since_training: float | None
    new_samples: int

    def __bool__(self) -> bool:
        return self.due


class RetrainerStatus(Record):
    """The decision now, the last entry of this retrainer, and its limits."""

    tenant_id: str
    should_retrain: RetrainDecision
    last_retrain: RetrainRecord | None
    min_days: float
    min_new_samples: int


class RetrainedLearner(ServedLearner, Protocol):
    """The part of a learner that a retrainer uses."""


class AutomatedRetrainer:
    """Retrains one tenant by learning cycles: the gates decide about each candidate.

    A retraining is due with `min_new_samples` new samples, or `min_days` after the last training if there is
    a new sample. Raises InvalidInput.
    """

    def __init__(
        self,
        learner: RetrainedLearner,
        *,
        tenant_id: str = "default",
        min_days: float = 30.0,
        min_new_samples: int = 50,
        mode: RetrainMode = "auto",
        clock: Clock = utc_now,
    ) -> None:
        if not 0.0 < min_days <= 36_500.0:
            raise InvalidInput(f"min_days must be above 0 and at most 36,500, not {min_days!r:.40}")
        self.tenant_id = check_id(tenant_id, "tenant_id")
        self.min_days = float(min_days)
        self.min_new_samples = max(1, check_limit(min_new_samples, "min_new_samples"))
        self._learner = learner
        self._mode: RetrainMode = mode
        self._clock = clock
        self._last: RetrainRecord | None = None

    async def should_retrain(self) -> RetrainDecision:
        """Whether a retraining is due. Raises StoreError."""
        await self._learner.start()
        store = self._learner.store
        row = await store.last_decision(self.tenant_id)
        result = row.result if row is not None else None
        champion = await store.champion(self.tenant_id)
        counts = await store.counts(self.tenant_id)
        found = new_samples(counts, undecided_examples(result))
        trained_at = result.started_at if result is not None else champion.created_at if champion else None
        days = None if trained_at is None else max(0.0, (self._clock() - trained_at) / timedelta(days=1))
        return self._decide(found, days)

    def _decide(self, found: int, days: float | None) -> RetrainDecision:
        if found >= self.min_new_samples:
            due, reason = True, f"{found} new samples, at least {self.min_new_samples}"
        elif days is not None and days >= self.min_days and found:
            due, reason = True, f"{days:.0f} days since the last training, at least {self.min_days:g}"
        else:
            age = "no training yet" if days is None else f"{days:.1f} days since the last training"
            due, reason = False, f"{found} new samples of {self.min_new_samples}; {age}"
        return RetrainDecision(due=due, reason=reason, days_since_training=days, new_samples=found)

    async def retrain(self, force: bool = False) -> RetrainRecord:
        """Run a learning cycle if one is due, or in any case with `force`, and write the history.

        A bad cycle is a record, not an exception. Raises StoreError and OSError.
        """
        decision = await self.should_retrain()
        counts = await self._learner.store.counts(self.tenant_id)
        if not decision and not force:
            return await self._write(self._record("skipped", decision, counts, message=decision.reason))
        try:
            result = await self._learner.trigger_learning_cycle(
                self.tenant_id, force_training=True, mode=self._mode,
                reason=f"retrain: {'forced; ' if force else ''}{decision.reason}",
            )  # fmt: skip
        except KarenLearnerError as error:
            record = self._record("failed", decision, counts, message=without_message(error))
            await self._write(record)
            raise
        status: RetrainStatus = result.status if result.status != "rolled_back" else "failed"
        return await self._write(self._record(status, decision, counts, result=result))

    async def status(self) -> RetrainerStatus:
        """The decision now, and the last entry."""
        return RetrainerStatus(
            tenant_id=self.tenant_id,
            should_retrain=await self.should_retrain(),
            last_retrain=self._last,
            min_days=self.min_days,
            min_new_samples=self.min_new_samples,
        )

    def _record(
        self,
        status: RetrainStatus,
        decision: RetrainDecision,
        counts: TenantCounts,
        *,
        result: LearningCycleResult | None = None,
        message: str | None = None,
    ) -> RetrainRecord:
        entries = sum(counts.examples.values()) + counts.awaiting_curation
        return RetrainRecord(
            retrain_id=new_id(),
            tenant_id=self.tenant_id,
            timestamp=self._clock(),
            status=status,
            reason=decision.reason,
            cycle_id=result.cycle_id if result is not None else None,
            dataset_quality=DatasetQuality(
                total_entries=entries,
                new_samples=decision.new_samples,
                accuracy_improvement=_improvement(result),
            ),
            training_duration_s=result.duration_s if result is not None else 0.0,
            message=result.error_message if result is not None else message,
        )

    async def _write(self, record: RetrainRecord) -> RetrainRecord:
        self._last = record
        await call_in_executor(self._write_files, record)
        return record

    def _write_files(self, record: RetrainRecord) -> None:
        home, now = self._learner.layout.home, record.timestamp
        folder = log_folder(home)
        if folder.is_dir():
            rotate(folder / CRON_LOG, now)
        append_line(folder / HISTORY, json.dumps(record.to_dict()), now)
        line = (
            f"{now:%Y-%m-%dT%H:%M:%SZ} {record.status} tenant={json.dumps(record.tenant_id)} {record.reason}"
        )
        append_line(folder / RETRAIN_LOG, line, now)
        write_status(home, {"last_run": now.isoformat(), "last_status": record.status})


def _improvement(result: LearningCycleResult | None) -> float | None:
    """Accuracy of the candidate minus that of the champion, on judged texts."""
    if result is None or result.validation is None or result.baseline is None:
        return None
    new, old = result.validation.accuracy, result.baseline.accuracy
    return None if new is None or old is None else new - old
