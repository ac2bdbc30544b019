"""Mode and start conditions of a cycle: pure functions, and the planner that reads the store for them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, get_args

from asyncio_extras import call_in_executor

from karen_learner.contracts import MemoryStore
from karen_learner.curation import Curator
from karen_learner.curation.selection import REPLAY_POOL
from karen_learner.errors import InvalidInput
from karen_learner.models.backups import check_version
from karen_learner.models.versions import ModelRegistry, saved_labels
from karen_learner.records import (
    TASKS,
    CycleMode,
    CycleRow,
    Example,
    LearningCycleResult,
    LearningPlan,
    ModelVersion,
    Task,
    TenantCounts,
)
from karen_learner.settings import Settings

RequestedMode = Literal["auto", "incremental", "full", "micro"]

LOST = "the files and the backup of the live model are lost: a full training replaces it"
REPEATED_HARM = 2
"""Harmful decisions in a row after which the same examples are not tried again."""
RECENT_CYCLES = 20
SEARCHED_CYCLES = 200
"""Newest cycles that are searched for the last full training."""


def check_mode(mode: str) -> None:
    """Raise InvalidInput for an unknown mode."""
    if mode not in get_args(RequestedMode):
        raise InvalidInput(f"unknown learning mode {mode!r}: use one of {', '.join(get_args(RequestedMode))}")


def resolve_mode(
    mode: RequestedMode,
    champion: ModelVersion | None,
    *,
    examples: int,
    last_full: int | None,
    growth: float,
    most: int,
    refit_below: int,
) -> CycleMode:
    """The mode of a cycle for a requested mode. Without a champion: full.

    `auto` is full below `refit_below` examples, which takes seconds. Then it is incremental until the
    curated `examples` are `growth` times those of the last full training. Full training then recovers the
    loss of incremental training. The sizes form a geometric series, so the total cost is a few times that of
    the last one. Above `most` examples, `auto` stays incremental, because full training would leave examples
    out.
    """
    if champion is None or mode == "full":
        return "full"
    if mode == "auto" and examples < refit_below:
        return "full"
    grown = growth > 0 and last_full is not None and growth * last_full <= examples <= most
    return "full" if mode == "auto" and grown else "incremental"


def last_full_training(rows: Sequence[CycleRow]) -> int | None:
    """Number of examples in the newest full training among `rows` (newest first); None without one.

    Rejected candidates count. Without a result, the training is long ago and `auto` stays incremental.
    """
    for row in rows:
        result = row.result
        if row.mode == "full" and result is not None and result.validation is not None:
            return result.training_examples + result.replay_examples
    return None


def skip_reason(
    new: int, learned: int, mode: CycleMode, minimum: int, force: bool, *, undecided: int = 0
) -> str | None:
    """The reason to skip a cycle with these numbers of examples; None if it trains.

    The last decision was on `undecided` of the new examples. Alone they would be judged alike.
    """
    if new + learned == 0:
        return "nothing has been curated yet: bootstrap the tenant with labelled texts, or collect feedback"
    if mode == "full" and force:
        return None
    if new == 0:
        return "there is nothing new to learn"
    since = max(0, new - undecided)
    if since < minimum and not force:
        what = f"{since} new examples since the last decision" if undecided else f"{new} new examples"
        return f"{what}, and learning.min_data_threshold is {minimum}: collect more, or force the cycle"
    return None


def trainable_tasks(labels: Mapping[Task, Collection[str]]) -> frozenset[Task]:
    """The tasks with enough labels for a pipe: two intents, two sentiments, or one entity label."""
    return frozenset(task for task in TASKS if len(labels.get(task, ())) >= (1 if task == "entities" else 2))


def harmful_decisions(recent: Sequence[LearningCycleResult]) -> int:
    """The number of newest decisions in a row that showed harm. `recent`: newest first."""
    decided = [one.verdict for one in recent if one.verdict is not None]
    return next((at for at, verdict in enumerate(decided) if not verdict.harmful), len(decided))


FEWEST_APART = 2
"""Examples that a forced cycle after one on new labels needs: one person alone shows no gain."""


def examples_apart(result: LearningCycleResult) -> int:
    """The number of pending examples that waited for a decision about new labels; 0 without one."""
    decided = result.new_labels and result.status in ("deployed", "rejected")
    return result.pending_examples - result.training_examples if decided else 0


def undecided_examples(
    last: LearningCycleResult | None, new: Sequence[Example] | None = None, *, harmful: int = 0
) -> int:
    """The number of pending examples that the last decision left pending, and would be judged alike.

    After a first harmful decision they are tried again. `harmful` decisions in a row leave only gold
    pending, unless the last one has quarantined other examples.

    With the present examples `new`, at most the number of those that are older than the decision: pending
    examples may have left since, and a selection may be full. Examples that waited for a decision about new
    labels were not judged.
    """
    if last is None or last.verdict is None or last.verdict.accepted:
        return 0
    if last.verdict.harmful and (harmful < REPEATED_HARM or last.quarantined_examples):
        return 0
    undecided = last.pending_examples - examples_apart(last)
    return undecided if new is None else min(undecided, len(new) - len(newer_examples(last, new)))


def newer_examples(last: LearningCycleResult | None, new: Sequence[Example]) -> tuple[Example, ...]:
    """The examples that are newer than the last decision; all of them if it accepted."""
    if last is None or last.verdict is None or last.verdict.accepted:
        return tuple(new)
    ended = last.started_at + timedelta(seconds=last.duration_s)
    return tuple(example for example in new if example.created_at > ended)


@dataclass(eq=False, repr=False)
class CyclePlanner:
    """Reads the counters of the store and applies the policy of this module."""

    store: MemoryStore
    registry: ModelRegistry
    curator: Curator
    settings: Settings

    async def mode(
        self,
        tenant_id: str,
        requested: RequestedMode,
        champion: ModelVersion | None,
        provisional: ModelVersion | None,
        *,
        forgets: bool = False,
    ) -> CycleMode:
        """The mode of the tenant's next cycle. After a micro-update, the gates decide before the next one.

        A model that knows renamed or retired labels cannot forget them: it is trained in full. So is one that
        `forgets` former meanings of labels.
        """
        if forgets or await knows_former_labels(self.store, champion):
            return "full"
        if requested == "micro" and champion is not None:
            if not await self.is_of_micro_update(provisional):
                return "micro"
            requested = "auto"
        learning = self.settings.of(tenant_id).learning
        counts = await self.store.counts(tenant_id)
        return resolve_mode(
            requested,
            champion,
            examples=_usable(counts) + counts.awaiting_curation,
            last_full=last_full_training(await self.store.cycles(tenant_id, limit=SEARCHED_CYCLES)),
            growth=learning.full_growth,
            most=learning.max_full_examples,
            refit_below=learning.refit_below,
        )

    async def is_of_micro_update(self, provisional: ModelVersion | None) -> bool:
        """Whether no gate has decided about a provisional version."""
        if provisional is None or provisional.cycle_id is None:
            return False
        row = await self.store.cycle(provisional.tenant_id, provisional.cycle_id)
        return row is not None and row.mode == "micro"

    async def last_decision(self, tenant_id: str) -> LearningCycleResult | None:
        """The result of the newest cycle that the gates decided."""
        row = await self.store.last_decision(tenant_id)
        return row.result if row is not None else None

    async def changed_meanings(self, tenant_id: str) -> tuple[str, ...]:
        """The changes of meanings that the champion has not learned: new ones, and those of a last decision
        that did not accept."""
        last = await self.last_decision(tenant_id)
        waiting = last is not None and last.verdict is not None and not last.verdict.accepted
        former = last.changed_meanings if last is not None and waiting else ()
        return tuple(dict.fromkeys((*former, *await self.curator.outdated(tenant_id))))

    async def harmful_decisions(self, tenant_id: str) -> int:
        """The number of newest decisions in a row that showed harm."""
        rows = await self.store.cycles(tenant_id, limit=RECENT_CYCLES)
        return harmful_decisions([row.result for row in rows if row.result is not None])

    async def rejections(self, tenant_id: str) -> int:
        """The number of rejections without harm since the last deployment. Their examples are pending."""
        count = 0
        for row in await self.store.cycles(tenant_id, limit=SEARCHED_CYCLES):
            verdict = row.result.verdict if row.result is not None and row.mode != "micro" else None
            if verdict is not None and verdict.accepted:
                break
            count += verdict is not None and not verdict.harmful
        return count

    async def plan(self, tenant_id: str, *, requested: RequestedMode, force: bool) -> LearningPlan:
        """Preview of a cycle. Changes nothing. Raises InvalidInput for an unknown mode.

        `training_examples` is an upper bound: the preview does not balance or split examples.
        """
        check_mode(requested)
        limits = self.settings.of(tenant_id).learning
        champion = await self.registry.champion(tenant_id)
        provisional = await self.registry.provisional(tenant_id)
        lost = champion is not None and await call_in_executor(would_be_lost, champion)
        forgets = requested != "micro" and bool(await self.changed_meanings(tenant_id))
        mode = await self.mode(tenant_id, requested, None if lost else champion, provisional, forgets=forgets)
        preview = await self.curator.preview(tenant_id)
        counts = await self.store.counts(tenant_id)
        available, learned = (
            counts.examples.get("pending", 0) + preview.accepted,
            counts.examples.get("learned", 0),
        )
        last, harmful = await self.last_decision(tenant_id), await self.harmful_decisions(tenant_id)
        undecided = undecided_examples(last, harmful=harmful)
        minimum = 1 if await self.is_of_micro_update(provisional) else limits.min_data_threshold
        why = skip_reason(available, learned, mode, minimum, force, undecided=undecided)
        if lost and available + learned:
            why = None
        full = mode == "full"
        most_new = limits.max_full_examples if full else limits.max_training_examples
        most_replayed = limits.max_full_examples if full else REPLAY_POOL * limits.replay_examples
        return LearningPlan(
            tenant_id=tenant_id,
            mode=mode,
            would_run=why is None,
            why=why or (LOST if lost else f"{available} new examples are ready"),
            curation=preview,
            training_examples=min(available, most_new),
            replay_examples=min(learned, most_replayed),
            judged_texts=min(counts.gold, self.settings.gate.judged_texts),
        )


async def knows_former_labels(store: MemoryStore, champion: ModelVersion | None) -> bool:
    """Whether a model knows labels that were renamed or retired since its training."""
    if champion is None or not (successors := await store.label_successors(champion.tenant_id)):
        return False
    former = {(task, label) for task, labels in successors.items() for label in labels}
    known: frozenset[tuple[Task, str]] = await call_in_executor(saved_labels, champion)
    return bool(former & known)


def would_be_lost(champion: ModelVersion) -> bool:
    """Whether a cycle would find the champion lost. Blocking; changes nothing."""
    check = check_version(champion)
    return check.files in ("damaged", "missing") and check.backup != "present"


def _usable(counts: TenantCounts) -> int:
    return counts.examples.get("pending", 0) + counts.examples.get("learned", 0)
