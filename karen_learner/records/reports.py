"""Reports: imports, counters, status and metrics."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import Field

from karen_learner.records.base import ExampleState, Record, Task
from karen_learner.records.cycles import CycleRow, LearningCycleResult, ModelVersion
from karen_learner.records.health import TenantHealth, VersionCheck
from karen_learner.records.holdbacks import Holdback
from karen_learner.records.texts import LabelledText

RepairAction = Literal["nothing", "back_up", "restore", "retrain"]


class SkippedLine(Record):
    """An unusable line of an imported file, and the reason. Lines count from 1."""

    line: int
    reason: str


class IngestReport(Record):
    """Turns and examples of an import. `skipped` lists the first 1,000 skipped lines.

    `turns` counts those that were stored before, too.

    `contradictions` of the skipped lines give a text another label than an earlier line or stored gold.
    `notes` tell the parts of the file that were left out on purpose, such as unknown columns.
    """

    path: Path
    turns: int = 0
    examples: int = 0
    duplicates: int = 0
    skipped_count: int = 0
    skipped: tuple[SkippedLine, ...] = ()
    contradictions: int = 0
    notes: tuple[str, ...] = ()


class GoldReport(Record):
    """Results of adding labelled texts. Positions count from 1; each list holds the first 1,000.

    `added` are new texts and texts with changed labels, `merged` known ones. `entities_dropped` were added
    without the entities that do not begin and end with a token: these are unannotated. `contradictions` of
    the skipped ones give a text another label than an earlier line or stored gold. `notes` tell labels that
    resemble each other.
    """

    added: int = 0
    merged: int = 0
    skipped_count: int = 0
    skipped: tuple[SkippedLine, ...] = ()
    contradictions: int = 0
    entities_dropped_count: int = 0
    entities_dropped: tuple[SkippedLine, ...] = ()
    notes: tuple[str, ...] = ()


class TenantCounts(Record):
    """Counters of the store.

    `gold` is the number of pending and learned gold examples, `waiting` that of examples that wait because of
    a rollback.
    """

    turns: int = 0
    with_feedback: int = 0
    corrections: int = 0
    awaiting_curation: int = 0
    examples: Mapping[ExampleState, int] = Field(default_factory=dict)
    gold: int = 0
    waiting: int = 0
    cycles: int = 0
    degraded: int = 0


class VersionCounts(Record):
    """Counts of the turns that one version analysed."""

    turns: int = 0
    with_feedback: int = 0
    corrections: int = 0
    degraded: int = 0


class TenantStatus(Record):
    """Champion, counts, labels, cycles, advice and health for one tenant.

    A `provisional` version serves instead of the champion until the next decision. A `holdback` runs.
    """

    tenant_id: str
    champion: ModelVersion | None
    provisional: ModelVersion | None = None
    holdback: Holdback | None = None
    counts: TenantCounts
    labels: Mapping[Task, Mapping[str, int]]
    running_cycle: CycleRow | None
    last_cycle: LearningCycleResult | None
    ready_to_learn: bool
    advice: str
    health: TenantHealth

    @property
    def serving(self) -> ModelVersion | None:
        """The version that serves: a provisional one, else the champion."""
        return self.provisional or self.champion


class QuarantinedExample(LabelledText):
    """An example that is not learned until a person decides.

    `reason` is one word, `detail` describes a conflict or an unusable label. `remedy` is None if it can be
    released.
    """

    example_id: str
    reason: str
    detail: str | None = None
    remedy: str | None = None
    is_gold: bool
    learned_in: str | None = None
    created_at: datetime


class Quarantine(Record):
    """The examples of a tenant that are not learned until a person decides, and their number by reason."""

    tenant_id: str
    counts: Mapping[str, int]
    examples: tuple[QuarantinedExample, ...] = ()


class RepairReport(Record):
    """The state of a tenant's champion and its parent, and the repair.

    `action`: the necessary one with a dry run, else the last one. `cycle` is the result of a training.
    `problem`: why a champion that is not lost cannot be loaded; a training would not mend it.
    """

    tenant_id: str
    checks: tuple[VersionCheck, ...] = ()
    action: RepairAction = "nothing"
    done: bool = False
    problem: str | None = None
    cycle: LearningCycleResult | None = None


class LearningMetrics(Record):
    """Counts over the cycles of one tenant; of all tenants without content."""

    tenant_id: str | None
    total_cycles: int
    successful_cycles: int
    failed_cycles: int
    rejected_cycles: int
    skipped_cycles: int
    model_improvements: int
    average_training_time: float
    last_cycle: LearningCycleResult | None
    recent_cycles: tuple[LearningCycleResult, ...]
    turns: int = 0
    tenants: int = 1
